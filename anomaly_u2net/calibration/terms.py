"""What is asked of thresholds: the rules, the rates and how sure one wants to be."""

from __future__ import annotations

import math
from dataclasses import dataclass

from anomaly_u2net.calibration.checks import check_delta, check_rate
from anomaly_u2net.calibration.cost import Costs
from anomaly_u2net.calibration.thresholds import IMAGE_RULES, PIXEL_RULES
from anomaly_u2net.errors import InputError

#: The rules that have no version with a confidence.
ON_AVERAGE_ONLY = ("pixel_false_share", "cross_conformal")


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms that thresholds are made on; every default is here.

    rule: of the image threshold, one of `IMAGE_RULES`. pixel_rule: of the pixel threshold, one of
    `PIXEL_RULES`; there "false_reject" is the rule on the highest pixel of each good image (in at
    most that share of good images is any pixel marked), "pixel_false_share" bounds the expected
    share of marked pixels of a good image, "missed_defects" and "any_missed" look at the highest
    score of each region.
    false_reject: alpha, for all but missed defects. missed: beta. delta: with it those promises
    hold with confidence 1 − delta ("pixel_false_share" and "cross_conformal" have no such version),
    without it on average; for "given", the confidence of its bounds, 0.95 without it.
    costs: for "cost". sigmas: for "mean_sigma". threshold: on image scores, for "given".
    allow_weaker: too few images give the smallest rate they can promise, and the promise says so.

    Raises InputError for unknown rules, values out of range, and rules without what they need.

    >>> Terms(rule="both", missed=0.1, delta=0.05).missed
    0.1
    >>> Terms(false_reject=5)
    Traceback (most recent call last):
    ...
    anomaly_u2net.errors.InputError: expected a false-reject rate between 0 and 1, both excluded, ...
    """

    rule: str = "false_reject"
    pixel_rule: str = "false_reject"
    false_reject: float = 0.05
    missed: float = 0.05
    delta: float | None = None
    costs: Costs | None = None
    sigmas: float = 3.0
    threshold: float | None = None
    allow_weaker: bool = False

    def __post_init__(self) -> None:
        check_rule(self.rule, IMAGE_RULES, what="rule")
        check_rule(self.pixel_rule, PIXEL_RULES, what="pixel rule")
        check_rate(self.false_reject)
        check_rate(self.missed, what="rate of missed defects")
        if self.delta is not None:
            check_delta(self.delta)
            for rule in (self.rule, self.pixel_rule):
                if rule in ON_AVERAGE_ONLY:
                    raise InputError(
                        f"the rule {rule} holds on average only: leave delta out, or use the rule "
                        "false_reject"
                    )
        if self.rule == "cost" and self.costs is None:
            raise InputError(
                "the rule cost needs what an overkill and an escape cost and the line's defect "
                "rate: give costs=Costs(overkill, escape, defect_rate)"
            )
        if not math.isfinite(self.sigmas):
            raise InputError(f"expected a finite number of standard deviations, got {self.sigmas}")
        self._check_threshold()

    def _check_threshold(self) -> None:
        if self.rule == "given" and self.threshold is None:
            raise InputError("the rule given needs the threshold: give --threshold (threshold=)")
        if self.rule != "given" and self.threshold is not None:
            raise InputError(
                f"a threshold of one's own goes with the rule given, not with {self.rule}: "
                "leave one of them out"
            )
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise InputError(f"expected a finite threshold, got {self.threshold}")


def check_rule(rule: str, known: tuple[str, ...], *, what: str) -> None:
    """Raise InputError unless ``rule`` is one of the ``known``."""
    if rule not in known:
        raise InputError(f"expected a {what}, one of {', '.join(known)}, got {rule!r}")
