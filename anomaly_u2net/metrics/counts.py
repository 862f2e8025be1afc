"""Segmentation at one threshold: counts of pixels that add up over images, then F1 and IoU."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from anomaly_u2net.errors import NotComputable
from anomaly_u2net.metrics.checks import check_pair, check_threshold


@dataclass(frozen=True, slots=True)
class SegmentationCounts:
    """Pixels of one image or, added up, of many.

    tp: defect and found. fp: good and taken for defect. fn: defect and missed.

    >>> SegmentationCounts(tp=1, fp=2, fn=3) + SegmentationCounts(tp=1)
    SegmentationCounts(tp=2, fp=2, fn=3)
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0

    def __add__(self, other: SegmentationCounts) -> SegmentationCounts:
        return SegmentationCounts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)


def segmentation_counts(
    score_map: ArrayLike, mask: ArrayLike, *, threshold: float
) -> SegmentationCounts:
    """Count one image's pixels, defect being predicted where ``score > threshold``.

    score_map: float (H, W). mask: bool or integer (H, W), nonzero = defect.
    Raises MapError for other types, unequal shapes, NaN or infinity; InputError for a NaN threshold.
    Sum over images with ``sum(counts, SegmentationCounts())``.

    >>> segmentation_counts(np.array([[0.9, 0.5, 0.7]]), np.array([[1, 1, 0]]), threshold=0.5)
    SegmentationCounts(tp=1, fp=1, fn=1)
    """
    scores, defect = check_pair(score_map, mask)
    predicted = scores > check_threshold(threshold)
    tp = int(np.count_nonzero(predicted & defect))
    return SegmentationCounts(
        tp=tp,
        fp=int(np.count_nonzero(predicted)) - tp,
        fn=int(np.count_nonzero(defect)) - tp,
    )


def f1(counts: SegmentationCounts) -> float:
    """F1 = 2TP / (2TP + FP + FN), pooled over the images counted.

    Raises NotComputable when no defect pixel was counted: recall is then undefined.

    >>> f1(SegmentationCounts(tp=2, fp=1, fn=1))
    0.6666666666666666
    """
    _need_defects("F1", counts)
    return 2 * counts.tp / (2 * counts.tp + counts.fp + counts.fn)


def iou(counts: SegmentationCounts) -> float:
    """Intersection over union of the defect, TP / (TP + FP + FN), pooled over the images counted.

    Raises NotComputable when no defect pixel was counted, as `f1` does.

    >>> iou(SegmentationCounts(tp=2, fp=1, fn=1))
    0.5
    """
    _need_defects("IoU", counts)
    return counts.tp / (counts.tp + counts.fp + counts.fn)


def class_mean_iou(counts: SegmentationCounts, *, pixels: int) -> float:
    """The mean of the IoU of the defect and that of the background: mIoU of two classes, pooled.

    pixels: of all images counted. The background's is TN / (TN + FP + FN). Where it is most of the
    image, the mean is just under 0.5 for nothing found, and near 0 for everything taken for defect.
    Raises NotComputable when no defect pixel was counted, or no good one.

    >>> class_mean_iou(SegmentationCounts(tp=2, fp=1, fn=1), pixels=8)  # 2 of 4, and 4 of 6
    0.5833333333333333
    """
    _need_defects("mIoU", counts)
    if pixels <= counts.tp + counts.fn:
        raise NotComputable(f"mIoU is undefined without a good pixel: all {pixels} are defective")
    good = pixels - counts.tp - counts.fp - counts.fn
    return (iou(counts) + good / (pixels - counts.tp)) / 2


def mean_f1(counts: Iterable[SegmentationCounts]) -> float:
    """The mean over images of their own F1 (= Dice); every defective image weighs the same.

    Images without a defect pixel have no F1 and are left out: their false alarms count in the
    pooled `f1`. Raises NotComputable when no image has a defect pixel.

    >>> mean_f1([SegmentationCounts(tp=2), SegmentationCounts(fn=3), SegmentationCounts(fp=9)])
    0.5
    """
    return _mean("the mean F1 of images", f1, counts)


def mean_iou(counts: Iterable[SegmentationCounts]) -> float:
    """The mean over images of their own IoU, as `mean_f1`.

    >>> mean_iou([SegmentationCounts(tp=2, fp=2), SegmentationCounts(fn=3)])
    0.25
    """
    return _mean("the mean IoU of images", iou, counts)


def _mean(
    name: str,
    number: Callable[[SegmentationCounts], float],
    counts: Iterable[SegmentationCounts],
) -> float:
    values = [number(one) for one in counts if one.tp + one.fn]
    if not values:
        raise NotComputable(f"{name} is undefined: no image has a defect pixel")
    return sum(values) / len(values)


def _need_defects(number: str, counts: SegmentationCounts) -> None:
    if counts.tp + counts.fn == 0:
        raise NotComputable(
            f"{number} is undefined without a defect pixel in the masks "
            f"({counts.fp} good pixels were taken for defect)"
        )
