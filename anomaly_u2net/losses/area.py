"""Losses on areas: how far the predicted defect area and the true one overlap.

Soft areas are additive counts over the pixels of a group (the batch, or each image): true
positives TP = Σ w·p·t, false positives FP = Σ w·p·(1 − t), false negatives FN = Σ w·(1 − p)·t.

A group without defect pixels has no overlap, and these losses would be flat there: their gradient
falls with the square of the predicted area. Its loss is instead the share of its area that is
predicted defective, FP / Σ w (`lovasz`: the mean hinge loss), whose gradient per pixel is that of a
mean.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from anomaly_u2net.losses.reduction import Reduce, full, grouped, mean_over_groups

#: Pixels added to both areas of a ratio: a defect of a few pixels has a smaller say, not a jump.
SMOOTH = 1.0
FALSE_POSITIVE, FALSE_NEGATIVE = 0.3, 0.7
FOCAL_TVERSKY_GAMMA = 4 / 3
#: Where 1 − Tversky is below this, focal_tversky is a line: its root has no slope at 0.
ROOT_FLOOR = 1e-8


class Areas(NamedTuple):
    """Soft areas in pixels, (groups,) each; ``all`` is the group's whole area."""

    true_positive: Tensor
    false_positive: Tensor
    false_negative: Tensor
    all: Tensor


def dice(logits: Tensor, target: Tensor, weight: Tensor, *, reduce: Reduce = "batch") -> Tensor:
    """1 − (2·TP + 1) / (2·TP + FP + FN + 1), the soft Dice loss (Milletari, arXiv 1606.04797).

    There (section 3) the probabilities are squared in the denominator; this is the plain form of
    Sudre et al., arXiv 1707.03237, smoothed by 1 pixel.

    >>> one = torch.ones(1, 1, 2, 2)
    >>> round(dice(0 * one, one, one).item(), 4)  # 1 − (4 + 1) / (2 + 4 + 1)
    0.2857
    """
    tp, fp, fn, _ = areas = _areas(logits, target, weight, reduce)
    return _loss(1 - (2 * tp + SMOOTH) / (2 * tp + fp + fn + SMOOTH), areas, weight, reduce)


def iou(logits: Tensor, target: Tensor, weight: Tensor, *, reduce: Reduce = "batch") -> Tensor:
    """1 − (TP + 1) / (TP + FP + FN + 1), the soft Jaccard loss, smoothed by 1 pixel.

    Source: Rahman and Wang, ISVC 2016; the IoU term of BASNet (Qin et al., CVPR 2019), there per
    image.

    >>> one = torch.ones(1, 1, 2, 2)
    >>> round(iou(0 * one, one, one).item(), 4)  # 1 − (2 + 1) / (4 + 1)
    0.4
    """
    tp, fp, fn, _ = areas = _areas(logits, target, weight, reduce)
    return _loss(1 - (tp + SMOOTH) / (tp + fp + fn + SMOOTH), areas, weight, reduce)


def tversky(logits: Tensor, target: Tensor, weight: Tensor, *, reduce: Reduce = "batch") -> Tensor:
    """1 − (TP + 1) / (TP + 0.3·FP + 0.7·FN + 1): a missed pixel costs more than a false one.

    Source: Salehi et al., arXiv 1706.05721, with the α = 0.3 and β = 0.7 of their best run.

    >>> one = torch.ones(1, 1, 2, 2)
    >>> round(tversky(0 * one, one, one).item(), 4)  # 1 − (2 + 1) / (2 + 0.7·2 + 1)
    0.3182
    """
    areas = _areas(logits, target, weight, reduce)
    return _loss(_one_less_tversky(areas), areas, weight, reduce)


def focal_tversky(
    logits: Tensor, target: Tensor, weight: Tensor, *, reduce: Reduce = "batch"
) -> Tensor:
    """`tversky` to the power 3/4 (γ = 4/3; Abraham and Khan, arXiv 1810.07842).

    The slope of the root, infinite at a perfect overlap, is held at 75 there.

    >>> one = torch.ones(1, 1, 2, 2)
    >>> round(focal_tversky(0 * one, one, one).item(), 4)  # 0.3182^(3/4)
    0.4236
    """
    areas = _areas(logits, target, weight, reduce)
    power = 1 / FOCAL_TVERSKY_GAMMA
    root = (_one_less_tversky(areas).clamp_min(0) + ROOT_FLOOR) ** power - ROOT_FLOOR**power
    return _loss(root, areas, weight, reduce)


def lovasz(logits: Tensor, target: Tensor, weight: Tensor, *, reduce: Reduce = "batch") -> Tensor:
    """Lovász hinge: the convex extension of 1 − IoU, over the hinge errors max(0, 1 ∓ logit).

    Errors in falling order, each times what the weighted IoU loses when that pixel too is wrong.
    Source: Berman et al., arXiv 1705.08790, algorithm 1. On logits, so that it has
    a gradient wherever a pixel is wrong, however sure; 0 where all logits are right by 1 or more.

    A defect pixel and a good one at logit 0, both with an error of 1: 1 − IoU when both are wrong.

    >>> target = torch.tensor([[[[1.0, 0.0]]]])
    >>> lovasz(torch.zeros_like(target), target, torch.ones_like(target)).item()
    1.0
    """
    sign = 2 * target - 1
    error = grouped((1 - full(logits) * sign).clamp_min(0), reduce)
    truth, count = grouped(weight * target, reduce), grouped(weight, reduce)
    order = error.detach().argsort(dim=1, descending=True)
    with torch.no_grad():
        hit, counted = truth.gather(1, order), count.gather(1, order)
        defect = truth.sum(dim=1, keepdim=True)
        # When the pixels up to this one are wrong: I / U of what is left and what is claimed.
        intersection = defect - hit.cumsum(dim=1)
        union = defect + (counted - hit).cumsum(dim=1)
        before = union - (counted - hit)
        # IoU before this pixel minus IoU after it, without the rounding of a difference.
        gain = hit / before.clamp_min(1e-12)
        gain += (counted - hit) * intersection / (before * union).clamp_min(1e-12)
        gain = torch.zeros_like(gain).scatter_(1, order, gain)
        mean = count / count.sum(dim=1, keepdim=True).clamp_min(1e-12)
        factor = torch.where(defect > 0, gain, mean)
    return mean_over_groups((error * factor).sum(dim=1), count)


def _areas(logits: Tensor, target: Tensor, weight: Tensor, reduce: Reduce) -> Areas:
    claimed = weight * torch.sigmoid(full(logits))
    hit = grouped(claimed * target, reduce).sum(dim=1)
    defect = grouped(weight * target, reduce).sum(dim=1)
    claim = grouped(claimed, reduce).sum(dim=1)
    return Areas(hit, claim - hit, defect - hit, grouped(weight, reduce).sum(dim=1))


def _one_less_tversky(areas: Areas) -> Tensor:
    tp, fp, fn, _ = areas
    return 1 - (tp + SMOOTH) / (tp + FALSE_POSITIVE * fp + FALSE_NEGATIVE * fn + SMOOTH)


def _loss(overlap: Tensor, areas: Areas, weight: Tensor, reduce: Reduce) -> Tensor:
    """``overlap``, (groups,), where there are defect pixels; the false area where there are none."""
    tp, fp, fn, everything = areas
    false_share = fp / everything.clamp_min(1e-12)
    loss = torch.where((tp + fn).detach() > 0, overlap, false_share)
    return mean_over_groups(loss, grouped(weight, reduce))
