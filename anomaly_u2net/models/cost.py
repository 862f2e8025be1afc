"""What a network costs, measured on the network itself: parameters, work, memory and reach.

Parameters, multiply-accumulates and activation memory are counted on the ``meta`` device, where a
network runs without computing anything, so the full U²-Net at any size takes a second.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from anomaly_u2net.errors import InputError
from anomaly_u2net.models.blocks import RSU, ConvBNReLU, upsample_to
from anomaly_u2net.models.u2net import U2Net

Maps = Callable[[Tensor], Sequence[Tensor]]

#: Pixels of the strip on which the stages' receptive fields are measured; U²-Net's is 6 624.
STRIP = 8192


@dataclass(frozen=True)
class Cost:
    """What a network, or a part of it, costs.

    parameters: numbers that are trained.
    gmac: 10⁹ multiply-accumulates of convolutions and matrix products for one image.
    activation_bytes: kept between the forward and the backward pass of a training step in float32,
    for each image of the batch; without the weights, the loss and the optimiser.
    """

    parameters: int
    gmac: float
    activation_bytes: int


@dataclass(frozen=True)
class StageCost(Cost):
    """The cost of one stage of a nested U, and the map (channels_out, height, width) it makes.

    block: as the paper calls it, RSU-7 or RSU-4F; its class's name for the rivals.
    channels_mid: inside an RSU; None for others.
    receptive_field: side of the square of input pixels that a value of the map can depend on.
    """

    name: str
    block: str
    channels_in: int
    channels_mid: int | None
    channels_out: int
    height: int
    width: int
    receptive_field: int


def measure_cost(
    model: nn.Module, *, in_channels: int = 3, size: tuple[int, int] = (320, 320)
) -> Cost:
    """The cost of ``model`` on images (in_channels, height, width).

    Work is half of what ``torch.utils.flop_counter`` counts in a forward pass. Memory is what
    autograd saves in training mode, each storage once: what one more image in the batch adds.
    The model is not changed.

    >>> cost = measure_cost(nn.Conv2d(3, 8, 3, padding=1), size=(10, 20))
    >>> cost.parameters, round(cost.gmac * 1e9), cost.activation_bytes
    (224, 43200, 2400)
    """
    return _costs(model, [], in_channels=in_channels, size=size)[""]


def stage_costs(model: U2Net, *, size: tuple[int, int] = (320, 320)) -> list[StageCost]:
    """The stages of a nested U in the order they run, and last its ``outputs``.

    Named as in the paper's Fig. 5: En_1 … En_n, De_n-1 … De_1; ``outputs``: the side convolutions,
    their resizing and fusion, and the halvings and resizings between the stages. The parts add up
    to `measure_cost` of the whole. What several parts keep counts where it is kept first: a stage's
    own output, for instance, with ``outputs``, whose halving keeps it.
    Raises `InputError` for a network with another stem than "full".

    >>> from anomaly_u2net.models import u2net_small
    >>> [(s.name, s.height, s.receptive_field) for s in stage_costs(u2net_small(depth=2))]
    [('En_1', 320, 56), ('En_2', 160, 168), ('De_1', 320, 232), ('outputs', 320, 232)]
    """
    if model.stem != "full":
        raise InputError(f"expected a network with the stem full, got {model.stem}")
    depth = len(model.encoder)
    modules = {f"encoder.{i}": f"En_{i + 1}" for i in range(depth)}
    modules |= {f"decoder.{i}": f"De_{depth - 1 - i}" for i in range(depth - 1)}
    costs = _costs(model, list(modules), in_channels=model.in_channels, size=size)
    skeleton = _skeleton(model)
    fields = receptive_fields(lambda x: _maps(skeleton, list(modules), x), width=STRIP)
    whole = costs.pop("")
    meta = copy.deepcopy(model).to("meta")
    shapes: dict[str, tuple[int, int, int, int]] = {}
    with _watched(meta, list(modules), lambda name, x, y: shapes.update({name: _shape(x, y)})):
        meta(torch.empty(2, model.in_channels, *size, device="meta"))
    stages = [
        StageCost(
            **vars(costs[key]),
            name=name,
            **_block(model.get_submodule(key)),
            channels_in=shapes[key][0],
            channels_out=shapes[key][1],
            height=shapes[key][2],
            width=shapes[key][3],
            receptive_field=field,
        )
        for (key, name), field in zip(modules.items(), fields[:-1], strict=True)
    ]
    outputs = StageCost(
        parameters=whole.parameters - sum(s.parameters for s in stages),
        gmac=whole.gmac - sum(s.gmac for s in stages),
        activation_bytes=whole.activation_bytes - sum(s.activation_bytes for s in stages),
        name="outputs",
        block="3 × 3, 1 × 1",
        channels_mid=None,
        channels_in=sum(head.in_channels for head in model.heads()),
        channels_out=model.heads()[0].out_channels,
        height=size[0],
        width=size[1],
        receptive_field=fields[-1],
    )
    return [*stages, outputs]


def receptive_fields(
    maps: Maps, *, in_channels: int = 3, width: int = 1024, period: int = 32
) -> list[int]:
    """The receptive field of each map that ``maps`` makes of strips (B, in_channels, 1, width).

    In input pixels: the widest extent, over the places of a map, that a value there can depend on.
    One pixel of a strip is NaN, and convolution (0 × NaN is NaN), max-pooling, bilinear resizing,
    BatchNorm in evaluation mode, ReLU and sigmoid pass it on to all that they compute from it,
    whatever the weights: so this is the theoretical extent, not how much of it a trained network
    uses, which is less (Luo et al., arXiv 1701.04128). The NaN visits each of ``period`` places,
    and the extents are exact when the network does the same again ``period`` pixels further on, as
    with halvings whose total stride divides it. Resize by whole factors of two: a factor of 3 would
    pass a NaN on to where its weight is 0.

    Float64, where every backend convolves directly. Raises `InputError` when the extent does not
    fit into the strip, or when a map's stride does not divide ``period``.

    >>> conv = nn.Conv2d(3, 1, 3, padding=1).double()
    >>> halve = nn.MaxPool2d(2, ceil_mode=True)
    >>> receptive_fields(lambda x: [conv(x), halve(conv(x))])
    [3, 4]
    """
    middle = width // 2 // period * period
    strips = torch.zeros(period, in_channels, 1, width, dtype=torch.float64)
    places = torch.arange(period)
    strips[places, :, :, middle + places] = torch.nan
    with torch.no_grad():
        return [_field(m.isnan().flatten(1, 2).any(1), width, period) for m in maps(strips)]


def _field(reached: Tensor, width: int, period: int) -> int:
    """From which values (period, w) each place reaches to the widest extent that reaches one."""
    columns = reached.shape[1]
    stride = width // columns
    if width % columns or period % stride:
        raise InputError(
            f"expected maps whose stride divides {period}, got {columns} columns of {width} pixels"
        )
    first = reached.int().argmax(1)
    last = columns - 1 - reached.flip(1).int().argmax(1)
    if reached[:, 0].any() or reached[:, -1].any() or not reached.any(1).all():
        raise InputError(f"the receptive field does not fit into {width} pixels: give more width")
    step = period // stride  # columns until everything repeats
    column = torch.arange(step)[:, None]
    places = torch.arange(period)
    right = places + period * torch.div(column - first, step, rounding_mode="floor")
    left = places - period * torch.div(last - column, step, rounding_mode="floor")
    return int((right.amax(1) - left.amin(1) + 1).max())


class _Tap(nn.Module):
    """A convolution's taps on the sum of its channels: one channel in and out, the same extent."""

    def __init__(self, whole: nn.Conv2d) -> None:
        super().__init__()
        self.whole = whole

    def forward(self, x: Tensor) -> Tensor:
        like = self.whole
        return F.conv2d(
            x.sum(1, keepdim=True),
            x.new_ones(1, 1, *like.kernel_size),
            stride=like.stride,
            padding=like.padding,
            dilation=like.dilation,
        )


def _skeleton(model: U2Net) -> U2Net:
    """``model`` with one channel everywhere: the same receptive fields for little work."""
    skeleton = copy.deepcopy(model).eval()
    for parent in list(skeleton.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d):
                setattr(parent, name, _Tap(child))
            elif isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, nn.Identity())
    return skeleton


def _maps(model: U2Net, names: list[str], x: Tensor) -> list[Tensor]:
    """The map of each named stage, and the fused output, of a strip too low for `SideNet`."""
    found: dict[str, Tensor] = {}
    with _watched(model, names, lambda name, _, y: found.update({name: y})):
        features = model.features(x)
    heads = zip(model.sides, features, strict=False)
    sides = [upsample_to(head(feature), x) for head, feature in heads]
    return [*(found[name] for name in names), torch.cat(sides, dim=1).sum(1, keepdim=True)]


def _block(stage: nn.Module) -> dict[str, Any]:
    if not isinstance(stage, RSU):
        return {"block": type(stage).__name__, "channels_mid": None}
    first = stage.encoder[0]
    assert isinstance(first, ConvBNReLU)
    dilated = "F" if stage.dilated else ""
    return {"block": f"RSU-{stage.height}{dilated}", "channels_mid": first.bn.num_features}


def _shape(x: Tensor, y: Tensor) -> tuple[int, int, int, int]:
    return x.shape[1], y.shape[1], y.shape[2], y.shape[3]


def _costs(
    model: nn.Module, names: list[str], *, in_channels: int, size: tuple[int, int]
) -> dict[str, Cost]:
    """Of the parts with these names, and of the whole under ``""``."""
    meta = copy.deepcopy(model).to("meta").train()
    two, three = (torch.empty(batch, in_channels, *size, device="meta") for batch in (2, 3))
    small = _saved(meta, names, two)
    with FlopCounterMode(display=False) as counter:
        large = _saved(meta, names, three)
    flops = counter.get_flop_counts()
    root = type(meta).__name__
    costs = {}
    for name in ["", *names]:
        counts = flops.get(f"{root}.{name}" if name else "Global", {})
        costs[name] = Cost(
            parameters=sum(p.numel() for p in meta.get_submodule(name).parameters()),
            gmac=sum(counts.values()) / (2e9 * len(three)),
            activation_bytes=large[name] - small[name],
        )
    return costs


def _saved(model: nn.Module, names: list[str], x: Tensor) -> Counter[str]:
    """Bytes that autograd saves in each named part (by who saves a storage first) and in all."""
    storages: dict[int, torch.UntypedStorage] = {}  # held, so that no identity is used twice
    total: Counter[str] = Counter()
    inside = [""]

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if id(storage) not in storages:
            storages[id(storage)] = storage
            for part in set(inside):
                total[part] += storage.nbytes()
        return tensor

    with (
        _watched(model, names, lambda *_: inside.pop(), before=inside.append),
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
    ):
        model(x)
    return total


@contextmanager
def _watched(
    model: nn.Module,
    names: list[str],
    after: Callable[[str, Tensor, Tensor], object],
    *,
    before: Callable[[str], object] = lambda _: None,
) -> Iterator[None]:
    """Call ``before(name)`` and ``after(name, input, output)`` around each named part's forward."""
    handles = []
    for name in names:
        part = model.get_submodule(name)
        handles += [
            part.register_forward_pre_hook(lambda _m, _x, name=name: _ignore(before(name))),
            part.register_forward_hook(lambda _m, x, y, name=name: _ignore(after(name, x[0], y))),
        ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _ignore(_: object) -> None:
    """A hook that returns something would replace the input or the output."""
