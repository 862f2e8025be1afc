"""Connected regions of masks and maps: 8-connected, so pixels that touch at a corner are one."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from anomaly_u2net.errors import InputError
from anomaly_u2net.metrics.checks import check_map, check_mask, check_threshold
from anomaly_u2net.types import Region


def label_regions(mask: ArrayLike) -> tuple[NDArray[np.int32], int]:
    """Number the R 8-connected regions of a mask: int32 labels (H, W), 0 for good, and R.

    mask: bool or integer (H, W), nonzero = defect. Raises MapError for another type or shape.

    >>> label_regions(np.array([[1, 0, 0, 1], [0, 1, 0, 1]]))
    (array([[1, 0, 0, 2], [0, 1, 0, 2]], dtype=int32), 2)
    """
    defect = check_mask(mask)
    number, labels = cv2.connectedComponents(_as_image(defect), connectivity=8)
    return np.asarray(labels, np.int32), int(number) - 1


def defect_regions(
    score_map: ArrayLike, *, threshold: float, min_area: int = 1
) -> tuple[Region, ...]:
    """The 8-connected regions where ``score > threshold``, largest first (ties: topmost first).

    score_map: float (H, W). min_area: pixels; smaller regions are left out.
    Raises MapError for a map of another type or shape or with NaN or infinity, InputError for a
    NaN threshold or a min_area below 1.

    >>> defect_regions(np.array([[0.9, 0.1, 0.2], [0.1, 0.6, 0.2], [0.1, 0.1, 0.1]]), threshold=0.5)
    (Region(area=2, box=(0, 0, 2, 2), centroid=(0.5, 0.5), peak=0.9),)
    """
    scores = check_map(score_map)
    if min_area < 1:
        raise InputError(f"expected a min_area of 1 pixel or more, got {min_area}")
    above = scores > check_threshold(threshold)
    number, labels, stats, centroids = cv2.connectedComponentsWithStats(
        _as_image(above), connectivity=8
    )
    peaks = np.full(number, -np.inf)
    np.maximum.at(peaks, labels[above].astype(np.intp), scores[above].astype(np.float64))
    areas = stats[:, cv2.CC_STAT_AREA]
    kept = [label for label in range(1, number) if areas[label] >= min_area]
    kept.sort(key=lambda label: -int(areas[label]))
    return tuple(
        Region(
            area=int(areas[label]),
            box=_box(stats[label]),
            centroid=(float(centroids[label, 0]), float(centroids[label, 1])),
            peak=float(peaks[label]),
        )
        for label in kept
    )


def _as_image(defect: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(defect).view(np.uint8)


def _box(row: NDArray[Any]) -> tuple[int, int, int, int]:
    left, top = int(row[cv2.CC_STAT_LEFT]), int(row[cv2.CC_STAT_TOP])
    return left, top, int(row[cv2.CC_STAT_WIDTH]), int(row[cv2.CC_STAT_HEIGHT])
