"""Losses that judge each pixel by itself, and average."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from anomaly_u2net.losses.reduction import full, weighted_mean

FOCAL_GAMMA = 2.0
FOCAL_ALPHA = 0.25
#: In `balanced_bce` a defect pixel counts at most so many times a good one.
MOST_BALANCE = 100.0


def bce(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Binary cross-entropy, −t·log p − (1 − t)·log(1 − p), averaged (U²-Net, eq. 2).

    >>> one = torch.ones(1, 1, 2, 2)
    >>> round(bce(0 * one, one, one).item(), 4)
    0.6931
    """
    return weighted_mean(_cross_entropy(full(logits), target), weight)


def balanced_bce(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Class-balanced cross-entropy: the defect pixels together count as much as the good ones.

    A defect pixel counts r times, r = (good pixels / defect pixels of the batch), between 1 and
    100; then the weighted mean. Source: HED (Xie and Tu, arXiv 1504.06375, eq. 2), where r is the
    ratio of the two class weights and has no bounds: without them a batch of good images, or one
    of defects only, would have no loss at all.

    Three good pixels at p = 1/4 and a defect pixel at p = 1/2, (ln 4/3 + ln 2) / 2:

    >>> target = torch.tensor([[[[0.0, 0.0, 0.0, 1.0]]]])
    >>> logits = torch.log(torch.tensor([[[[1 / 3, 1 / 3, 1 / 3, 1.0]]]]))
    >>> round(balanced_bce(logits, target, torch.ones_like(target)).item(), 4)
    0.4904
    """
    defect = (weight * target).sum()
    good = (weight * (1 - target)).sum()
    # Without defect pixels their factor is not used; the clamp only avoids 0 / 0.
    ratio = (good / defect.clamp_min(1e-12)).clamp(1, MOST_BALANCE)
    return weighted_mean(_cross_entropy(full(logits), target), weight * (1 + (ratio - 1) * target))


def focal(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Focal loss, α_t·(1 − p_t)^γ·(−log p_t), γ = 2, α = 0.25, averaged over the pixels.

    p_t: the probability of the true class. Source: Lin et al., arXiv 1708.02002, eq. 5; there the
    sum is divided by the number of objects, which pixels do not have.

    >>> one = torch.ones(1, 1, 2, 2)
    >>> round(focal(0 * one, one, one).item(), 4)  # ln 2 / 16
    0.0433
    """
    logits = full(logits)
    probability = torch.sigmoid(logits)
    miss = probability + target - 2 * probability * target
    alpha = FOCAL_ALPHA * target + (1 - FOCAL_ALPHA) * (1 - target)
    return weighted_mean(alpha * miss**FOCAL_GAMMA * _cross_entropy(logits, target), weight)


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none")
