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

    It grows with the size of the defect, so a large faint stain counts for more than a small one;
    a defect that stays below the threshold counts for nothing. All images without a pixel above it
    tie at 0. The threshold has to be fixed before the images are scored.
    Raises MapError as `check_map` does, InputError for a NaN threshold.

    >>> area_above(np.array([[0.25, 0.75], [0.5, 0.0]]), threshold=0.25)
    0.5
    """
    checked = check_map(score_map)
    return int(np.count_nonzero(checked > check_threshold(threshold))) / checked.size


def image_score(name: str) -> Callable[[ArrayLike], float]:
    """The image score of this name, as a recipe says it: "max", "topk_mean" or "area_above:0.5".

    The number after the colon is the level above which a pixel counts. Raises InputError for
    another name, or for a level that is not a number between 0 and 1.

    >>> image_score("area_above:0.25")(np.array([[0.25, 0.75], [0.5, 0.0]]))
    0.5
    """
    if name in IMAGE_SCORES:
        return IMAGE_SCORES[name]
    rule, _, level = name.partition(":")
    if rule != "area_above":
        known = ", ".join([*IMAGE_SCORES, "area_above:LEVEL"])
        raise InputError(f"expected an image score, one of {known}, got {name!r}")
    try:
        threshold = float(level)
    except ValueError:
        threshold = math.nan
    if not 0.0 < threshold < 1.0:
        raise InputError(
            f"expected area_above with a level between 0 and 1, as area_above:0.5, got {name!r}"
        )
    return partial(area_above, threshold=threshold)


#: The image scores that need nothing but the map.
IMAGE_SCORES: dict[str, Callable[[ArrayLike], float]] = {
    "max": max_score,
    "topk_mean": topk_mean,
}
