from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from anomaly_u2net.calibration import false_reject, false_reject_pac, rate_interval, what_if
from anomaly_u2net.errors import CalibrationError, InputError


def test_rows_known_by_hand() -> None:
    good, defects = np.arange(100.0), [50, 96, 200, 300]
    small, five = what_if(good, defects, alphas=[0.005, 0.05])
    assert (small.attainable, small.needed, small.threshold, small.escape) == (
        False,
        199,
        None,
        None,
    )
    assert (five.attainable, five.needed) == (True, 19)
    assert five.threshold == false_reject(good, alpha=0.05) == 95
    assert five.overkill == 5 / 101
    assert five.overkill_interval == pytest.approx(stats.beta(5, 96).interval(0.95))
    assert five.escape == 0.25
    assert five.escape_interval == rate_interval(1, 4)


def test_contractual_rows() -> None:
    good = np.arange(100.0)
    five, ten = what_if(good, [], alphas=[0.01, 0.05], delta=0.1)
    assert (five.needed, five.attainable) == (230, False)
    assert ten.threshold == false_reject_pac(good, alpha=0.05, delta=0.1)
    assert ten.escape is ten.escape_interval is None


def test_groups_count_parts() -> None:
    good, parts = np.arange(40.0), [i // 2 for i in range(40)]
    (row,) = what_if(
        good, [50, 10, 60], alphas=[0.1], good_groups=parts, defect_groups=["a", "a", "b"]
    )
    assert row.threshold == 37.0
    assert row.overkill == 2 / 21
    assert row.escape == 0.5  # one image of part a escapes


def test_default_rows_grow() -> None:
    rows = what_if(np.random.default_rng(0).random(300), [0.5, 0.9])
    assert [row.attainable for row in rows] == [False, *[True] * 6]
    thresholds = [row.threshold for row in rows[1:]]
    assert thresholds == sorted(thresholds, reverse=True)


def test_bad_inputs() -> None:
    with pytest.raises(CalibrationError, match="got 0"):
        what_if([], [0.1])
    with pytest.raises(InputError, match="rate between 0 and 1, both excluded, got 5"):
        what_if([0.1], [0.1], alphas=[5])
