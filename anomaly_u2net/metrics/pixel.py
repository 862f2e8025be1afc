"""Pixel metrics over a set of images: exact AUROC, average precision, F1-max and AUPRO.

Call `pixel_curve` once and read every number from it; the functions below it are for one number.
The map and the mask of an image agree in size; sizes may differ between images. The pixels of all
images are pooled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anomaly_u2net.metrics.checks import check_numbers, check_pair
from anomaly_u2net.metrics.curves import BestF1, Floats, PixelCurve, count_ranks
from anomaly_u2net.metrics.regions import label_regions

#: N arrays (H, W), or one array (N, H, W).
Planes: TypeAlias = Sequence[ArrayLike] | NDArray[Any]


def pixel_curve(maps: Planes, masks: Planes) -> PixelCurve:
    """Count once, from N maps and N masks, all that the pixel metrics need.

    maps: N float arrays (H, W), finite, on any scale. They are compared as float32; if any map is
    float64, all are compared as float64. Nothing is rounded.
    masks: N bool or integer arrays (H, W), nonzero = defect, all zero for a good image.

    While it runs it holds a copy of the good pixels; the curve holds some 40 bytes a defect pixel.

    Raises MapError for unequal numbers, wrong shapes or types, NaN or infinity (naming the image),
    NotComputable for no images. Without defect pixels, or without good ones, there is a curve, and
    the numbers that are undefined for it raise.

    >>> maps = np.array([[[0.9, 0.8, 0.2, 0.1]], [[0.7, 0.1, 0.1, 0.0]]])
    >>> masks = np.array([[[1, 0, 0, 1]], [[0, 0, 0, 0]]])
    >>> curve = pixel_curve(maps, masks)
    >>> curve.positives, curve.negatives, curve.regions
    (2, 6, 2)
    >>> curve.auroc(), curve.ap(), round(curve.f1_max(), 4), curve.aupro(fpr_limit=0.3)
    (0.6666666666666666, 0.6428571428571428, 0.6667, 0.5)
    """
    check_numbers(maps, masks)
    planes = [np.asarray(plane) for plane in maps]
    wide = any(plane.dtype.itemsize == 8 for plane in planes)
    values, shares, regions = _defect_pixels(planes, masks)
    values = values.astype(np.float64 if wide else np.float32, copy=False)
    scores, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    overlap = np.bincount(place, shares, minlength=scores.size)[::-1] / max(regions, 1)
    tp = np.cumsum(counts[::-1])
    negatives = sum(plane.size for plane in planes) - values.size
    del values, shares, place, counts  # before the large array: they can weigh as much
    good = np.empty(negatives, scores.dtype)
    _fill_good_pixels(good, planes, masks)
    return PixelCurve(*count_ranks(good, scores, tp), overlap=overlap, regions=regions)


def pixel_auroc(maps: Planes, masks: Planes) -> float:
    """Area under the ROC curve of all pixels; see `RankCurve.auroc` and `pixel_curve`.

    >>> pixel_auroc([np.array([[0.9, 0.1, 0.4]])], [np.array([[1, 0, 0]])])
    1.0
    """
    return pixel_curve(maps, masks).auroc()


def pixel_ap(maps: Planes, masks: Planes) -> float:
    """Average precision of all pixels; see `RankCurve.ap` and `pixel_curve`.

    >>> pixel_ap([np.array([[0.4, 0.1, 0.9]])], [np.array([[1, 0, 0]])])
    0.5
    """
    return pixel_curve(maps, masks).ap()


def pixel_f1_max(maps: Planes, masks: Planes) -> float:
    """The highest F1 of all pixels at any threshold; see `RankCurve.best_f1` and `pixel_curve`.

    >>> pixel_f1_max([np.array([[0.4, 0.1, 0.9, 0.5]])], [np.array([[1, 0, 1, 1]])])
    1.0
    """
    return pixel_curve(maps, masks).f1_max()


def pixel_best_f1(maps: Planes, masks: Planes) -> BestF1:
    """`pixel_f1_max` with the threshold that reaches it (defect is ``score > threshold``).

    >>> best = pixel_best_f1([np.array([[0.4, 0.1, 0.9, 0.5]])], [np.array([[1, 0, 1, 1]])])
    >>> best.value, best.threshold < 0.4, round(best.threshold, 6)
    (1.0, True, 0.4)
    """
    return pixel_curve(maps, masks).best_f1()


def aupro(maps: Planes, masks: Planes, *, fpr_limit: float = 0.3) -> float:
    """Area under the per-region-overlap curve up to ``fpr_limit``; see `PixelCurve.aupro`.

    Two regions, one found above every good pixel and one below:

    >>> aupro([np.array([[0.9, 0.5, 0.1]])], [np.array([[1, 0, 1]])])
    0.5
    """
    return pixel_curve(maps, masks).aupro(fpr_limit=fpr_limit)


def _defect_pixels(
    planes: list[NDArray[Any]], masks: Planes
) -> tuple[Floats, NDArray[np.float64], int]:
    """Check all images; return the P defect pixels' scores, 1 / area of the region of each, and R.

    Each image is named in errors by its place, from 0.
    """
    found: list[Floats] = [np.zeros(0, np.float32)]
    shares: list[NDArray[np.float64]] = [np.zeros(0)]
    regions = 0
    for index, (plane, mask) in enumerate(zip(planes, masks, strict=True)):
        score_map, defect = check_pair(plane, mask, index=index)
        if defect.any():
            labels, number = label_regions(defect)
            label = labels[defect]
            area = np.bincount(label, minlength=number + 1)[1:]
            found.append(score_map[defect])
            shares.append((1.0 / area)[label - 1])
            regions += number
    return np.concatenate(found), np.concatenate(shares), regions


def _fill_good_pixels(good: Floats, planes: list[NDArray[Any]], masks: Planes) -> None:
    """Write the scores of the N good pixels of checked images into ``good``, (N,)."""
    filled = 0
    for plane, mask in zip(planes, masks, strict=True):
        pixels = plane[np.asarray(mask) == 0]
        good[filled : filled + pixels.size] = pixels
        filled += pixels.size
