from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_u2net.calibration import (
    any_missed,
    any_missed_pac,
    both,
    false_reject,
    false_reject_pac,
    missed_defects,
)
from anomaly_u2net.errors import CalibrationError


def test_one_threshold_midway_when_it_keeps_both() -> None:
    found = both([0.1, 0.2, 0.3], [0.6, 0.7, 0.9], alpha=0.25, beta=0.25)
    assert found.one
    assert found.upper == pytest.approx(0.45)
    assert (found.reject_at_lower, found.miss_at_upper) == (0.25, 0.25)
    assert [found.decide(score) for score in (0.44, 0.46)] == ["OK", "NG"]
    assert found.describe() == "One threshold keeps both promises, so nothing needs review."


def test_two_thresholds_known_by_hand() -> None:
    good = [0.1, 0.2, 0.3, 0.5, 0.6]
    found = both(good, [[0.25, 0.9], [0.55], [0.8]], alpha=1 / 6, beta=0.25)
    assert not found.one
    assert found.upper == 0.6
    assert found.lower == pytest.approx(0.25)
    assert found.lower < 0.25
    assert found.miss_at_upper == (1 / 2 + 1 + 1) / 4
    assert found.reject_at_lower == (3 + 1) / 6
    assert [found.decide(s) for s in (0.2, 0.25, 0.6, 0.61)] == ["OK", "REVIEW", "REVIEW", "NG"]
    assert "alone would miss about 62.5 % of the defects" in found.describe()
    assert "alone would reject about 66.7 % of the good images" in found.describe()


@settings(max_examples=60, deadline=None)
@given(
    good=st.lists(st.integers(0, 20), min_size=9, max_size=30),
    peaks=st.lists(st.integers(0, 20), min_size=9, max_size=30),
)
def test_both_thresholds_keep_their_promise(good: list[int], peaks: list[int]) -> None:
    found = both(good, np.array(peaks), alpha=0.1, beta=0.1)
    upper, lower = false_reject(good, alpha=0.1), missed_defects(np.array(peaks), beta=0.1)
    assert found.lower <= lower
    assert found.upper >= upper
    assert found.one == (upper <= lower)
    assert found.lower <= found.upper


def test_variants() -> None:
    random = np.random.default_rng(0)
    good, peaks = random.random(60), [list(0.3 + random.random(3)) for _ in range(60)]
    found = both(good, peaks, alpha=0.05, beta=0.05, delta=0.1, any_defect=True)
    assert found.upper == false_reject_pac(good, alpha=0.05, delta=0.1)
    assert found.lower == any_missed_pac(peaks, beta=0.05, delta=0.1)
    found = both(good, peaks, alpha=0.05, beta=0.05, any_defect=True)
    assert found.lower == any_missed(peaks, beta=0.05)
    parts = [i // 3 for i in range(60)]
    grouped = both(good, peaks, alpha=0.05, beta=0.05, good_groups=parts, defect_groups=parts)
    assert grouped.upper == good.max()
    assert grouped.lower == missed_defects(peaks, beta=0.05, groups=parts)


def test_it_says_which_promise_cannot_be_made() -> None:
    with pytest.raises(CalibrationError, match=r"false-reject rate of 0.05 needs at least 19"):
        both([0.1] * 3, np.arange(30.0), alpha=0.05, beta=0.05)
    with pytest.raises(CalibrationError, match=r"missed defects of 0.05 needs at least 19"):
        both(np.arange(30.0), [0.1] * 3, alpha=0.05, beta=0.05)
