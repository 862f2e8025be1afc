"""From a recipe's ``model`` part to the network."""

from __future__ import annotations

from typing import Any

from anomaly_u2net.models.blocks import BLOCKS, StageSpec, separable
from anomaly_u2net.models.peers import PREFIX, Peer
from anomaly_u2net.models.rivals import HED, Bidirectional, Cascaded, Dilated, unet
from anomaly_u2net.models.sides import SideNet
from anomaly_u2net.models.u2net import PAPER, U2Net, small_stages, u2net_fast
from anomaly_u2net.recipe import RIVAL_DEPTH, RIVAL_WIDTH, SMALL_DEPTH, SMALL_WIDTH, ModelRecipe


def build_model(recipe: ModelRecipe, *, in_channels: int = 3) -> SideNet:
    """The network that ``recipe`` names, with random weights; ``recipe.init`` is not looked at.

    Raises `InputError` for an unknown network of segmentation_models.pytorch, `MissingExtra` when
    that is not installed.

    >>> model = build_model(ModelRecipe(arch="small", block="dense", stem="unshuffle2"))
    >>> len(model.sides)
    4
    """
    model = _network(recipe, in_channels)
    if recipe.conv == "separable":
        separable(model)
    return model


def _network(recipe: ModelRecipe, in_channels: int) -> SideNet:
    arch = recipe.arch
    if arch.startswith(PREFIX):
        return Peer(arch, in_channels=in_channels)
    shared: dict[str, Any] = {"fuse": recipe.fuse, "in_channels": in_channels}
    deep = recipe.supervision != "none"
    if recipe.nested:
        return U2Net(
            *_stages(recipe),
            block=BLOCKS[recipe.block],
            repeats=recipe.repeats or 1,
            stem=recipe.stem,
            upsample=recipe.upsample,
            deep=deep,
            **shared,
        )
    if arch == "u2net_fast":
        return u2net_fast(deep=deep, **shared)
    width, depth = recipe.width or RIVAL_WIDTH, recipe.depth or RIVAL_DEPTH
    if arch == "dilated":
        return Dilated(width=width, in_channels=in_channels)
    shared |= {"width": width, "depth": depth}
    if arch == "unet":
        return unet(deep=deep, **shared)
    if arch == "cascaded":
        return Cascaded(count=recipe.repeats or 2, deep=deep, **shared)
    return HED(**shared) if arch == "hed" else Bidirectional(**shared)


def _stages(recipe: ModelRecipe) -> tuple[list[StageSpec], list[StageSpec]]:
    if recipe.arch == "u2net":
        return PAPER
    if recipe.arch == "u2netp":
        return small_stages(width=64, depth=6, mid=16)
    return small_stages(
        width=recipe.width or SMALL_WIDTH, depth=recipe.depth or SMALL_DEPTH, mid=recipe.mid
    )
