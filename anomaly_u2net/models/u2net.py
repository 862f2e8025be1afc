"""U²-Net: a U of residual U-blocks with a side output per decoder stage, fused by 1×1.

Source: Qin et al., arXiv 2005.09007, Fig. 5 and Table 1, and its public code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from anomaly_u2net.errors import InputError
from anomaly_u2net.models.blocks import BLOCKS, RSU, MakeBlock, StageSpec, halve, upsample_to
from anomaly_u2net.models.recompute import recomputed
from anomaly_u2net.models.sides import Fuse, SideNet, Stem, Upsample
from anomaly_u2net.recipe import SMALL_DEPTH, SMALL_WIDTH


class NestedU(nn.Module):
    """A U of blocks: (B, in_channels, h, w) → n features, see `features`.

    ``encoder``: n specs, finest first. ``decoder``: n-1 specs, deepest first. Between stages the
    map is halved (ceil mode) on the way down and resized by ``upsample`` on the way up, in the RSUs
    and for the side outputs too. ``block`` makes each stage; ``repeats`` of them follow each other
    there, as ResNet stacks its blocks.
    ``recompute``, an attribute: in training, keep no activations within the stages; see `recomputed`.
    """

    recompute = False

    def __init__(
        self,
        encoder: Sequence[StageSpec],
        decoder: Sequence[StageSpec],
        *,
        in_channels: int = 3,
        block: MakeBlock = BLOCKS["rsu"],
        repeats: int = 1,
        upsample: Upsample = "bilinear",
    ) -> None:
        super().__init__()
        if len(decoder) != len(encoder) - 1:
            raise InputError(
                f"a nested U needs one decoder stage fewer than encoder stages, got "
                f"{len(encoder)} encoder and {len(decoder)} decoder stages"
            )
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        channels = in_channels
        for spec in encoder:
            self.encoder.append(_stage(spec, channels, block, repeats))
            channels = spec.out
        below = encoder[-1].out
        for spec, skip in zip(decoder, reversed(encoder[:-1]), strict=True):
            self.decoder.append(_stage(spec, below + skip.out, block, repeats))
            below = spec.out
        self.upsample = upsample
        for part in self.modules():
            if isinstance(part, RSU):
                part.upsample = upsample
        #: Of each feature, finest first.
        self.channels = [spec.out for spec in reversed(decoder)] + [encoder[-1].out]

    def features(self, x: Tensor) -> list[Tensor]:
        """The maps of the decoder stages, finest first, and of the bottom stage: n tensors.

        The k-th, from 0, is (B, channels[k], ⌈h / 2^k⌉, ⌈w / 2^k⌉).
        """
        skips: list[Tensor] = []
        y = x
        for level, stage in enumerate(self.encoder):
            y = self._run(stage if level == 0 else partial(_below, stage), y, stage=stage)
            skips.append(y)
        features = [skips.pop()]  # deepest first
        for stage in self.decoder:
            above = partial(_above, stage, self.upsample)
            features.append(self._run(above, features[-1], skips.pop(), stage=stage))
        return features[::-1]

    def _run(self, run: Callable[..., Tensor], *maps: Tensor, stage: nn.Module) -> Tensor:
        if self.recompute and self.training and torch.is_grad_enabled():
            return recomputed(run, *maps, stage=stage)
        return run(*maps)


class U2Net(NestedU, SideNet):
    """The nested U with an output on each decoder stage and the bottom stage, and their fusion.

    encoder, decoder, block, repeats, upsample: see `NestedU`. fuse, stem: see `SideNet`.
    deep: an output on every stage; without it the finest stage has the only one.
    taken: which of U²-Net†'s encoder stages, from 0, this network's stages are, where it is a cut of
    that network: weights of U²-Net† can then be loaded into it.

    >>> model = u2net_small(width=4, depth=3).eval()
    >>> logits = model(torch.zeros(1, 3, 65, 70))
    >>> logits.fused.shape, len(logits.sides)
    (torch.Size([1, 1, 65, 70]), 3)
    """

    def __init__(
        self,
        encoder: Sequence[StageSpec],
        decoder: Sequence[StageSpec],
        *,
        in_channels: int = 3,
        classes: int = 1,
        block: MakeBlock = BLOCKS["rsu"],
        repeats: int = 1,
        upsample: Upsample = "bilinear",
        fuse: Fuse = "conv1x1",
        stem: Stem = "full",
        deep: bool = True,
        taken: tuple[int, ...] | None = None,
    ) -> None:
        inner = in_channels if stem == "full" else 4 * in_channels
        super().__init__(
            encoder, decoder, in_channels=inner, block=block, repeats=repeats, upsample=upsample
        )
        self.taken = taken
        self.add_heads(
            self.channels if deep else self.channels[:1],
            in_channels=in_channels,
            classes=classes,
            fuse=fuse,
            stem=stem,
        )


#: Encoder and decoder of the paper's U²-Net (Table 1).
PAPER = (
    [
        StageSpec(7, 32, 64),
        StageSpec(6, 32, 128),
        StageSpec(5, 64, 256),
        StageSpec(4, 128, 512),
        StageSpec(4, 256, 512, dilated=True),
        StageSpec(4, 256, 512, dilated=True),
    ],
    [
        StageSpec(4, 256, 512, dilated=True),
        StageSpec(4, 128, 256),
        StageSpec(5, 64, 128),
        StageSpec(6, 32, 64),
        StageSpec(7, 16, 64),
    ],
)


def u2net(*, in_channels: int = 3, classes: int = 1) -> U2Net:
    """The paper's U²-Net (176 MB): 44,009,869 parameters with 3 channels and 1 class.

    Source: arXiv 2005.09007, Table 1. (B, 3, h, w) → `SideLogits`: fused (B, 1, h, w) and six sides of
    that shape.

    >>> sum(p.numel() for p in u2net().parameters())
    44009869
    """
    return U2Net(*PAPER, in_channels=in_channels, classes=classes)


def u2netp(*, in_channels: int = 3, classes: int = 1) -> U2Net:
    """The paper's small U²-Net† (4.7 MB): 1,131,181 parameters with 3 channels and 1 class.

    Source: arXiv 2005.09007, Table 1. (B, 3, h, w) → `SideLogits`: fused (B, 1, h, w) and six sides of
    that shape.

    >>> sum(p.numel() for p in u2netp().parameters())
    1131181
    """
    return u2net_small(width=64, mid=16, depth=6, in_channels=in_channels, classes=classes)


#: U²-Net†'s encoder stages that `u2net_fast` keeps: RSU-7, 6, 5 and the first RSU-4F.
FAST = (0, 1, 2, 4)


def u2net_fast(
    *,
    in_channels: int = 3,
    classes: int = 1,
    deep: bool = True,
    fuse: Fuse = "conv1x1",
) -> U2Net:
    """Four of U²-Net†'s six stages at half the image's size, for fast CPUs and INT8.

    The image comes in by space to depth and each output says the four pixels of a 2 × 2 square, so
    that no work is done at full size; maps are resized by repeating values, which INT8 can do too.
    Measured beside a U-Net on a ResNet-18 in docs/reference/rivals.md. U²-Net†'s weights load into it.
    (B, 3, h, w) → `SideLogits`: fused (B, 1, h, w) and four sides of that shape.

    >>> sum(p.numel() for p in u2net_fast().parameters())
    743220
    """
    encoder, _ = small_stages(width=64, mid=16, depth=6)
    encoder = [encoder[k] for k in FAST]
    return U2Net(
        encoder,
        encoder[-2::-1],
        in_channels=in_channels,
        classes=classes,
        upsample="nearest",
        fuse=fuse,
        stem="unshuffle2_learned",
        deep=deep,
        taken=FAST,
    )


def u2net_small(
    *,
    width: int = SMALL_WIDTH,
    depth: int = SMALL_DEPTH,
    mid: int | None = None,
    in_channels: int = 3,
    classes: int = 1,
) -> U2Net:
    """A nested U of any width and depth, built by U²-Net†'s rule; see `small_stages`."""
    stages = small_stages(width=width, depth=depth, mid=mid)
    return U2Net(*stages, in_channels=in_channels, classes=classes)


def small_stages(
    *, width: int, depth: int, mid: int | None = None
) -> tuple[list[StageSpec], list[StageSpec]]:
    """Encoder and decoder of a nested U by U²-Net†'s rule.

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
    return encoder, encoder[-2::-1]


def _below(stage: nn.Module, x: Tensor) -> Tensor:
    y: Tensor = stage(halve(x))
    return y


def _above(stage: nn.Module, mode: str, below: Tensor, skip: Tensor) -> Tensor:
    y: Tensor = stage(torch.cat((upsample_to(below, skip, mode=mode), skip), dim=1))
    return y


def _stage(spec: StageSpec, in_channels: int, block: MakeBlock, repeats: int) -> nn.Module:
    blocks = [block(spec, channels) for channels in [in_channels] + [spec.out] * (repeats - 1)]
    return blocks[0] if repeats == 1 else nn.Sequential(*blocks)
