"""From a score map to one score for the image."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from anomaly_u2net.errors import InputError
from anomaly_u2net.metrics.checks import check_map, check_threshold

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


def area_above(score_map: ArrayLike, *, threshold: float) -> float:
    """The share of the pixels of a map (H, W) with ``score > threshold``, 0..1.

    The threshold is the pixel threshold of a calibration; without one that is held fixed the score
    means nothing. All good images without a pixel above it tie at 0.
    Raises MapError as `check_map` does, InputError for a NaN threshold.

    >>> area_above(np.array([[0.25, 0.75], [0.5, 0.0]]), threshold=0.25)
    0.5
    """
    checked = check_map(score_map)
    return int(np.count_nonzero(checked > check_threshold(threshold))) / checked.size


def image_score(name: str, *, threshold: float | None = None) -> Callable[[ArrayLike], float]:
    """The image score of this name: "max", "topk_mean", or "area_above" with its ``threshold``.

    Raises InputError for another name, for "area_above" without a threshold and for the others
    with one.

    >>> image_score("area_above", threshold=0.25)(np.array([[0.25, 0.75], [0.5, 0.0]]))
    0.5
    """
    if name == "area_above":
        if threshold is None:
            raise InputError("the image score area_above needs a threshold on pixel scores")
        return partial(area_above, threshold=check_threshold(threshold))
    if name not in IMAGE_SCORES:
        known = ", ".join([*IMAGE_SCORES, "area_above"])
        raise InputError(f"expected an image score, one of {known}, got {name!r}")
    if threshold is not None:
        raise InputError(f"the image score {name} takes no threshold, got {threshold}")
    return IMAGE_SCORES[name]


#: The image scores a recipe can name; they need nothing but the map.
IMAGE_SCORES: dict[str, Callable[[ArrayLike], float]] = {
    "max": max_score,
    "topk_mean": topk_mean,
}
