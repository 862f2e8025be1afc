"""From a score map to one score for the image."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from anomaly_u2net.errors import InputError, MapError
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


def inside(
    score_map: ArrayLike, *, margin: int, score: Callable[[ArrayLike], float] = max_score
) -> float:
    """``score`` of a map (H, W) without the pixels nearer than ``margin`` to the image's edge.

    For parts whose outline or background shows there. A defect wholly in the margin counts for
    nothing, though the map still has it. Raises MapError as `check_map` does, and for a map of no
    more than 2 · margin pixels in height or width; InputError for a margin below 1.

    >>> inside(np.array([[0.9, 0.9, 0.9], [0.9, 0.2, 0.9], [0.9, 0.9, 0.9]]), margin=1)
    0.2
    """
    if margin < 1:
        raise InputError(f"expected a margin of 1 pixel or more, got {margin}")
    checked = check_map(score_map)
    if min(checked.shape) <= 2 * margin:
        raise MapError(
            f"expected an image larger than twice the margin of {margin} pixels that its score "
            f"leaves out, got one of {checked.shape[0]}×{checked.shape[1]} pixels: set a smaller "
            "margin in score.image_score"
        )
    return score(checked[margin:-margin, margin:-margin])


def image_score(name: str) -> Callable[[ArrayLike], float]:
    """The image score of this name, as a recipe says it: "max", "topk_mean" or "area_above:0.5".

    The number after the colon is the level above which a pixel counts. With " inside 12" behind it,
    the outermost 12 pixels do not count; see `inside`. Raises InputError for another name, for a
    level that is not a number between 0 and 1, or a margin that is not a whole number from 1.

    >>> image_score("area_above:0.25")(np.array([[0.25, 0.75], [0.5, 0.0]]))
    0.5
    >>> image_score("max inside 1")(np.array([[0.9, 0.9, 0.9], [0.9, 0.2, 0.9], [0.9, 0.9, 0.9]]))
    0.2
    """
    whole, margin = split_margin(name)
    if margin:
        return partial(inside, margin=margin, score=image_score(whole))
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


def split_margin(name: str) -> tuple[str, int]:
    """The rule of an image score's name and its margin in pixels, 0 where the whole map counts.

    Raises InputError for a margin that is not a whole number from 1.

    >>> split_margin("max inside 12"), split_margin("topk_mean")
    (('max', 12), ('topk_mean', 0))
    """
    rule, word, margin = name.partition(" inside ")
    if not word:
        return name, 0
    if not re.fullmatch(r"[1-9]\d*", margin):
        raise InputError(f"expected a margin in whole pixels, as max inside 12, got {name!r}")
    return rule, int(margin)


#: The image scores that need nothing but the map.
IMAGE_SCORES: dict[str, Callable[[ArrayLike], float]] = {
    "max": max_score,
    "topk_mean": topk_mean,
}
