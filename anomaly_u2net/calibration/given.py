"""A threshold that somebody chose by hand, with what the held-out images say of it."""

from __future__ import annotations

from typing import cast

import numpy as np

from anomaly_u2net.calibration.bounds import rate_upper, rate_upper_anywhere
from anomaly_u2net.calibration.checks import group_extremes
from anomaly_u2net.calibration.held import Held, Unit
from anomaly_u2net.calibration.terms import Terms
from anomaly_u2net.calibration.thresholds import Threshold
from anomaly_u2net.calibration.words import confidence, percent, percent_up
from anomaly_u2net.errors import CalibrationError


def given_threshold(held: Held, terms: Terms) -> Threshold:
    """The rule `given`: the rates observed at the threshold, each with its upper bounds.

    Parts are counted where groups are known: a good part is rejected when any of its images is
    above the threshold, a defective one missed when any of its images is not. The parameters are,
    for false_reject and for missed, the observed rate (observed_…) and its one-sided upper bounds:

    - …_upper_95, Clopper–Pearson with 95 % confidence, for a threshold chosen without these images;
    - …_upper_looked_95, Massart with 95 % confidence, which holds however it was chosen;
    - …_upper_delta and …_upper_looked_delta, the same with confidence 1 − delta, with a delta only.

    ``false_reject_upper`` is false_reject_upper_looked_95. Raises CalibrationError without images.
    """
    value = float(cast(float, terms.threshold))  # the terms of this rule have one
    rejected, good = held.rejected(value)
    lowest = group_extremes(np.asarray(held.peaks, np.float64), held.defect_groups, lowest=True)
    missed, defective = int(np.count_nonzero(lowest <= value)), int(lowest.size)
    if good + defective == 0:
        raise CalibrationError("there are no held-out images to look at; hold some out")
    said: list[str] = []
    parameters = {} if terms.delta is None else {"delta": float(terms.delta)}
    if good:
        parameters |= _bounds("false_reject", rejected, good, terms.delta)
        units = _units("good", held.good_unit)
        said.append(_rate(rejected, good, f"{units} are above it", terms.delta))
    if defective:
        parameters |= _bounds("missed", missed, defective, terms.delta)
        units = _units("defective", held.defect_unit)
        said.append(_rate(missed, defective, f"{units} are not above it", terms.delta))
    return Threshold(
        value=value,
        rule="given",
        promise=(
            f"Chosen by hand; {'; '.join(said)}. The first limit (Clopper–Pearson) is for a "
            "threshold chosen without these images, the second (Massart) for any."
        ),
        n=good + defective,
        parameters=parameters,
        false_reject_upper=held.upper(value, looked=True),
        unit="group" if "group" in (held.good_unit, held.defect_unit) else "image",
        false_reject_unit=held.bound_unit,
    )


def _bounds(side: str, errors: int, n: int, delta: float | None) -> dict[str, float]:
    levels = {"95": 0.05} if delta is None else {"95": 0.05, "delta": delta}
    found = {f"observed_{side}": errors / n}
    for name, chance in levels.items():
        found[f"{side}_upper_{name}"] = rate_upper(errors, n, delta=chance)
        found[f"{side}_upper_looked_{name}"] = _looked(errors, n, chance)
    return found


def _looked(errors: int, n: int, delta: float) -> float:
    """The bound at any threshold; it is known up to delta 1/2, where it is surer than asked."""
    return rate_upper_anywhere(errors, n, delta=min(delta, 0.5))


def _units(kind: str, unit: Unit) -> str:
    return f"{kind} {'images' if unit == 'image' else 'parts'}"


def _rate(errors: int, n: int, event: str, delta: float | None) -> str:
    chance = 0.05 if delta is None else delta
    fixed, looked = rate_upper(errors, n, delta=chance), _looked(errors, n, chance)
    return (
        f"{errors} of the {n} held-out {event} ({percent(errors / n)}), with confidence "
        f"{confidence(chance)} at most {percent_up(fixed)} of new ones, or at most "
        f"{percent_up(looked)} if it was chosen by looking at them"
    )
