"""The thresholds of one category, each with its rule and its promise."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeGuard, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anomaly_u2net.calibration.rules import (
    conformal_rank,
    false_reject_threshold,
    needed_images,
    smallest_false_reject,
)
from anomaly_u2net.errors import CalibrationError, InputError
from anomaly_u2net.metrics import BestF1, image_best_f1, pixel_best_f1
from anomaly_u2net.metrics.checks import check_pair, check_scores

Rule: TypeAlias = Literal["false_reject", "best_f1"]
RULES: tuple[str, ...] = get_args(Rule)

_EVENTS = {"image": "be rejected", "pixel": "have any pixel marked"}


@dataclass(frozen=True, slots=True)
class Threshold:
    """A threshold on scores and where it comes from; defect is ``score > value``.

    rule: "false_reject" (split conformal) or "best_f1" (no guarantee).
    promise: what the rule says of new images, in one sentence.
    n: the held-out images it rests on (only the good ones for "false_reject").
    wanted, attained: false-reject rates as fractions, asked for and promised; attained is above
    wanted only when a weaker promise was allowed. Both None for "best_f1".

    Raises CalibrationError for a value, rate or n that no rule gives.
    """

    value: float
    rule: Rule
    promise: str
    n: int
    wanted: float | None
    attained: float | None

    def __post_init__(self) -> None:
        if not _is_number(self.value):
            raise CalibrationError(
                f"a threshold's value must be a finite number, got {self.value!r}"
            )
        if self.rule not in RULES:
            raise CalibrationError(
                f"a threshold's rule must be one of {', '.join(RULES)}, got {self.rule!r}"
            )
        if not isinstance(self.promise, str) or not self.promise:
            raise CalibrationError(f"a threshold's promise must be text, got {self.promise!r}")
        if not isinstance(self.n, int) or isinstance(self.n, bool) or self.n < 1:
            raise CalibrationError(
                f"a threshold's n must be a whole number of images, 1 or more, got {self.n!r}"
            )
        for name, rate in (("wanted", self.wanted), ("attained", self.attained)):
            if self.rule == "best_f1" and rate is not None:
                raise CalibrationError(
                    f"the rule best_f1 promises no rate, so {name} must be null, got {rate!r}"
                )
            if self.rule == "false_reject" and not (_is_number(rate) and 0.0 < rate < 1.0):
                raise CalibrationError(
                    f"a threshold's {name} must be a rate between 0 and 1, got {rate!r}"
                )


@dataclass(frozen=True, slots=True)
class CategoryThresholds:
    """What one category is judged by: a threshold on image scores and one on pixel scores.

    image_best_f1 and pixel_best_f1 are kept beside them for comparison; None where no defective
    image was held out.
    """

    image: Threshold
    pixel: Threshold
    image_best_f1: Threshold | None
    pixel_best_f1: Threshold | None


def calibrate_category(
    image_scores: ArrayLike,
    maps: Sequence[ArrayLike],
    masks: Sequence[ArrayLike],
    *,
    false_reject: float = 0.05,
    allow_weaker: bool = False,
    pixel_rule: Rule = "false_reject",
) -> CategoryThresholds:
    """Thresholds of one category from all its N held-out images, good and defective.

    image_scores: (N,). maps: N float arrays (H, W), the scores. masks: N bool or integer arrays
    (H, W), nonzero = defect; an image is good when its mask is empty.

    The image threshold is `false_reject_threshold` on the scores of the good images. The pixel
    threshold is the same rule on the highest pixel of each good image: in at most a fraction
    ``false_reject`` of good images is any pixel marked. With ``pixel_rule="best_f1"`` it is the
    threshold of highest F1 over all held-out pixels instead, which promises nothing. With
    ``allow_weaker``, too few good images give the smallest rate they can promise, and say so.

    Raises CalibrationError without good images, with too few of them for ``false_reject``, or for
    "best_f1" without defects; InputError for other unusable values; MapError for unusable maps.

    >>> maps = [np.full((2, 2), score, np.float32) for score in (0.125, 0.25, 0.5, 0.875)]
    >>> masks = [np.zeros((2, 2), bool)] * 3 + [np.ones((2, 2), bool)]
    >>> thresholds = calibrate_category([0.1, 0.2, 0.5, 0.9], maps, masks, false_reject=0.25)
    >>> thresholds.image.value, thresholds.pixel.value
    (0.5, 0.5)
    >>> thresholds.pixel.promise
    'Of new good images like the 3 held out, at most 25 % are expected to have any pixel marked
     (split conformal).'
    """
    if pixel_rule not in RULES:
        raise InputError(f"expected a pixel rule, one of {', '.join(RULES)}, got {pixel_rule!r}")
    scores, peaks, defective = _look_at(image_scores, maps, masks)
    good = ~defective
    if not good.any():
        raise CalibrationError(
            f"none of the {good.size} held-out images is good (has an empty mask); "
            "a false-reject rate is measured on good images: hold some out"
        )
    image = _conformal("image", scores[good], wanted=false_reject, allow_weaker=allow_weaker)
    pixel = _conformal("pixel", peaks[good], wanted=false_reject, allow_weaker=allow_weaker)
    if not defective.any():
        if pixel_rule == "best_f1":
            raise CalibrationError(
                f"the pixel rule best_f1 needs defects, but all {good.size} held-out images are "
                "good; hold out defective images with masks, or use the rule false_reject"
            )
        return CategoryThresholds(image, pixel, None, None)

    image_f1 = _best_f1("image", image_best_f1(scores, defective), defective)
    pixel_f1 = _best_f1("pixel", pixel_best_f1(maps, masks), defective)
    return CategoryThresholds(
        image=image,
        pixel=pixel_f1 if pixel_rule == "best_f1" else pixel,
        image_best_f1=image_f1,
        pixel_best_f1=pixel_f1,
    )


def _look_at(
    image_scores: ArrayLike, maps: Sequence[ArrayLike], masks: Sequence[ArrayLike]
) -> tuple[NDArray[np.floating[Any]], NDArray[np.float64], NDArray[np.bool_]]:
    """Checked image scores (N,), the highest pixel of each map (N,), true where defective (N,)."""
    number = np.size(image_scores)
    if not number == len(maps) == len(masks):
        raise InputError(
            f"expected one score, one map and one mask per held-out image, "
            f"got {number} scores, {len(maps)} maps and {len(masks)} masks"
        )
    if number == 0:
        raise CalibrationError("there are no held-out images to calibrate on; hold some out")
    peaks, defective = np.empty(number), np.empty(number, bool)
    for index, (plane, mask) in enumerate(zip(maps, masks, strict=True)):
        score_map, defect = check_pair(plane, mask, index=index)
        peaks[index], defective[index] = score_map.max(), defect.any()
    scores, _ = check_scores(image_scores, defective)
    return scores, peaks, defective


def _conformal(
    what: str, scores: NDArray[np.floating[Any]], *, wanted: float, allow_weaker: bool
) -> Threshold:
    n = int(scores.size)
    weaker = allow_weaker and n < needed_images(wanted)
    alpha = smallest_false_reject(n) if weaker else wanted
    attained = (n + 1 - conformal_rank(n, alpha=alpha)) / (n + 1)
    promise = (
        f"Of new good images like the {n} held out, at most {_percent(alpha)} "
        f"are expected to {_EVENTS[what]} (split conformal)."
    )
    if weaker:
        promise = (
            f"Weaker than the {_percent(wanted)} asked for, which needs {needed_images(wanted)} "
            f"good images: of new good images like the {n} held out, at most {_percent(alpha)} "
            f"are expected to {_EVENTS[what]} (split conformal)."
        )
    value = false_reject_threshold(scores, alpha=alpha)
    return Threshold(value, "false_reject", promise, n, float(wanted), attained)


def _best_f1(what: str, best: BestF1, defective: NDArray[np.bool_]) -> Threshold:
    n = int(defective.size)
    promise = (
        f"No guarantee: the highest {what} F1 ({best.value:.4f}) on the {n} held-out images, "
        f"{np.count_nonzero(defective)} of them defective; expect less on new images."
    )
    return Threshold(best.threshold, "best_f1", promise, n, None, None)


def _percent(rate: float) -> str:
    return f"{100 * rate:.3g} %"


def _is_number(value: object) -> TypeGuard[float]:
    """Whether ``value`` is a finite number that fits a float, and not a bool."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max
