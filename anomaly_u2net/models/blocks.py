"""ReSidual U-blocks: a small U-Net with a residual connection, used in place of a plain block.

Source: Qin et al., "U²-Net: Going Deeper with Nested U-Structure for Salient Object Detection",
Pattern Recognition 106, 2020 (arXiv 2005.09007), Fig. 2(e) and section 3.1, and its public code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ConvBNReLU(nn.Module):
    """3×3 convolution, batch normalisation, ReLU; (B, in, h, w) → (B, out, h, w)."""

    def __init__(self, in_channels: int, out_channels: int, *, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class RSU(nn.Module):
    """ReSidual U-block: RSU-L, or the dilated RSU-LF; (B, in, h, w) → (B, out, h, w).

    An entry convolution makes the local feature F₁(x); a U of ``height`` levels with ``mid``
    channels makes the multi-scale feature U(F₁(x)); the block returns U(F₁(x)) + F₁(x).
    RSU-L halves its map L-2 times (ceil mode, as the public code does, so odd sizes work) and its
    bottom convolution has dilation 2. RSU-LF keeps the resolution: dilations 1, 2, 4, … instead.

    >>> RSU(7, 3, 32, 64)(torch.zeros(1, 3, 65, 70)).shape
    torch.Size([1, 64, 65, 70])
    """

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
            y = block(torch.cat((upsample_to(y, skip), skip), dim=1))
        return y + residual


def halve(x: Tensor) -> Tensor:
    """2×2 max-pooling in ceil mode: (B, C, h, w) → (B, C, ⌈h/2⌉, ⌈w/2⌉)."""
    return F.max_pool2d(x, 2, stride=2, ceil_mode=True)


def upsample_to(x: Tensor, like: Tensor) -> Tensor:
    """Bilinear resize of ``x`` to the height and width of ``like`` (half-pixel centres)."""
    if x.shape[2:] == like.shape[2:]:
        return x
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)
