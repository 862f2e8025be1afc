"""From a score map to one score for the image."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from anomaly_u2net.errors import InputError
from anomaly_u2net.metrics.checks import check_map

#: The fraction of an image's pixels that `topk_mean` averages: 1 in 1000, 66 pixels of 256 × 256.
TOP_FRACTION = 0.001


def max_score(score_map: ArrayLike) -> float:
    """The highest pixel of a map (H, W); raises MapError as `check_map` does.

    >>> max_score(np.array([[0.25, 0.75], [0.5, 0.0]]))
    0.75
    """
    return float(check_map(score_map).max())


def topk_mean(score_map: ArrayLike, *, fraction: float = TOP_FRACTION) -> float:
    """The mean of the k = max(1, ceil(fraction · H · W)) highest pixels of a map (H, W).

    A lone noisy pixel moves it less than it moves the maximum. Raises MapError as `check_map` does,
    InputError for a fraction outside (0, 1].

    >>> topk_mean(np.array([[0.25, 0.75], [0.5, 0.0]]), fraction=0.5)
    0.625
    """
    if not 0.0 < fraction <= 1.0:
        raise InputError(f"expected a fraction of the pixels in (0, 1], got {fraction}")
    pixels = check_map(score_map).ravel()
    k = max(1, math.ceil(fraction * pixels.size))
    return float(np.partition(pixels, pixels.size - k)[-k:].mean(dtype=np.float64))


#: The image scores a recipe can name.
IMAGE_SCORES: dict[str, Callable[[ArrayLike], float]] = {
    "max": max_score,
    "topk_mean": topk_mean,
}
