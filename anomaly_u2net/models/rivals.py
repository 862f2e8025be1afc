"""Whole networks that U²-Net is measured against, of the same blocks and outputs.

Channels double from stage to stage, from ``width`` up to 8 × ``width``, as in U-Net and VGG.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anomaly_u2net.errors import InputError
from anomaly_u2net.models.blocks import BLOCKS, ConvBNReLU, StageSpec, halve, upsample_to
from anomaly_u2net.models.sides import Fuse, SideNet
from anomaly_u2net.models.u2net import NestedU, U2Net
from anomaly_u2net.recipe import RIVAL_DEPTH, RIVAL_WIDTH


def unet(
    *,
    width: int = RIVAL_WIDTH,
    depth: int = RIVAL_DEPTH,
    deep: bool = False,
    fuse: Fuse = "conv1x1",
    in_channels: int = 3,
    classes: int = 1,
) -> U2Net:
    """U-Net: a U of ``depth`` plain blocks (Ronneberger et al., arXiv 1505.04597), one output.

    With BatchNorm, zero padding and bilinear resizing, as everything here. ``deep``: an output on
    every stage, as in U²-Net. (B, 3, h, w) → (B, 1, h, w).

    >>> logits = unet(width=4, depth=3).eval()(torch.zeros(1, 3, 65, 70))
    >>> logits.fused.shape, logits.sides
    (torch.Size([1, 1, 65, 70]), ())
    """
    encoder = _doubling(width, depth)
    return U2Net(
        encoder,
        encoder[-2::-1],
        in_channels=in_channels,
        classes=classes,
        block=BLOCKS["plain"],
        fuse=fuse,
        deep=deep,
    )


class Cascaded(SideNet):
    """``count`` U-Nets in a row; each sees the image and the features of the one before.

    One output on each (all at the input's size, the last U's first) and their fusion: supervision
    after each U as in stacked hourglass networks (Newell et al., arXiv 1603.06937) and CU-Net (Tang
    et al., arXiv 1808.06521); image and features concatenated as in DocUNet (Ma et al., CVPR 2018).
    (B, 3, h, w) → (B, 1, h, w), ``count`` sides of the same shape; between the Us (B, width, h, w).

    >>> logits = Cascaded(count=2, width=4, depth=3).eval()(torch.zeros(1, 3, 65, 70))
    >>> logits.fused.shape, len(logits.sides)
    (torch.Size([1, 1, 65, 70]), 2)
    """

    def __init__(
        self,
        *,
        count: int = 2,
        width: int = RIVAL_WIDTH,
        depth: int = RIVAL_DEPTH,
        deep: bool = True,
        fuse: Fuse = "conv1x1",
        in_channels: int = 3,
        classes: int = 1,
    ) -> None:
        super().__init__()
        if count < 2:
            raise InputError(f"expected a cascade of 2 or more U-Nets, got {count}: use arch unet")
        encoder = _doubling(width, depth)
        self.stages = nn.ModuleList(
            NestedU(
                encoder,
                encoder[-2::-1],
                in_channels=in_channels + (width if place else 0),
                block=BLOCKS["plain"],
            )
            for place in range(count)
        )
        channels = [width] * (count if deep else 1)
        self.add_heads(channels, in_channels=in_channels, classes=classes, fuse=fuse)

    def features(self, x: Tensor) -> list[Tensor]:
        found: list[Tensor] = []
        for stage in self.stages:
            assert isinstance(stage, NestedU)
            found.append(stage.features(torch.cat((x, *found[-1:]), dim=1))[0])
        return found[::-1]


class PlainEncoder(nn.Module):
    """``depth`` plain blocks with halvings between them, the way down of a U-Net.

    ``strides``: the halving before each block but the first (1: none); ``dilations`` of the blocks.
    (B, in, h, w) → one map per block, finest first.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        channels: Sequence[int],
        strides: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.strides = [1, *(strides or [2] * (len(channels) - 1))]
        rates = dilations or [1] * len(channels)
        self.blocks = nn.ModuleList(
            nn.Sequential(ConvBNReLU(before, c, dilation=d), ConvBNReLU(c, c, dilation=d))
            for before, c, d in zip([in_channels, *channels], channels, rates, strict=False)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        found = []
        for stride, block in zip(self.strides, self.blocks, strict=True):
            x = block(halve(x) if stride == 2 else x)
            found.append(x)
        return found


class HED(SideNet):
    """Holistically-nested edge detection: outputs on the stages of a plain encoder, no decoder.

    Source: Xie and Tu, arXiv 1504.06375, Fig. 3. (B, 3, h, w) → (B, 1, h, w), ``depth`` sides.

    >>> len(HED(width=4, depth=3).eval()(torch.zeros(1, 3, 65, 70)).sides)
    3
    """

    def __init__(
        self,
        *,
        width: int = RIVAL_WIDTH,
        depth: int = RIVAL_DEPTH,
        fuse: Fuse = "conv1x1",
        in_channels: int = 3,
        classes: int = 1,
    ) -> None:
        super().__init__()
        channels = [spec.out for spec in _doubling(width, depth)]
        self.encoder = PlainEncoder(in_channels=in_channels, channels=channels)
        self.add_heads(channels, in_channels=in_channels, classes=classes, fuse=fuse)

    def features(self, x: Tensor) -> list[Tensor]:
        found: list[Tensor] = self.encoder(x)
        return found


class Dilated(SideNet):
    """Resolution kept by dilated convolutions, then four of them in parallel (ASPP); one output.

    Source: DeepLab, Chen et al., arXiv 1606.00915, section 3.1 and Fig. 4 (rates 6, 12, 18, 24),
    with a plain encoder that halves three times and dilates by 2 and 4 after that.
    (B, 3, h, w) → (B, 1, h, w).

    >>> Dilated(width=4).eval()(torch.zeros(1, 3, 65, 70)).fused.shape
    torch.Size([1, 1, 65, 70])
    """

    RATES = (6, 12, 18, 24)

    def __init__(self, *, width: int = RIVAL_WIDTH, in_channels: int = 3, classes: int = 1) -> None:
        super().__init__()
        channels = [width * factor for factor in (1, 2, 4, 8, 8, 8)]
        self.encoder = PlainEncoder(
            in_channels=in_channels,
            channels=channels,
            strides=[2, 2, 2, 1, 1],
            dilations=[1, 1, 1, 1, 2, 4],
        )
        self.branches = nn.ModuleList(
            ConvBNReLU(channels[-1], 2 * width, dilation=rate) for rate in self.RATES
        )
        self.add_heads([2 * width * len(self.RATES)], in_channels=in_channels, classes=classes)

    def features(self, x: Tensor) -> list[Tensor]:
        deep = self.encoder(x)[-1]
        return [torch.cat([branch(deep) for branch in self.branches], dim=1)]


class Bidirectional(SideNet):
    """Messages between the features of an encoder's stages, fine to coarse and coarse to fine.

    Each way a stage takes its neighbour's map, convolved and gated by a sigmoid; the two results
    are joined and get an output. Source: the bi-directional message passing model, Zhang et al.,
    CVPR 2018, eqs. 1-5, on a plain encoder and without its context modules.
    (B, 3, h, w) → (B, 1, h, w), ``depth`` sides; messages (B, width, …) at each stage's own size.

    >>> len(Bidirectional(width=4, depth=3).eval()(torch.zeros(1, 3, 65, 70)).sides)
    3
    """

    def __init__(
        self,
        *,
        width: int = RIVAL_WIDTH,
        depth: int = RIVAL_DEPTH,
        fuse: Fuse = "conv1x1",
        in_channels: int = 3,
        classes: int = 1,
    ) -> None:
        super().__init__()
        channels = [spec.out for spec in _doubling(width, depth)]
        self.encoder = PlainEncoder(in_channels=in_channels, channels=channels)
        self.narrow = nn.ModuleList(ConvBNReLU(c, width) for c in channels)
        self.to_coarse = nn.ModuleList(Message(width) for _ in channels[1:])
        self.to_fine = nn.ModuleList(Message(width) for _ in channels[1:])
        self.join = nn.ModuleList(ConvBNReLU(2 * width, width) for _ in channels)
        self.add_heads([width] * depth, in_channels=in_channels, classes=classes, fuse=fuse)

    def features(self, x: Tensor) -> list[Tensor]:
        own = [narrow(f) for narrow, f in zip(self.narrow, self.encoder(x), strict=True)]
        down = own[:1]
        for message, mine in zip(self.to_coarse, own[1:], strict=True):
            down.append(mine + message(halve(down[-1])))
        up = own[-1:]  # coarsest first
        for message, mine in zip(self.to_fine, own[-2::-1], strict=True):
            up.append(mine + upsample_to(message(up[-1]), mine))
        pairs = zip(self.join, down, reversed(up), strict=True)
        return [join(torch.cat((a, b), dim=1)) for join, a, b in pairs]


class Message(nn.Module):
    """A map, convolved, times a gate of the same map; (B, C, h, w) → (B, C, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.content = ConvBNReLU(channels, channels)
        self.gate = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        content: Tensor = self.content(x)
        return content * torch.sigmoid(self.gate(x))


def _doubling(width: int, depth: int) -> list[StageSpec]:
    if depth < 2 or width < 1:
        raise InputError(f"expected depth ≥ 2 and width ≥ 1, got depth {depth}, width {width}")
    widths = [width * min(2**level, 8) for level in range(depth)]
    return [StageSpec(0, w, w) for w in widths]
