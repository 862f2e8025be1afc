"""What every network here shares: a side output per scale, resized to the input, and their fusion."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomaly_u2net.errors import InputError
from anomaly_u2net.models.blocks import upsample_to
from anomaly_u2net.types import SideLogits

MIN_SIDE = 32

Fuse: TypeAlias = Literal["conv1x1", "mean"]
Upsample: TypeAlias = Literal["bilinear", "nearest"]
Stem: TypeAlias = Literal["full", "unshuffle2", "unshuffle2_learned"]


class SideNet(nn.Module):
    """Features of several scales, a 3×3 convolution on each, and a fusion of what they say.

    A subclass makes `features` and ends its constructor with `add_heads`. The side outputs are
    resized to the input (``upsample``) and fused by a learned 1×1 convolution (HED, arXiv 1504.06375;
    U²-Net), which starts as their mean, or by their mean. A network of one feature has one output
    and no sides.

    Takes float32 (B, in_channels, h, w) with h, w ≥ 32, odd sizes too, and returns `SideLogits`
    at (h, w). Raises `InputError` for another rank, channel count or a smaller size.
    """

    upsample: Upsample = "bilinear"
    in_channels: int
    stem: Stem
    sides: nn.ModuleList
    fuse: nn.Conv2d | None

    @abstractmethod
    def features(self, x: Tensor) -> list[Tensor]:
        """(B, C, h, w) → one tensor (B, channels, height, width) per output, finest first."""

    def add_heads(
        self,
        channels: list[int],
        *,
        in_channels: int,
        classes: int = 1,
        fuse: Fuse = "conv1x1",
        stem: Stem = "full",
    ) -> None:
        """Make the outputs: ``channels`` of each feature, finest first.

        stem "unshuffle2": the network sees the image at half its height and width with four times
        its channels (space to depth, Shi et al., arXiv 1609.05158), and what it says is resized
        back; "unshuffle2_learned": each output says four numbers, the pixels of its 2 × 2 square.
        """
        self.in_channels, self.stem = in_channels, stem
        values = 4 * classes if stem == "unshuffle2_learned" else classes
        self.sides = nn.ModuleList(nn.Conv2d(c, values, 3, padding=1) for c in channels)
        learned = len(channels) > 1 and fuse == "conv1x1"
        self.fuse = nn.Conv2d(len(channels) * values, values, 1) if learned else None
        self._fuse_as_mean()

    def forward(self, x: Tensor) -> SideLogits:
        self._check(x)
        height, width = x.shape[2:]
        if self.stem != "full":
            x = F.pad(x, (0, width % 2, 0, height % 2), mode="replicate")
        entry = x if self.stem == "full" else F.pixel_unshuffle(x, 2)
        heads = zip(self.sides, self.features(entry), strict=False)  # one head: only the finest
        native = tuple(head(feature) for head, feature in heads)
        canvas = entry if self.stem == "unshuffle2_learned" else x
        sides = tuple(upsample_to(side, canvas, mode=self.upsample) for side in native)
        if len(sides) == 1:
            return SideLogits(self._whole(sides[0], height, width), ())
        fused = self._fused(sides)
        return SideLogits(
            self._whole(fused, height, width),
            tuple(self._whole(side, height, width) for side in sides),
            tuple(self._shuffled(side) for side in native),
        )

    def _fused(self, sides: tuple[Tensor, ...]) -> Tensor:
        if self.fuse is None:
            return torch.stack(sides).mean(dim=0)
        fused: Tensor = self.fuse(torch.cat(sides, dim=1))
        return fused

    def _whole(self, x: Tensor, height: int, width: int) -> Tensor:
        """At the input's size, without what was padded."""
        return self._shuffled(x)[:, :, :height, :width]

    def _shuffled(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(x, 2) if self.stem == "unshuffle2_learned" else x

    def heads(self) -> list[nn.Conv2d]:
        """The last convolution of each output, finest first."""
        return [side for side in self.sides if isinstance(side, nn.Conv2d)]

    def set_prior(self, probability: float) -> None:
        """Make every output start at this defect probability (Lin et al., arXiv 1708.02002, 4.1).

        The side weights shrink to a tenth and their biases become the prior's logit; the fusion
        becomes the mean of the sides.
        """
        logit = math.log(probability / (1 - probability))
        with torch.no_grad():
            for head in self.heads():
                head.weight.mul_(0.1)
                assert head.bias is not None
                nn.init.constant_(head.bias, logit)
        self._fuse_as_mean()

    @torch.no_grad()
    def _fuse_as_mean(self) -> None:
        """The learned fusion starts as the mean of the sides (HED, arXiv 1504.06375, section 4.1).

        Of random sign, as in the public code, it may start as the negative of what the sides say.
        """
        if self.fuse is None:
            return
        values = self.fuse.out_channels
        self.fuse.weight.zero_()
        for c in range(values):
            self.fuse.weight[c, c::values] = 1 / len(self.sides)
        assert self.fuse.bias is not None
        nn.init.zeros_(self.fuse.bias)

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
