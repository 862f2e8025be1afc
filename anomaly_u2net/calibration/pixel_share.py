"""A pixel threshold by the share of a good image's pixels that it marks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anomaly_u2net.calibration.checks import Groups, allowed_loss, group_index
from anomaly_u2net.calibration.reject import conformal_rank
from anomaly_u2net.metrics.checks import check_map


def pixel_false_share(
    maps: Sequence[ArrayLike] | NDArray[Any], *, alpha: float, groups: Groups | None = None
) -> float:
    """The lowest pixel threshold whose expected share of marked pixels per good image is ≤ alpha.

    maps: n float arrays (H, W), finite, of held-out GOOD images; compared as float32 unless one is
    float64. groups: (n,), which part each image shows; then the mean share over a part's images.

    Conformal risk control (Angelopoulos et al., arXiv:2208.02814, theorem 1): with Lᵢ(t) the share
    of image i's pixels above t, the lowest t with (ΣLᵢ(t) + 1) / (n + 1) ≤ alpha. A new good image
    that is exchangeable with the n then has E[L(t)] ≤ alpha. The pixels of one image are not
    independent, so n counts images, and a share below 1 / (n + 1) cannot be promised.

    Found by bisection on the bits of the score: 32 (64) passes over the maps, no copy of them.

    Raises CalibrationError when n is too small (n ≥ ⌈1 / alpha⌉ − 1), MapError for bad maps.

    >>> plane = np.array([[0.1, 0.2], [0.3, 0.4]], np.float32)
    >>> round(pixel_false_share([plane] * 4, alpha=0.4), 6)  # Σ Lᵢ may be 5 × 0.4 − 1 = 1
    0.3
    """
    planes = [check_map(plane, name=f"map {i}") for i, plane in enumerate(maps)]
    index, number = group_index(groups, len(planes))
    conformal_rank(number, alpha=alpha, level="pixel")  # refuses what so few images cannot promise
    allowed = allowed_loss(number, alpha)
    weights = 1.0 / np.bincount(index)[index]
    wide = any(plane.dtype.itemsize == 8 for plane in planes)
    kind: type[np.floating[Any]] = np.float64 if wide else np.float32
    low = _to_key(kind(min(float(plane.min()) for plane in planes))) - 1
    high = _to_key(kind(max(float(plane.max()) for plane in planes)))
    while high - low > 1:  # too many pixels are above low, few enough above high
        middle = (low + high) // 2
        threshold = _from_key(middle, kind)
        marked = sum(
            weight * np.count_nonzero(plane > threshold) / plane.size
            for weight, plane in zip(weights, planes, strict=True)
        )
        low, high = (low, middle) if marked <= allowed else (middle, high)
    return float(_from_key(high, kind))


def _to_key(value: np.floating[Any]) -> int:
    """A whole number in the order of the floats: neighbours differ by one, and −0 is 0."""
    bits = value.itemsize * 8
    key = int(np.abs(value).view(f"i{bits // 8}"))
    return -key if value < 0 else key


def _from_key(key: int, kind: type[np.floating[Any]]) -> np.floating[Any]:
    whole = np.int64 if kind is np.float64 else np.int32
    magnitude = whole(abs(key)).view(kind)
    return -magnitude if key < 0 else magnitude
