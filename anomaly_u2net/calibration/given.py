"""A threshold that somebody chose by hand, with what the held-out images say of it."""

from __future__ import annotations

from typing import cast

import numpy as np

from anomaly_u2net.calibration.bounds import rate_upper
from anomaly_u2net.calibration.checks import group_extremes, percent
from anomaly_u2net.calibration.held import Held
from anomaly_u2net.calibration.terms import Terms
from anomaly_u2net.calibration.thresholds import Threshold
from anomaly_u2net.errors import CalibrationError


def given_threshold(held: Held, terms: Terms) -> Threshold:
    """The rule `given`: the rates observed at the threshold, each with its upper bound.

    The bounds are one-sided Clopper–Pearson bounds with confidence 1 − delta, 95 % without a delta.
    They count parts where groups are known: a good part is rejected when any of its images is above
    the threshold, a defective one missed when any of its images is not. They hold for a threshold
    that was chosen without these images.

    Raises CalibrationError without any image.
    """
    value = float(cast(float, terms.threshold))  # the terms of this rule have one
    delta = 0.05 if terms.delta is None else terms.delta
    rejected, good = held.rejected(value)
    lowest = group_extremes(np.asarray(held.peaks, np.float64), held.defect_groups, lowest=True)
    missed, defective = int(np.count_nonzero(lowest <= value)), int(lowest.size)
    if good + defective == 0:
        raise CalibrationError("there are no held-out images to look at; hold some out")
    said, parameters = [], {} if terms.delta is None else {"delta": float(delta)}
    if good:
        noun = "images" if held.good_groups is None else "parts"
        said.append(_rate(rejected, good, f"good {noun}", "above it", delta))
        parameters["observed_false_reject"] = rejected / good
    if defective:
        noun = "images" if held.defect_groups is None else "parts"
        said.append(_rate(missed, defective, f"defective {noun}", "not above it", delta))
        parameters["observed_missed"] = missed / defective
        parameters["missed_upper"] = rate_upper(missed, defective, delta=delta)
    return Threshold(
        value=value,
        rule="given",
        promise=(
            f"Chosen by hand; {'; '.join(said)} (Clopper–Pearson). This holds for a threshold "
            "chosen without these images: one chosen by looking at them makes it optimistic."
        ),
        n=good + defective,
        parameters=parameters,
        false_reject_upper=rate_upper(rejected, good) if good else None,
        unit=held.unit,
    )


def _rate(count: int, n: int, units: str, event: str, delta: float) -> str:
    upper = percent(rate_upper(count, n, delta=delta))
    return (
        f"{count} of the {n} held-out {units} ({percent(count / n)}) are {event}, with confidence "
        f"{percent(1 - delta)} at most {upper} of new ones"
    )
