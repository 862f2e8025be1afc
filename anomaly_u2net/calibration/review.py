"""Two promises at once: OK, REVIEW and NG."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from anomaly_u2net.calibration.checks import Groups, check_row, group_extremes, group_index
from anomaly_u2net.calibration.miss import (
    Peaks,
    any_missed,
    any_missed_pac,
    missed_defects,
    missed_defects_pac,
    missed_share,
)
from anomaly_u2net.calibration.reject import false_reject, false_reject_pac
from anomaly_u2net.calibration.words import percent
from anomaly_u2net.types import Decision


@dataclass(frozen=True, slots=True)
class Both:
    """OK when a score is not above ``lower``, NG when it is above ``upper``, else REVIEW.

    lower keeps the promise on missed defects, upper the one on false rejects. They are equal when
    one threshold keeps both, and nothing is left to review.

    reject_at_lower: the false-reject rate to expect if everything above lower were NG.
    miss_at_upper: the missed defects to expect if nothing below upper were reviewed. Both are
    estimates from the held-out images, (count + 1) / (n + 1): what ONE threshold could attain.
    """

    lower: float
    upper: float
    reject_at_lower: float
    miss_at_upper: float

    @classmethod
    def of(
        cls,
        good_scores: ArrayLike,
        peaks: Peaks,
        *,
        lower: float,
        upper: float,
        good_groups: Groups | None = None,
        defect_groups: Groups | None = None,
    ) -> Both:
        """From the threshold of each promise: the two as they are, or one midway for both."""
        if upper <= lower:
            lower = upper = upper + (lower - upper) / 2
        good = group_extremes(check_row(good_scores), good_groups)
        missed = missed_share(peaks, threshold=upper, groups=defect_groups)
        units = group_index(defect_groups, len(peaks))[1]
        return cls(
            lower=lower,
            upper=upper,
            reject_at_lower=float((np.count_nonzero(good > lower) + 1) / (good.size + 1)),
            miss_at_upper=(missed * units + 1) / (units + 1),
        )

    @property
    def one(self) -> bool:
        """Whether one threshold keeps both promises."""
        return self.lower == self.upper

    def decide(self, score: float) -> Decision:
        if score > self.upper:
            return "NG"
        return "REVIEW" if score > self.lower else "OK"

    def describe(self) -> str:
        """What was found, in one sentence."""
        if self.one:
            return "One threshold keeps both promises, so nothing needs review."
        return (
            "No single threshold keeps both promises: the upper one alone would miss about "
            f"{percent(self.miss_at_upper)} of the defects, the lower one alone would reject about "
            f"{percent(self.reject_at_lower)} of the good images; between them is REVIEW."
        )


def both(
    good_scores: ArrayLike,
    peaks: Peaks,
    *,
    alpha: float,
    beta: float,
    delta: float | None = None,
    any_defect: bool = False,
    good_groups: Groups | None = None,
    defect_groups: Groups | None = None,
) -> Both:
    """Two thresholds: NG rejects at most ``alpha`` of good images, OK misses at most ``beta``.

    good_scores: (n,). peaks: see `missed_defects`; on the same scale as the good scores.
    upper is `false_reject` (with ``delta``, `false_reject_pac`), lower is `missed_defects` (with
    ``any_defect``, `any_missed`; with ``delta``, their PAC versions). A higher upper rejects
    no more and a lower lower misses no more, so where false_reject ≤ missed_defects every threshold
    between the two keeps both promises, and the one midway is taken for both. With ``delta`` each
    promise holds with its own confidence 1 − delta, both together with at least 1 − 2 delta.

    Raises CalibrationError when the images support one of the promises not (saying which, and what
    is attainable), InputError as the two rules do.

    >>> found = both([0.1, 0.2, 0.3], [[0.6], [0.7], [0.9]], alpha=0.25, beta=0.25)
    >>> found.one, round(found.upper, 6)
    (True, 0.45)
    >>> found = both([0.1, 0.2, 0.5], [[0.4], [0.7], [0.9]], alpha=0.25, beta=0.25)
    >>> round(found.lower, 6), found.upper, found.miss_at_upper, found.decide(0.45)
    (0.4, 0.5, 0.5, 'REVIEW')
    """
    if delta is None:
        upper = false_reject(good_scores, alpha=alpha, groups=good_groups)
        rule = any_missed if any_defect else missed_defects
        lower = rule(peaks, beta=beta, groups=defect_groups)
    else:
        upper = false_reject_pac(good_scores, alpha=alpha, delta=delta, groups=good_groups)
        rule_pac = any_missed_pac if any_defect else missed_defects_pac
        lower = rule_pac(peaks, beta=beta, delta=delta, groups=defect_groups)
    return Both.of(
        good_scores,
        peaks,
        lower=lower,
        upper=upper,
        good_groups=good_groups,
        defect_groups=defect_groups,
    )
