"""A threshold by hand: what is seen at it, and the bounds of it."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from anomaly_u2net.calibration import (
    ImageScores,
    Terms,
    Threshold,
    calibrate_scores,
    rate_upper,
)
from anomaly_u2net.errors import CalibrationError

GOOD, BENT = np.arange(60) / 60, 0.5 + np.arange(20) / 20


def at(
    threshold: float, *, delta: float | None = None, groups: list[str] | None = None
) -> Threshold:
    labels = ("good",) * 60 + ("bent",) * 20
    parts = (None,) * 80 if groups is None else tuple(groups)
    table = ImageScores(labels, (*GOOD, *BENT), parts)
    terms = Terms(rule="given", threshold=threshold, delta=delta)
    return calibrate_scores({"nut": table}, terms=terms).for_category("nut").image


def test_known_by_hand() -> None:
    found = at(0.9)
    rejected, missed = int((GOOD > 0.9).sum()), int((BENT <= 0.9).sum())
    assert (found.value, found.rule, found.n, found.attained) == (0.9, "given", 80, None)
    assert (rejected, missed) == (5, 9)
    assert found.parameters == pytest.approx(
        {
            "observed_false_reject": 5 / 60,
            "false_reject_upper_95": exact(5, 60, 0.95),  # 0.16787…
            "false_reject_upper_looked_95": 5 / 60 + math.sqrt(math.log(20) / 120),  # 0.24133…
            "observed_missed": 9 / 20,
            "missed_upper_95": exact(9, 20, 0.95),  # 0.65306…
            "missed_upper_looked_95": 9 / 20 + math.sqrt(math.log(20) / 40),  # 0.72366…
        }
    )
    assert found.false_reject_upper == found.parameters["false_reject_upper_looked_95"]
    assert found.promise == (
        "Chosen by hand; 5 of the 60 held-out good images are above it (8.33 %), with confidence "
        "95 % at most 16.8 % of new ones, or at most 24.2 % if it was chosen by looking at them; "
        "9 of the 20 held-out defective images are not above it (45 %), with confidence 95 % at "
        "most 65.4 % of new ones, or at most 72.4 % if it was chosen by looking at them. The "
        "first limit (Clopper–Pearson) is for a threshold chosen without these images, the second "
        "(Massart) for any."
    )


def exact(errors: int, n: int, confidence: float) -> float:
    return float(binomtest(errors, n, alternative="less").proportion_ci(confidence).high)


def test_delta_is_the_chance_that_a_bound_fails() -> None:
    found = at(0.9, delta=0.2)
    assert exact(5, 60, 0.8) == pytest.approx(0.12857, abs=1e-5)
    assert "with confidence 80 % at most 12.9 % of new ones" in found.promise
    assert found.false_reject_upper == at(0.9).false_reject_upper  # always 95 %
    own = {"delta": 0.2}
    for side, errors, n in (("false_reject", 5, 60), ("missed", 9, 20)):
        own[f"{side}_upper_delta"] = exact(errors, n, 0.8)
        own[f"{side}_upper_looked_delta"] = errors / n + math.sqrt(math.log(5) / 2 / n)
    assert found.parameters == pytest.approx({**at(0.9).parameters, **own})  # both sides at both


def test_a_delta_above_a_half() -> None:
    """There the bound for any threshold is not known, so the surer one at 1/2 is taken."""
    parameters = at(0.9, delta=0.8).parameters
    looked = 5 / 60 + math.sqrt(math.log(2) / 120)
    assert parameters["false_reject_upper_looked_delta"] == pytest.approx(looked)


def test_the_column_survives_looking() -> None:
    """At all thresholds at once, so at one chosen by looking too; the exact bound does not.

    1 000 lines with 40 good images each: how often the bound fails at any of their scores.
    """
    random = np.random.default_rng(0)
    failed_exact = failed_any = 0
    for _ in range(1000):
        good = np.sort(random.random(40))  # so the true rate above t is 1 − t
        uppers = 1 - (np.arange(40) + 1) / 40 + math.sqrt(math.log(20) / 80)
        steps = [exact_upper(39 - i) - (1 - good[i]) for i in range(39)]
        failed_exact += min(steps) < 0
        failed_any += bool((uppers[:39] < 1 - good[:39]).any())
    assert failed_exact / 1000 > 0.15
    assert failed_any / 1000 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1000)


@cache
def exact_upper(errors: int) -> float:
    return rate_upper(errors, 40)


def test_parts_count_once() -> None:
    """A good part is rejected by its highest image, a defective one missed by its lowest."""
    found = at(0.9, groups=[f"g{i // 2}" for i in range(60)] + [f"b{i // 2}" for i in range(20)])
    assert (found.n, found.unit) == (40, "group")
    assert found.parameters["observed_false_reject"] == 3 / 30
    assert found.parameters["observed_missed"] == 5 / 10
    assert "3 of the 30 held-out good parts are above it (10 %)" in found.promise
    assert "5 of the 10 held-out defective parts are not above it (50 %)" in found.promise


def test_with_one_kind_only() -> None:
    terms = Terms(rule="given", threshold=2.0)
    good = ImageScores(("good",) * 3, (1.0, 2.0, 3.0), (None,) * 3)
    found = calibrate_scores({"nut": good}, terms=terms).for_category("nut").image
    assert found.parameters["observed_false_reject"] == 1 / 3
    assert not any("missed" in name for name in found.parameters)
    bent = ImageScores(("bent",) * 3, (1.0, 2.0, 3.0), (None,) * 3)
    found = calibrate_scores({"nut": bent}, terms=terms).for_category("nut").image
    assert found.parameters["observed_missed"] == 2 / 3
    assert (found.false_reject_upper, found.false_reject_unit) == (None, None)
    assert "good" not in found.promise
    with pytest.raises(CalibrationError, match="nut: there are no held-out images to look at"):
        calibrate_scores({"nut": ImageScores((), (), ())}, terms=terms)


def test_the_bound_holds_as_often_as_it_says() -> None:
    """Exactly, by the law of the count: P(bound < true rate) ≤ delta at every true rate."""
    uppers = np.array([_upper(k) for k in range(41)])
    for rate in (0.02, 0.05, 0.2, 0.5):
        failed = binom.pmf(np.arange(41), 40, rate)[uppers < rate].sum()
        assert failed <= 0.05 + 1e-12


def _upper(count: int) -> float:
    scores = (*(2.0,) * count, *(0.0,) * (40 - count))
    table = ImageScores(("good",) * 40, scores, (None,) * 40)
    made = calibrate_scores({"nut": table}, terms=Terms(rule="given", threshold=1.0))
    return made.for_category("nut").image.parameters["false_reject_upper_95"]
