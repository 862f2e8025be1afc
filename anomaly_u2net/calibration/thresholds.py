"""What a threshold is: a number with its rule, its parameters and its promise."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, TypeGuard, get_args

from anomaly_u2net.errors import CalibrationError

Rule: TypeAlias = Literal[
    "false_reject",
    "missed_defects",
    "any_missed",
    "both",
    "pixel_false_share",
    "cross_conformal",
    "cost",
    "best_f1",
    "mean_sigma",
    "given",
]
RULES: tuple[str, ...] = get_args(Rule)
#: The rules that can make an image threshold, and a pixel threshold, in `calibrate_category`.
#: "cross_conformal" is of `calibrate_scores` alone: it needs the scores of K models.
IMAGE_RULES = (
    "false_reject",
    "missed_defects",
    "both",
    "cost",
    "best_f1",
    "mean_sigma",
    "given",
    "cross_conformal",
)
PIXEL_RULES = (
    "false_reject",
    "pixel_false_share",
    "missed_defects",
    "any_missed",
    "best_f1",
    "mean_sigma",
)
#: The rules that promise no rate.
NO_GUARANTEE = ("cost", "best_f1", "mean_sigma", "given")

#: What the rule given measures, rates that may be 0 or 1; see `given_threshold`.
_MEASURED = tuple(
    name
    for side in ("false_reject", "missed")
    for name in (
        f"observed_{side}",
        f"{side}_upper_95",
        f"{side}_upper_delta",
        f"{side}_upper_looked_95",
        f"{side}_upper_looked_delta",
    )
)
#: The parameters that a rule may have, and those that must be rates in (0, 1).
PARAMETERS = (
    "alpha",
    "beta",
    "delta",
    "attained_alpha",
    "attained_beta",
    "overkill",
    "escape",
    "defect_rate",
    "sigmas",
    "folds",
    "aimed_alpha",
    *_MEASURED,
)
_RATES = ("alpha", "beta", "delta", "attained_alpha", "attained_beta", "defect_rate", "aimed_alpha")


@dataclass(frozen=True, slots=True)
class Threshold:
    """A threshold on scores and where it comes from; defect is ``score > value``.

    rule: one of `RULES`. promise: what the rule says of new images, in one sentence.
    n: the units it rests on: held-out images, or groups of images of one part (``unit``); only the
    good ones for false rejects, only the defective ones for missed defects. When one threshold keeps
    both promises, the smaller of the two numbers.
    parameters: what was asked for, by name: alpha (false rejects), beta (missed defects), delta
    (present when the promise holds with confidence 1 − delta, absent when it holds on average),
    overkill, escape, defect_rate (cost), sigmas, folds; for the rule both also what came of it,
    attained_alpha and attained_beta; for cross_conformal the rate that its rank aims at,
    aimed_alpha; for the rule given what was seen, and its bounds (`given_threshold` names them).
    attained: the rate that is promised; above the one asked for only when a weaker promise was
    allowed. The higher of the two for the rule both. None where no rate is promised.
    false_reject_upper: with 95 % confidence at most this share of good units is above the value.
    Exact (Clopper–Pearson) where the rule fixed its rank before it saw a good score, or never saw
    one; uniform over all thresholds (Massart) where the good scores chose it, or may have (given).
    None if unknown. false_reject_unit: what it counts, good images or groups of them; None without
    the bound, and in files from before it was written.

    Raises CalibrationError for a value, rate or n that no rule gives.
    """

    value: float
    rule: Rule
    promise: str
    n: int
    parameters: dict[str, float] = field(default_factory=dict)
    attained: float | None = None
    false_reject_upper: float | None = None
    unit: Literal["image", "group"] = "image"
    false_reject_unit: Literal["image", "group"] | None = None

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
        if self.unit not in ("image", "group"):
            raise CalibrationError(f"a threshold's unit must be image or group, got {self.unit!r}")
        if self.false_reject_unit not in ("image", "group", None):
            raise CalibrationError(
                "a threshold's false_reject_unit must be image, group or null, "
                f"got {self.false_reject_unit!r}"
            )
        self._check_parameters()
        self._check_rates()

    def _check_parameters(self) -> None:
        if not isinstance(self.parameters, dict):
            raise CalibrationError(
                f"a threshold's parameters must be a table, got {self.parameters!r}"
            )
        for name, value in self.parameters.items():
            if name not in PARAMETERS:
                raise CalibrationError(
                    f"a threshold's parameters are of {', '.join(PARAMETERS)}, got {name!r}"
                )
            if not _is_number(value) or not (
                (0.0 < value < 1.0 or name not in _RATES)
                and (0.0 <= value <= 1.0 or name not in _MEASURED)
            ):
                rate = name in _RATES or name in _MEASURED
                kind = "a rate between 0 and 1" if rate else "a finite number"
                raise CalibrationError(f"a threshold's {name} must be {kind}, got {value!r}")

    def _check_rates(self) -> None:
        if self.rule in NO_GUARANTEE:
            if self.attained is not None:
                raise CalibrationError(
                    f"the rule {self.rule} promises no rate, so attained must be null, "
                    f"got {self.attained!r}"
                )
        elif not (_is_number(self.attained) and 0.0 < self.attained <= 1.0):
            raise CalibrationError(
                f"a threshold's attained must be a rate between 0 and 1, got {self.attained!r}"
            )
        upper = self.false_reject_upper
        if upper is not None and not (_is_number(upper) and 0.0 <= upper <= 1.0):
            raise CalibrationError(
                f"a threshold's false_reject_upper must be a rate or null, got {upper!r}"
            )


@dataclass(frozen=True, slots=True)
class CategoryThresholds:
    """What one category is judged by: a threshold on image scores and one on pixel scores.

    pixel: None when only image scores were calibrated (`calibrate_scores`).
    image_best_f1 and pixel_best_f1 are kept beside them for comparison; None where no defective
    image was held out.
    review: the lower image threshold, when there are two: above it and not above ``image`` is
    REVIEW. None when there is only OK and NG.

    Raises CalibrationError for a review threshold that is not below the image threshold.
    """

    image: Threshold
    pixel: Threshold | None
    image_best_f1: Threshold | None = None
    pixel_best_f1: Threshold | None = None
    review: Threshold | None = None

    def __post_init__(self) -> None:
        if self.review is not None and not self.review.value < self.image.value:
            raise CalibrationError(
                f"the review threshold must be below the image threshold {self.image.value}, "
                f"got {self.review.value}"
            )


def _is_number(value: object) -> TypeGuard[float]:
    """Whether ``value`` is a finite number that fits a float, and not a bool."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max
