from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_u2net.calibration import Costs, expected_cost, least_cost
from anomaly_u2net.errors import CalibrationError, InputError

COSTS = Costs(overkill=2, escape=100, defect_rate=0.01)


def test_expected_cost_known_by_hand() -> None:
    # 0.99 · 2 · ¼ + 0.01 · 100 · ½
    assert expected_cost([1, 2, 3, 4], [3, 5], threshold=3, costs=COSTS) == pytest.approx(0.995)


@settings(max_examples=40, deadline=None)
@given(
    good=st.lists(st.integers(0, 12), min_size=1, max_size=15),
    bad=st.lists(st.integers(0, 12), min_size=1, max_size=15),
    rate=st.floats(0.01, 0.9),
)
def test_no_threshold_is_cheaper(good: list[int], bad: list[int], rate: float) -> None:
    costs = Costs(1, 10, rate)
    found = least_cost(good, bad, costs=costs, resamples=20)
    assert found.apparent_cost == pytest.approx(
        expected_cost(good, bad, threshold=found.threshold, costs=costs)
    )
    for threshold in np.arange(-0.5, 13):
        assert (
            found.apparent_cost <= expected_cost(good, bad, threshold=threshold, costs=costs) + 1e-9
        )
    low, high = found.threshold_interval
    assert min(*good, *bad) - 1 <= low <= high <= max(*good, *bad)


def test_the_extremes() -> None:
    good, bad = [0.1, 0.2, 0.3], [0.1, 0.2, 0.3]
    assert least_cost(good, bad, costs=Costs(1, 1e6, 0.5)).threshold < 0.1  # reject all
    assert least_cost(good, bad, costs=Costs(1e6, 1, 0.5)).threshold == 0.3  # pass all


def test_the_corrected_cost_is_nearer_to_the_truth() -> None:
    random = np.random.default_rng(0)
    costs = Costs(1, 5, 0.3)
    new_good, new_bad = random.normal(size=20000), random.normal(1.5, 1, 20000)
    truth, apparent, corrected, held = [], [], [], []
    for seed in range(60):
        good, bad = random.normal(size=200), random.normal(1.5, 1, 150)
        found = least_cost(good, bad, costs=costs, resamples=100, seed=seed)
        truth.append(expected_cost(new_good, new_bad, threshold=found.threshold, costs=costs))
        apparent.append(found.apparent_cost)
        corrected.append(found.cost)
        held.append(found.cost_interval[0] <= truth[-1] <= found.cost_interval[1])
    assert np.mean(apparent) < np.mean(truth)
    assert abs(np.mean(corrected) - np.mean(truth)) < abs(np.mean(apparent) - np.mean(truth))
    assert np.mean(held) > 0.8


def test_seeded_and_grouped() -> None:
    random = np.random.default_rng(1)
    good, bad = random.random(40), random.random(30) + 0.5
    once = least_cost(good, bad, costs=COSTS, resamples=150)
    assert once == least_cost(good, bad, costs=COSTS, resamples=150)
    # The same images five times over are not five times the evidence.
    five = least_cost(np.tile(good, 5), np.tile(bad, 5), costs=COSTS, resamples=300)
    parts = least_cost(
        np.tile(good, 5), np.tile(bad, 5), costs=COSTS, resamples=300,
        good_groups=np.tile(np.arange(40), 5), defect_groups=np.tile(np.arange(30), 5),
    )  # fmt: skip

    def width(interval: tuple[float, float]) -> float:
        return interval[1] - interval[0]

    assert five.threshold == parts.threshold == once.threshold
    assert width(parts.cost_interval) > 1.5 * width(five.cost_interval)


def test_bad_inputs() -> None:
    with pytest.raises(InputError, match="cost of escape above 0, got 0"):
        Costs(1, 0, 0.1)
    with pytest.raises(InputError, match="defect rate of the line between 0 and 1"):
        Costs(1, 1, 1)
    with pytest.raises(CalibrationError, match="got 0 good and 1 defective"):
        least_cost([], [1], costs=COSTS)
    with pytest.raises(InputError, match="20 resamples or more"):
        least_cost([1], [1], costs=COSTS, resamples=5)
    with pytest.raises(InputError, match="defective scores are NaN"):
        least_cost([1.0], [np.nan], costs=COSTS)
