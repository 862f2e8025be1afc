"""A threshold by hand: what is seen at it, and the Clopper–Pearson bounds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from anomaly_u2net.calibration import ImageScores, Terms, Threshold, calibrate_scores
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
    oracle = binomtest(rejected, 60, alternative="less").proportion_ci(0.95).high
    assert found.false_reject_upper == pytest.approx(oracle)
    upper = binomtest(missed, 20, alternative="less").proportion_ci(0.95).high
    assert found.parameters == pytest.approx(
        {"observed_false_reject": 5 / 60, "observed_missed": 9 / 20, "missed_upper": upper}
    )
    assert found.promise == (
        "Chosen by hand; 5 of the 60 held-out good images (8.33 %) are above it, with confidence "
        f"95 % at most {100 * oracle:.3g} % of new ones; 9 of the 20 held-out defective images "
        f"(45 %) are not above it, with confidence 95 % at most {100 * upper:.3g} % of new ones "
        "(Clopper–Pearson). This holds for a threshold chosen without these images: one chosen "
        "by looking at them makes it optimistic."
    )


def test_delta_is_the_chance_that_a_bound_fails() -> None:
    found = at(0.9, delta=0.2)
    bound = binomtest(5, 60, alternative="less").proportion_ci(0.8).high
    assert f"with confidence 80 % at most {100 * bound:.3g} % of new ones" in found.promise
    assert found.parameters["delta"] == 0.2
    assert found.parameters["missed_upper"] < at(0.9).parameters["missed_upper"]
    assert found.false_reject_upper == at(0.9).false_reject_upper  # always 95 %


def test_parts_count_once() -> None:
    """A good part is rejected by its highest image, a defective one missed by its lowest."""
    found = at(0.9, groups=[f"g{i // 2}" for i in range(60)] + [f"b{i // 2}" for i in range(20)])
    assert (found.n, found.unit) == (40, "group")
    assert found.parameters["observed_false_reject"] == 3 / 30
    assert found.parameters["observed_missed"] == 5 / 10
    assert "3 of the 30 held-out good parts (10 %)" in found.promise
    assert "5 of the 10 held-out defective parts (50 %)" in found.promise


def test_with_one_kind_only() -> None:
    terms = Terms(rule="given", threshold=2.0)
    good = ImageScores(("good",) * 3, (1.0, 2.0, 3.0), (None,) * 3)
    found = calibrate_scores({"nut": good}, terms=terms).for_category("nut").image
    assert found.parameters == {"observed_false_reject": 1 / 3}
    bent = ImageScores(("bent",) * 3, (1.0, 2.0, 3.0), (None,) * 3)
    found = calibrate_scores({"nut": bent}, terms=terms).for_category("nut").image
    assert found.parameters["observed_missed"] == 2 / 3
    assert found.false_reject_upper is None
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
    upper = made.for_category("nut").image.false_reject_upper
    assert upper is not None
    return upper
