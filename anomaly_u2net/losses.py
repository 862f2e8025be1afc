"""Deep supervision over side outputs, and the pixel losses it can be built on.

A pixel loss is a plain function ``(logits, target, weight) -> scalar``: (B, 1, h, w) each,
``logits`` of any precision (halves are computed in float32), ``target`` in 0..1, ``weight`` ≥ 0
(0: the pixel is ignored). A new one is an entry in ``PIXEL_LOSSES``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from anomaly_u2net.errors import InputError
from anomaly_u2net.types import SideLogits

PixelLoss: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]

FOCAL_GAMMA = 2.0
FOCAL_ALPHA = 0.25
DICE_SMOOTH = 1.0


def bce(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Binary cross-entropy, averaged over the weighted pixels (U²-Net, eq. 2).

    >>> one = torch.ones(1, 1, 2, 2)
    >>> round(bce(0 * one, one, one).item(), 4)
    0.6931
    """
    loss = F.binary_cross_entropy_with_logits(_full(logits), target, reduction="none")
    return _weighted_mean(loss, weight)


def focal(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Focal loss with γ = 2 and α = 0.25 (Lin et al., arXiv 1708.02002, eq. 5), averaged."""
    logits = _full(logits)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    probability = torch.sigmoid(logits)
    miss = probability + target - 2 * probability * target
    alpha = FOCAL_ALPHA * target + (1 - FOCAL_ALPHA) * (1 - target)
    return _weighted_mean(alpha * miss**FOCAL_GAMMA * cross_entropy, weight)


def dice(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """1 − soft Dice over all pixels of the batch, smoothed by 1 (Milletari, arXiv 1606.04797).

    Over the batch, not per image: a good image then only adds false-positive area, and an
    all-good batch still has a finite loss and a gradient towards zero.
    """
    probability = torch.sigmoid(_full(logits)) * weight
    truth = target * weight
    overlap = (probability * truth).sum()
    return 1 - (2 * overlap + DICE_SMOOTH) / (probability.sum() + truth.sum() + DICE_SMOOTH)


def bce_dice(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """`bce` + `dice`."""
    return bce(logits, target, weight) + dice(logits, target, weight)


#: What ``loss.pixel`` of a recipe may name.
PIXEL_LOSSES: dict[str, PixelLoss] = {
    "bce": bce,
    "focal": focal,
    "dice": dice,
    "bce+dice": bce_dice,
}


def deep_supervision(
    logits: SideLogits,
    target: Tensor,
    *,
    pixel_loss: PixelLoss = bce,
    weight: Tensor | None = None,
    side_weights: Sequence[float] | None = None,
    fused_weight: float = 1.0,
) -> tuple[Tensor, list[Tensor]]:
    """L = Σ side_weights[m]·ℓ(side_m) + fused_weight·ℓ(fused) (U²-Net, eq. 1; all weights 1).

    ``target`` and ``weight``: float32 (B, 1, h, w), at the size of the logits. Returns the sum and
    the unweighted terms, sides first, fused last. Raises `InputError` when shapes or the number of
    weights do not fit, or when all weights are 0.
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
    terms = [pixel_loss(side, target, weight) for side in (*logits.sides, logits.fused)]
    total = torch.stack([f * t for f, t in zip(factors, terms, strict=True) if f != 0]).sum()
    return total, terms


def _full(logits: Tensor) -> Tensor:
    """Half precision becomes float32, whose sums over an image stay exact enough and finite."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _weighted_mean(loss: Tensor, weight: Tensor) -> Tensor:
    return (loss * weight).sum() / weight.sum().clamp_min(1)
