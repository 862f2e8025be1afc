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
    pixels = PixelMoments()
    for index, plane in enumerate(maps):
        pixels.add(check_map(plane, name=f"map {index}"))
    return pixels.mean_sigma(sigmas)


class PixelMoments:
    """Mean and variance of the pixels of any number of maps, which are forgotten one by one.

    The two are updated map by map (Chan, Golub and LeVeque, Am. Stat. 37, 1983), in float64.
    """

    def __init__(self) -> None:
        self._number = 0
        self._mean = self._square = 0.0  # the squares of the distances from the mean, summed

    def add(self, plane: NDArray[np.floating[Any]]) -> None:
        """Take in one checked map (H, W)."""
        mean = float(plane.mean(dtype=np.float64))
        gap, number = mean - self._mean, self._number + plane.size
        self._square += float(np.square(plane - mean, dtype=np.float64).sum())
        self._square += gap * gap * self._number * plane.size / number
        self._mean += gap * plane.size / number
        self._number = number

    def mean_sigma(self, sigmas: float) -> float:
        """Mean + ``sigmas`` standard deviations; CalibrationError without maps."""
        if self._number == 0:
            raise CalibrationError("mean + sigma needs good maps, got none")
        return self._mean + _sigmas(sigmas) * math.sqrt(self._square / self._number)


def _sigmas(sigmas: float) -> float:
    if not math.isfinite(sigmas):
        raise InputError(f"expected a finite number of standard deviations, got {sigmas}")
    return float(sigmas)
