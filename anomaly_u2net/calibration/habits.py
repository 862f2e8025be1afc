"""Thresholds that others use and that promise nothing, to compare with.

The third habit, the threshold of highest F1, is in `anomaly_u2net.metrics` (`image_best_f1`,
`pixel_best_f1`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anomaly_u2net.calibration.checks import check_row
from anomaly_u2net.errors import CalibrationError, InputError
from anomaly_u2net.metrics.checks import check_map


def mean_sigma(scores: ArrayLike, *, sigmas: float = 3.0) -> float:
    """Mean + ``sigmas`` standard deviations of good scores (n,). NO GUARANTEE.

    The baseline of MVTec AD 2 (arXiv:2503.21622) with sigmas = 3. For a normal law 0.13 % of good
    scores exceed it; scores are not normal, and all that is true of any law is at most
    1 / (1 + sigmas²), 10 % (Cantelli), and that of the true mean and deviation only.

    Raises CalibrationError without scores, InputError for bad ones or sigmas that are not finite.

    >>> mean_sigma([1, 3], sigmas=2)
    4.0
    """
    values = check_row(scores)
    if values.size == 0:
        raise CalibrationError("mean + sigma needs good scores, got none")
    return float(values.mean() + _sigmas(sigmas) * values.std())


def pixel_mean_sigma(maps: Sequence[ArrayLike] | NDArray[Any], *, sigmas: float = 3.0) -> float:
    """The same over all pixels of n good maps (H, W), pooled. NO GUARANTEE.

    >>> pixel_mean_sigma([np.array([[1.0, 1.0]]), np.array([[3.0, 3.0]])], sigmas=2)
    4.0
    """
    if len(maps) == 0:
        raise CalibrationError("mean + sigma needs good maps, got none")
    planes = [check_map(plane, name=f"map {i}") for i, plane in enumerate(maps)]
    number = sum(plane.size for plane in planes)
    mean = sum(float(plane.sum(dtype=np.float64)) for plane in planes) / number
    square = sum(float(np.square(plane - mean, dtype=np.float64).sum()) for plane in planes)
    return mean + _sigmas(sigmas) * math.sqrt(square / number)


def _sigmas(sigmas: float) -> float:
    if not math.isfinite(sigmas):
        raise InputError(f"expected a finite number of standard deviations, got {sigmas}")
    return float(sigmas)
