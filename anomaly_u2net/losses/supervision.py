"""The loss of a network: a pixel loss on every side output and on their fusion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from anomaly_u2net.errors import InputError
from anomaly_u2net.losses.pixelwise import bce
from anomaly_u2net.losses.reduction import PixelLoss
from anomaly_u2net.types import SideLogits

SideTarget: TypeAlias = Literal["resized", "native"]


def deep_supervision(
    logits: SideLogits,
    target: Tensor,
    *,
    pixel_loss: PixelLoss = bce,
    weight: Tensor | None = None,
    side_weights: Sequence[float] | None = None,
    fused_weight: float = 1.0,
    side_target: SideTarget = "resized",
) -> tuple[Tensor, list[Tensor]]:
    """L = Σ side_weights[m]·ℓ(side_m) + fused_weight·ℓ(fused) (U²-Net, eq. 1; all weights 1).

    ``target`` and ``weight``: float32 (B, 1, h, w), at the size of the logits. ``side_target``
    "resized" compares the sides resized to (h, w), as the paper does; "native" compares them at
    their own size with the mask as `at_size` has it there. The fusion is always at (h, w).

    Returns the sum and the unweighted terms, sides first, fused last. Raises `InputError` when
    shapes or the number of weights do not fit, when native logits are asked for and missing, or
    when all weights are 0.

    >>> one = torch.ones(1, 1, 4, 4)
    >>> total, terms = deep_supervision(SideLogits(0 * one, (0 * one, 0 * one)), one)
    >>> round(total.item(), 4), len(terms)  # 3 ln 2
    (2.0794, 3)
    """
    if target.shape != logits.fused.shape:
        raise InputError(
            f"expected a target of shape {tuple(logits.fused.shape)}, got {tuple(target.shape)}"
        )
    if side_weights is None:
        side_weights = [1.0] * len(logits.sides)
    if len(side_weights) != len(logits.sides):
        raise InputError(f"expected {len(logits.sides)} side weights, got {len(side_weights)}")
    factors = [*side_weights, fused_weight]
    if not any(factors):
        raise InputError("the loss weights are all 0: nothing would be learnt")
    if weight is None:
        weight = torch.ones_like(target)
    sides = logits.sides
    if side_target == "native":
        if len(logits.native) != len(sides):
            raise InputError(
                f"expected {len(sides)} side logits at their native size, got "
                f'{len(logits.native)}: use side_target "resized"'
            )
        sides = logits.native
    terms = [
        pixel_loss(side, *at_size(target, weight, size=(side.shape[2], side.shape[3])))
        for side in (*sides, logits.fused)
    ]
    total = torch.stack([f * t for f, t in zip(factors, terms, strict=True) if f != 0]).sum()
    return total, terms


def at_size(target: Tensor, weight: Tensor, *, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """``target`` and ``weight``, (B, 1, h, w), as a side output of ``size`` (height, width) sees them.

    Both are the highest value in a cell's window (adaptive max pooling: the windows cover every
    pixel, for odd sizes too), the target over the pixels that count. So a defect of one pixel is a
    defect cell at every size, with that pixel's weight; a cell counts as soon as one of its pixels
    does, and a cell of padding alone is ignored.

    >>> mask = torch.zeros(1, 1, 65, 65)
    >>> mask[..., 40, 7] = 1
    >>> at_size(mask, torch.ones_like(mask), size=(3, 3))[0][0, 0]
    tensor([[0., 0., 0.],
            [1., 0., 0.],
            [0., 0., 0.]])
    """
    if target.shape[2:] == size:
        return target, weight
    pooled = torch.cat([target * (weight > 0), weight], dim=1)
    target, weight = F.adaptive_max_pool2d(pooled, size).split(1, dim=1)
    return target, weight
