from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_u2net.calibration import (
    any_missed,
    any_missed_pac,
    false_reject_pac,
    hoeffding_bentkus_p,
    missed_defects,
    missed_defects_pac,
    missed_share,
    region_peaks,
)
from anomaly_u2net.calibration.checks import just_below
from anomaly_u2net.errors import CalibrationError, InputError, MapError

PEAKS = [[0.9, 0.3], [0.8], [0.7, 0.6, 0.5]]


def share(row: list[float], threshold: float) -> float:
    return sum(peak <= threshold for peak in row) / len(row)


def test_region_peaks_known_by_hand() -> None:
    score_map = np.zeros((6, 6), np.float32)
    mask = np.zeros((6, 6), np.uint8)
    mask[0, 0] = mask[1, 1] = 255  # touch at a corner: one region
    mask[4:6, 4:6] = 255
    score_map[1, 1], score_map[4, 5], score_map[0, 5] = 0.5, 0.25, 1.0
    assert sorted(region_peaks(score_map, mask)) == [0.25, 0.5]
    assert region_peaks(score_map, np.zeros((6, 6), bool)).shape == (0,)
    with pytest.raises(MapError, match="must have the same"):
        region_peaks(score_map, mask[1:])


def test_missed_defects_known_by_hand() -> None:
    # n = 3. The allowed sum of losses is 4 beta − 1; losses come at 0.3 (½), 0.5 (⅓), 0.6 (⅓), …
    assert missed_defects(PEAKS, beta=0.25) == just_below(0.3)
    assert missed_defects(PEAKS, beta=0.374) == just_below(0.3)
    assert missed_defects(PEAKS, beta=0.375) == just_below(0.5)
    assert missed_defects(PEAKS, beta=(1 + 1 / 2 + 1 / 3) / 4) == just_below(0.6)
    assert missed_defects(PEAKS, beta=(1 + 1 / 2 + 1) / 4) == just_below(0.8)
    assert missed_share(PEAKS, threshold=0.5) == pytest.approx((1 / 2 + 1 / 3) / 3)
    assert missed_share(PEAKS, threshold=just_below(0.3)) == 0


def test_any_missed_known_by_hand() -> None:
    # The weakest are 0.3, 0.5, 0.8; k = ⌊4 beta⌋.
    assert any_missed(PEAKS, beta=0.25) == any_missed(PEAKS, beta=0.49) == just_below(0.3)
    assert any_missed(PEAKS, beta=0.5) == just_below(0.5)
    assert any_missed(PEAKS, beta=0.75) == just_below(0.8)


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4), min_size=2, max_size=12),
    beta=st.floats(0.1, 0.9),
)
def test_it_is_the_highest_threshold_that_meets_the_definition(
    rows: list[list[int]], beta: float
) -> None:
    n = len(rows)
    peaks = [[float(value) for value in row] for row in rows]
    if (n + 1) * beta < 1 + 1e-6:
        return
    found = missed_defects(peaks, beta=beta)
    risk = (sum(share(row, found) for row in peaks) + 1) / (n + 1)
    assert risk <= beta + 1e-9
    above = found + 1e-3  # past the peak where it stopped
    assert (sum(share(row, above) for row in peaks) + 1) / (n + 1) > beta - 1e-9
    assert any_missed(peaks, beta=beta) <= found


def test_one_score_per_image_is_one_defect_per_image() -> None:
    scores = np.array([0.7, 0.2, 0.9, 0.4])
    rows = [[score] for score in scores]
    for rule in (missed_defects, any_missed):
        assert rule(scores, beta=0.4) == rule(rows, beta=0.4) == rule(list(scores), beta=0.4)


def test_what_is_found_is_found_in_float32_too() -> None:
    for value in (0.3, 0.5, 1e-3, 0.0):
        score = np.float32(value)
        threshold = any_missed([[float(score)]], beta=0.5)
        assert score > np.float32(threshold)
        assert float(score) > threshold
    assert just_below(0.1) < 0.1  # no float32
    assert just_below(1e300) < 1e300


def test_pac_by_its_p_values() -> None:
    random = np.random.default_rng(2)
    peaks = [list(random.random(random.integers(1, 5))) for _ in range(90)]
    found = missed_defects_pac(peaks, beta=0.2, delta=0.1)
    grid = np.unique(np.concatenate(peaks))
    # Walk up as fixed-sequence testing does; "just below g" misses what is below g.
    walked = -math.inf
    for value in grid:
        loss = np.mean([np.mean(np.array(row) < value) for row in peaks])
        if hoeffding_bentkus_p(loss, 90, level=0.2) > 0.1:
            break
        walked = value
    assert found == just_below(walked)
    assert missed_share(peaks, threshold=found) < 0.2
    assert found < missed_defects(peaks, beta=0.2)


def test_any_missed_pac_mirrors_false_reject_pac() -> None:
    scores = np.random.default_rng(4).random(130)
    mirrored = -false_reject_pac(-scores, alpha=0.05, delta=0.1)
    assert any_missed_pac(scores, beta=0.05, delta=0.1) == just_below(mirrored)


def test_groups_are_one_unit() -> None:
    parts = ["a", "a", "b"]
    # Part a has the regions 0.9, 0.3, 0.8; part b 0.7, 0.6, 0.5.
    assert missed_defects(PEAKS, beta=1 / 3, groups=parts) == just_below(0.3)
    assert missed_defects(PEAKS, beta=(1 + 1 / 3) / 3, groups=parts) == just_below(0.5)
    assert any_missed(PEAKS, beta=2 / 3, groups=parts) == just_below(0.5)
    assert missed_share(PEAKS, threshold=0.3, groups=parts) == pytest.approx(1 / 6)
    with pytest.raises(CalibrationError, match="at least 3 held-out defective images, got 2"):
        missed_defects(PEAKS, beta=0.25, groups=parts)


@pytest.mark.parametrize("rule", [missed_defects, any_missed])
def test_too_few(rule: Callable[..., float]) -> None:
    text = (
        r"rate of missed defects of 0\.05 needs at least 19 held-out defective images, got 3; the "
        r"smallest rate that 3 can promise is 1/4 = 0\.25"
    )
    with pytest.raises(CalibrationError, match=text):
        rule(PEAKS, beta=0.05)
    with pytest.raises(CalibrationError, match="at least one held-out defective image"):
        rule([], beta=0.05)


@pytest.mark.parametrize("rule", [missed_defects_pac, any_missed_pac])
def test_too_few_for_the_contract(rule: Callable[..., float]) -> None:
    rule(np.arange(45.0), beta=0.05, delta=0.1)
    text = (
        r"0\.05 with confidence 0\.9 needs at least 45 held-out defective images, got 44;.*0\.05099"
    )
    with pytest.raises(CalibrationError, match=text):
        rule(np.arange(44.0), beta=0.05, delta=0.1)
    with pytest.raises(CalibrationError, match="at least one held-out defective image"):
        rule([], beta=0.05, delta=0.1)


def test_bad_inputs() -> None:
    with pytest.raises(InputError, match=r"image 1 has no defect region \(1 of 2\)"):
        missed_defects([[0.5], []], beta=0.5)
    with pytest.raises(InputError, match=r"defective \(image 1\) scores are NaN"):
        missed_defects([[0.5], [math.nan]], beta=0.5)
    with pytest.raises(InputError, match="rate of missed defects between 0 and 1"):
        missed_defects(PEAKS, beta=0.0)
    with pytest.raises(InputError, match="delta"):
        missed_defects_pac(PEAKS, beta=0.5, delta=1.0)
    with pytest.raises(CalibrationError, match="at least one"):
        missed_share([], threshold=0.5)
