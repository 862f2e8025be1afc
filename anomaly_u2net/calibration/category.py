"""The thresholds of one category from its held-out score maps and masks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anomaly_u2net.calibration.checks import Floats, Groups, group_index, percent
from anomaly_u2net.calibration.cost import Costs
from anomaly_u2net.calibration.habits import pixel_mean_sigma
from anomaly_u2net.calibration.miss import region_peaks
from anomaly_u2net.calibration.pixel_share import pixel_false_share
from anomaly_u2net.calibration.promises import (
    Ask,
    Held,
    best_f1_threshold,
    false_reject_threshold,
    image_thresholds,
    known_groups,
    mean_sigma_threshold,
    missed_threshold,
)
from anomaly_u2net.calibration.reject import needed_images, smallest_false_reject
from anomaly_u2net.calibration.thresholds import (
    IMAGE_RULES,
    PIXEL_RULES,
    CategoryThresholds,
    Threshold,
)
from anomaly_u2net.errors import CalibrationError, InputError
from anomaly_u2net.metrics import pixel_best_f1
from anomaly_u2net.metrics.checks import check_pair, check_scores


def calibrate_category(
    image_scores: ArrayLike,
    maps: Sequence[ArrayLike],
    masks: Sequence[ArrayLike],
    *,
    rule: str = "false_reject",
    pixel_rule: str = "false_reject",
    false_reject: float = 0.05,
    missed: float = 0.05,
    delta: float | None = None,
    costs: Costs | None = None,
    sigmas: float = 3.0,
    groups: Groups | None = None,
    allow_weaker: bool = False,
) -> CategoryThresholds:
    """Thresholds of one category from all its N held-out images, good and defective.

    image_scores: (N,). maps: N float arrays (H, W), the scores. masks: N bool or integer arrays
    (H, W), nonzero = defect; an image is good when its mask is empty.
    groups: (N,), which part each image shows (None: a part by itself); parts then count, not images.

    rule: one of `IMAGE_RULES`, on the image scores. pixel_rule: one of `PIXEL_RULES`; there
    "false_reject" is the rule on the highest pixel of each good image (in at most that share of
    good images is any pixel marked), "pixel_false_share" bounds the expected share of marked pixels
    of a good image, "missed_defects" and "any_missed" look at the highest score of each region.
    false_reject: alpha, for all but missed defects. missed: beta. delta: with it those promises
    hold with confidence 1 − delta ("pixel_false_share" has no such version), without it on average.
    costs: for "cost". sigmas: for "mean_sigma". With ``allow_weaker``, too few images give the
    smallest rate they can promise, and say so.

    Raises CalibrationError without (enough of) the images that the rule needs; InputError and
    MapError for other unusable values and maps.

    >>> maps = [np.full((2, 2), score, np.float32) for score in (0.125, 0.25, 0.5, 0.875)]
    >>> masks = [np.zeros((2, 2), bool)] * 3 + [np.ones((2, 2), bool)]
    >>> thresholds = calibrate_category([0.1, 0.2, 0.5, 0.9], maps, masks, false_reject=0.25)
    >>> thresholds.image.value, thresholds.pixel.value
    (0.5, 0.5)
    >>> thresholds.pixel.promise
    'Of new good images like the 3 held out, at most 25 % are expected to have any pixel marked
     (split conformal).'
    """
    check_rule(rule, IMAGE_RULES, what="rule")
    check_rule(pixel_rule, PIXEL_RULES, what="pixel rule")
    if pixel_rule == "pixel_false_share" and delta is not None:
        raise InputError(
            "the pixel rule pixel_false_share holds on average only: leave delta out, or use the "
            "pixel rule false_reject"
        )
    ask = Ask(false_reject, missed, delta, costs, sigmas, allow_weaker)
    scores, peaks, defective = _look_at(image_scores, maps, masks)
    good = ~defective
    group_index(groups, good.size)  # one group per image, or an error
    of_good, of_defects = known_groups(groups, good), known_groups(groups, defective)
    held = Held("image", scores[good], scores[defective], of_good, of_defects)
    image, review = image_thresholds(held, rule, ask)
    pairs = compress(zip(maps, masks, strict=True), defective)
    regions = [region_peaks(plane, mask) for plane, mask in pairs]
    pixels = Held("pixel", peaks[good], regions, of_good, of_defects)
    pixel_f1 = best_f1_threshold(pixels, best=pixel_best_f1(maps, masks)) if regions else None
    good_maps = list(compress(maps, good))
    return CategoryThresholds(
        image=image,
        pixel=_pixel_threshold(pixels, good_maps, pixel_rule, ask, best_f1=pixel_f1),
        image_best_f1=best_f1_threshold(held) if regions else None,
        pixel_best_f1=pixel_f1,
        review=review,
    )


def check_rule(rule: str, known: tuple[str, ...], *, what: str) -> None:
    """Raise InputError unless ``rule`` is one of the ``known``."""
    if rule not in known:
        raise InputError(f"expected a {what}, one of {', '.join(known)}, got {rule!r}")


def _pixel_threshold(
    pixels: Held,
    good_maps: list[ArrayLike],
    rule: str,
    ask: Ask,
    *,
    best_f1: Threshold | None,
) -> Threshold:
    if rule in ("missed_defects", "any_missed"):
        return missed_threshold(pixels, ask, any_defect=rule == "any_missed")
    if rule == "pixel_false_share":
        return _share_threshold(pixels, good_maps, ask)
    if rule == "mean_sigma":
        value = pixel_mean_sigma(good_maps, sigmas=ask.sigmas)
        return mean_sigma_threshold(pixels, ask, value=value)
    if rule == "best_f1":
        return best_f1 if best_f1 is not None else best_f1_threshold(pixels)
    return false_reject_threshold(pixels, ask)


def _share_threshold(pixels: Held, good_maps: list[ArrayLike], ask: Ask) -> Threshold:
    groups = pixels.good_groups
    n = group_index(groups, len(good_maps))[1]
    if n == 0:
        return false_reject_threshold(pixels, ask)  # which says that good images are missing
    needed = needed_images(ask.alpha)
    weaker = ask.allow_weaker and n < needed
    alpha = smallest_false_reject(n) if weaker else ask.alpha
    value = pixel_false_share(good_maps, alpha=alpha, groups=groups)
    noun = "image" if groups is None else "part"
    text = (
        f"of the pixels of a new good {noun} like the {n} held out, at most {percent(alpha)} are "
        "expected to be marked (conformal risk control)."
    )
    if weaker:
        text = (
            f"weaker than the {percent(ask.alpha)} asked for, which needs {needed} good {noun}s: "
            f"{text}"
        )
    return Threshold(
        value=value,
        rule="pixel_false_share",
        promise=text[0].upper() + text[1:],
        n=n,
        parameters={"alpha": float(ask.alpha)},
        attained=alpha,
        unit=pixels.unit,
    )


def _look_at(
    image_scores: ArrayLike, maps: Sequence[ArrayLike], masks: Sequence[ArrayLike]
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
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
    return scores.astype(np.float64), peaks, defective
