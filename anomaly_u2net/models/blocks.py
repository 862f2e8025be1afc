"""The blocks a stage of the U can be made of: the paper's RSU and the rivals it is measured against.

All map (B, in, h, w) → (B, out, h, w) at any size.

Source: Qin et al., "U²-Net: Going Deeper with Nested U-Structure for Salient Object Detection",
Pattern Recognition 106, 2020 (arXiv 2005.09007), Fig. 2 and section 3.1, and its public code. The
code of its ablation was never published: widths inside the rivals are ours, and are stated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class StageSpec(NamedTuple):
    """One stage of the big U: with RSUs, RSU-``height`` (dilated: RSU-``height``F)."""

    height: int
    mid: int
    out: int
    dilated: bool = False


class ConvBNReLU(nn.Module):
    """3×3 convolution, batch normalisation, ReLU; (B, in, h, w) → (B, out, h, w)."""

    def __init__(
        self, in_channels: int, out_channels: int, *, dilation: int = 1, relu: bool = True
    ) -> None:
        super().__init__()
        self.conv: nn.Module = nn.Conv2d(
            in_channels, out_channels, 3, padding=dilation, dilation=dilation
        )
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(self.conv(x))
        return F.relu(y, inplace=True) if self.relu else y


class RSU(nn.Module):
    """ReSidual U-block: RSU-L, or the dilated RSU-LF (Fig. 2(e)); key ``rsu``.

    An entry convolution makes the local feature F₁(x); a U of ``height`` levels with ``mid``
    channels makes the multi-scale feature U(F₁(x)); the block returns U(F₁(x)) + F₁(x).
    RSU-L halves its map L-2 times (ceil mode, as the public code does, so odd sizes work) and its
    bottom convolution has dilation 2. RSU-LF keeps the resolution: dilations 1, 2, 4, … instead.
    ``upsample``, an attribute: how maps are resized on the way up, "bilinear" or "nearest".

    >>> RSU(7, 3, 32, 64)(torch.zeros(1, 3, 65, 70)).shape
    torch.Size([1, 64, 65, 70])
    """

    upsample = "bilinear"

    def __init__(
        self,
        height: int,
        in_channels: int,
        mid_channels: int,
        out_channels: int,
        *,
        dilated: bool = False,
    ) -> None:
        super().__init__()
        mid, out = mid_channels, out_channels
        self.height, self.dilated = height, dilated
        down = [2**i for i in range(height)] if dilated else [1] * (height - 1) + [2]
        up = [2**i for i in reversed(range(height - 1))] if dilated else [1] * (height - 1)
        self.entry = ConvBNReLU(in_channels, out)
        self.encoder = nn.ModuleList(
            ConvBNReLU(out if i == 0 else mid, mid, dilation=d) for i, d in enumerate(down)
        )
        self.decoder = nn.ModuleList(  # deepest first; the last one widens to `out`
            ConvBNReLU(2 * mid, out if i == height - 2 else mid, dilation=d)
            for i, d in enumerate(up)
        )

    def forward(self, x: Tensor) -> Tensor:
        residual = self.entry(x)
        skips: list[Tensor] = []
        y = residual
        for level, block in enumerate(self.encoder):
            if not self.dilated and 0 < level < self.height - 1:
                y = halve(y)
            y = block(y)
            skips.append(y)
        y = skips.pop()
        for block in self.decoder:
            skip = skips.pop()
            y = block(torch.cat((upsample_to(y, skip, mode=self.upsample), skip), dim=1))
        return y + residual


class Plain(nn.Sequential):
    """Two 3×3 convolutions, in → mid → out: VGG's and U-Net's block (Fig. 2(a), PLN); key ``plain``.

    >>> Plain(3, 32, 64)(torch.zeros(1, 3, 65, 70)).shape
    torch.Size([1, 64, 65, 70])
    """

    def __init__(self, in_channels: int, mid_channels: int, out_channels: int) -> None:
        super().__init__(
            ConvBNReLU(in_channels, mid_channels), ConvBNReLU(mid_channels, out_channels)
        )


class Residual(nn.Module):
    """A plain block with a shortcut: F₂(F₁(x)) + x (Fig. 2(b), RES); key ``residual``.

    Source: He et al., arXiv 1512.03385, Fig. 2: ReLU after the sum; a 1×1 projection (option B)
    where the number of channels changes.
    """

    def __init__(self, in_channels: int, mid_channels: int, out_channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ConvBNReLU(in_channels, mid_channels),
            ConvBNReLU(mid_channels, out_channels, relu=False),
        )
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x), inplace=True)


class Dense(nn.Module):
    """Three 3×3 convolutions of ``mid`` channels, each on everything before it, and one more to
    ``out`` (Fig. 2(c), DSE); key ``dense``.

    Source: Huang et al., arXiv 1608.06993, eq. 2, with ``mid`` as the growth rate.
    """

    LAYERS = 3

    def __init__(self, in_channels: int, mid_channels: int, out_channels: int) -> None:
        super().__init__()
        widths = [in_channels + i * mid_channels for i in range(self.LAYERS + 1)]
        self.layers = nn.ModuleList(ConvBNReLU(width, mid_channels) for width in widths[:-1])
        self.exit = ConvBNReLU(widths[-1], out_channels)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat((x, layer(x)), dim=1)
        return self.exit(x)


class Inception(nn.Module):
    """Parallel 3×3 convolutions of ``mid`` channels with dilations 1, 2, 4 and 8 on an entry
    convolution's map, fused by a 3×3 (Fig. 2(d), INC); key ``inception``.

    Source: Szegedy et al., arXiv 1409.4842, with dilated convolutions for the larger windows as
    the paper draws it.
    """

    DILATIONS = (1, 2, 4, 8)

    def __init__(self, in_channels: int, mid_channels: int, out_channels: int) -> None:
        super().__init__()
        self.entry = ConvBNReLU(in_channels, out_channels)
        self.branches = nn.ModuleList(
            ConvBNReLU(out_channels, mid_channels, dilation=d) for d in self.DILATIONS
        )
        self.exit = ConvBNReLU(len(self.DILATIONS) * mid_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.entry(x)
        return self.exit(torch.cat([branch(x) for branch in self.branches], dim=1))


class Pyramid(nn.Module):
    """An entry convolution's map and its means over 2×2, 4×4 and 8×8 pixels, each convolved, resized
    back and added, then a 3×3 (PPM); key ``pyramid``.

    Source: the feature aggregation module of PoolNet, Liu et al., arXiv 1904.09569, Fig. 3, which
    simplifies the pyramid pooling of Zhao et al., arXiv 1612.01105. ``mid`` is the width within.
    """

    RATES = (2, 4, 8)

    def __init__(self, in_channels: int, mid_channels: int, out_channels: int) -> None:
        super().__init__()
        self.entry = ConvBNReLU(in_channels, mid_channels)
        self.branches = nn.ModuleList(ConvBNReLU(mid_channels, mid_channels) for _ in self.RATES)
        self.exit = ConvBNReLU(mid_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.entry(x)
        total = x
        for rate, branch in zip(self.RATES, self.branches, strict=True):
            total = total + upsample_to(branch(pool(x, rate)), x)
        return self.exit(total)


#: From what a stage asks for, and the channels it gets, to its block.
MakeBlock = Callable[[StageSpec, int], nn.Module]


def _rsu(spec: StageSpec, in_channels: int) -> nn.Module:
    return RSU(spec.height, in_channels, spec.mid, spec.out, dilated=spec.dilated)


def _flat(block: Callable[[int, int, int], nn.Module]) -> MakeBlock:
    """A block without levels of its own: the height and the dilation of its stage do not count."""
    return lambda spec, in_channels: block(in_channels, spec.mid, spec.out)


#: What ``model.block`` of a recipe may name.
BLOCKS: dict[str, MakeBlock] = {
    "rsu": _rsu,
    "plain": _flat(Plain),
    "residual": _flat(Residual),
    "dense": _flat(Dense),
    "inception": _flat(Inception),
    "pyramid": _flat(Pyramid),
}


def separable(model: nn.Module) -> None:
    """Replace each 3×3 convolution of ``model``'s blocks by a depthwise 3×3 and a 1×1, in place.

    Source: Howard et al., arXiv 1704.04861, section 3.1; no normalisation between the two. The
    network's first layer, which sees the image, stays whole, as there.
    """
    blocks = [part for part in model.modules() if isinstance(part, ConvBNReLU)]
    for block in blocks[1:]:
        whole = block.conv
        if isinstance(whole, nn.Conv2d):
            block.conv = nn.Sequential(
                nn.Conv2d(
                    whole.in_channels,
                    whole.in_channels,
                    3,
                    padding=whole.padding,  # type: ignore[arg-type]
                    dilation=whole.dilation,  # type: ignore[arg-type]
                    groups=whole.in_channels,
                    bias=False,
                ),
                nn.Conv2d(whole.in_channels, whole.out_channels, 1),
            )


def halve(x: Tensor) -> Tensor:
    """2×2 max-pooling in ceil mode: (B, C, h, w) → (B, C, ⌈h/2⌉, ⌈w/2⌉)."""
    return F.max_pool2d(x, 2, stride=2, ceil_mode=True)


def pool(x: Tensor, rate: int) -> Tensor:
    """Mean over rate × rate pixels in ceil mode: (B, C, h, w) → (B, C, ⌈h/rate⌉, ⌈w/rate⌉)."""
    return F.avg_pool2d(x, rate, stride=rate, ceil_mode=True, count_include_pad=False)


def upsample_to(x: Tensor, like: Tensor, *, mode: str = "bilinear") -> Tensor:
    """Resize ``x`` to the height and width of ``like``: bilinear (half-pixel centres) or nearest."""
    if x.shape[2:] == like.shape[2:]:
        return x
    align = False if mode == "bilinear" else None
    return F.interpolate(x, size=like.shape[2:], mode=mode, align_corners=align)
