"""U²-Net: a U of residual U-blocks with a side output per decoder stage, fused by 1×1.

Source: Qin et al., arXiv 2005.09007, Fig. 5 and Table 1, and its public code.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from anomaly_u2net.errors import InputError
from anomaly_u2net.models.blocks import RSU, halve, upsample_to
from anomaly_u2net.recipe import SMALL_DEPTH, SMALL_WIDTH
from anomaly_u2net.types import SideLogits

MIN_SIDE = 32


class StageSpec(NamedTuple):
    """One residual U-block of the big U: RSU-``height`` (dilated: RSU-``height``F)."""

    height: int
    mid: int
    out: int
    dilated: bool = False


class U2Net(nn.Module):
    """The nested U.

    ``encoder``: n specs, finest first. ``decoder``: n-1 specs, deepest first. Between stages the
    map is halved (ceil mode) on the way down and resized bilinearly on the way up. Side outputs
    are 3×3 convolutions on the n-1 decoder stages and the bottom stage, finest first, resized to
    the input; the fused output is a 1×1 convolution over them.

    Takes float32 (B, in_channels, h, w) with h, w ≥ 32, odd sizes too, and returns `SideLogits`
    at (h, w). Raises `InputError` for another rank, channel count or a smaller size.

    >>> model = u2net_small(width=4, depth=3).eval()
    >>> logits = model(torch.zeros(1, 3, 65, 70))
    >>> logits.fused.shape, len(logits.sides)
    (torch.Size([1, 1, 65, 70]), 3)
    """

    def __init__(
        self,
        encoder: list[StageSpec],
        decoder: list[StageSpec],
        *,
        in_channels: int = 3,
        classes: int = 1,
    ) -> None:
        super().__init__()
        if len(decoder) != len(encoder) - 1:
            raise InputError(
                f"a nested U needs one decoder stage fewer than encoder stages, got "
                f"{len(encoder)} encoder and {len(decoder)} decoder stages"
            )
        self.in_channels = in_channels
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        channels = in_channels
        for spec in encoder:
            self.encoder.append(_stage(spec, channels))
            channels = spec.out
        below = encoder[-1].out
        for spec, skip in zip(decoder, reversed(encoder[:-1]), strict=True):
            self.decoder.append(_stage(spec, below + skip.out))
            below = spec.out
        side_channels = [spec.out for spec in reversed(decoder)] + [encoder[-1].out]
        self.sides = nn.ModuleList(nn.Conv2d(c, classes, 3, padding=1) for c in side_channels)
        self.fuse = nn.Conv2d(len(side_channels) * classes, classes, 1)

    def forward(self, x: Tensor) -> SideLogits:
        self._check(x)
        skips: list[Tensor] = []
        y = x
        for level, stage in enumerate(self.encoder):
            y = stage(y if level == 0 else halve(y))
            skips.append(y)
        features = [skips.pop()]  # deepest first
        for stage in self.decoder:
            skip = skips.pop()
            features.append(stage(torch.cat((upsample_to(features[-1], skip), skip), dim=1)))
        finest_first = reversed(features)
        sides = tuple(
            upsample_to(conv(f), x) for conv, f in zip(self.sides, finest_first, strict=True)
        )
        return SideLogits(self.fuse(torch.cat(sides, dim=1)), sides)

    def set_prior(self, probability: float) -> None:
        """Make every output start at this defect probability (Lin et al., arXiv 1708.02002, 4.1).

        The side weights shrink to a tenth and their biases become the prior's logit; the fusion
        becomes the mean of the sides.
        """
        logit = math.log(probability / (1 - probability))
        with torch.no_grad():
            for conv in self.sides:
                nn.init.constant_(conv.bias, logit)  # type: ignore[arg-type]
                conv.weight.mul_(0.1)  # type: ignore[operator]
            classes = self.fuse.out_channels
            self.fuse.weight.zero_()
            for c in range(classes):
                self.fuse.weight[c, c::classes] = 1 / len(self.sides)
            nn.init.zeros_(self.fuse.bias)  # type: ignore[arg-type]

    def _check(self, x: Tensor) -> None:
        if torch.compiler.is_exporting():
            return
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise InputError(
                f"expected a batch of shape (B, {self.in_channels}, h, w), got {tuple(x.shape)}"
            )
        if min(x.shape[2:]) < MIN_SIDE:
            raise InputError(
                f"expected height and width of at least {MIN_SIDE}, got {tuple(x.shape[2:])}: "
                "enlarge the images (input.size)"
            )


def u2net(*, in_channels: int = 3, classes: int = 1) -> U2Net:
    """The paper's U²-Net (176 MB): 44,009,869 parameters with 3 channels and 1 class.

    >>> sum(p.numel() for p in u2net().parameters())
    44009869
    """
    encoder = [
        StageSpec(7, 32, 64),
        StageSpec(6, 32, 128),
        StageSpec(5, 64, 256),
        StageSpec(4, 128, 512),
        StageSpec(4, 256, 512, dilated=True),
        StageSpec(4, 256, 512, dilated=True),
    ]
    decoder = [
        StageSpec(4, 256, 512, dilated=True),
        StageSpec(4, 128, 256),
        StageSpec(5, 64, 128),
        StageSpec(6, 32, 64),
        StageSpec(7, 16, 64),
    ]
    return U2Net(encoder, decoder, in_channels=in_channels, classes=classes)


def u2netp(*, in_channels: int = 3, classes: int = 1) -> U2Net:
    """The paper's small U²-Net† (4.7 MB): 1,131,181 parameters with 3 channels and 1 class.

    >>> sum(p.numel() for p in u2netp().parameters())
    1131181
    """
    return u2net_small(width=64, mid=16, depth=6, in_channels=in_channels, classes=classes)


def u2net_small(
    *,
    width: int = SMALL_WIDTH,
    depth: int = SMALL_DEPTH,
    mid: int | None = None,
    in_channels: int = 3,
    classes: int = 1,
) -> U2Net:
    """A nested U of any width and depth, built by U²-Net†'s rule.

    ``depth`` encoder stages of ``width`` channels, ``mid`` (default: width / 4, at least 4) inside
    the blocks. Heights shrink from depth+1 to 4; the last two stages are dilated, but never the
    first two. ``width=64, mid=16, depth=6`` is U²-Net†.
    """
    if depth < 2 or width < 1:
        raise InputError(f"expected depth ≥ 2 and width ≥ 1, got depth {depth}, width {width}")
    mid = max(4, width // 4) if mid is None else mid
    encoder = [
        StageSpec(max(4, depth + 1 - k), mid, width, dilated=k >= max(depth - 2, 2))
        for k in range(depth)
    ]
    decoder = encoder[-2::-1]
    return U2Net(encoder, decoder, in_channels=in_channels, classes=classes)


def build_model(arch: str, *, width: int | None = None, depth: int | None = None) -> U2Net:
    """The network that a recipe's ``model`` part names (see ``ARCHITECTURES``)."""
    if arch == "small":
        return u2net_small(width=width or SMALL_WIDTH, depth=depth or SMALL_DEPTH)
    if arch not in ARCHITECTURES:
        names = ", ".join([*ARCHITECTURES, "small"])
        raise InputError(f"unknown model.arch {arch!r}: expected one of {names}")
    return ARCHITECTURES[arch]()


#: What ``model.arch`` may name, besides ``small``.
ARCHITECTURES = {"u2net": u2net, "u2netp": u2netp}


def _stage(spec: StageSpec, in_channels: int) -> RSU:
    return RSU(spec.height, in_channels, spec.mid, spec.out, dilated=spec.dilated)
