"""How often a contract looks broken on a finite test half: the law that the benchmark states."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from anomaly_u2net.calibration import any_missed_pac, false_reject_pac
from anomaly_u2net.errors import CalibrationError

BENCH = runpy.run_path(
    str(Path(__file__).parents[1] / "benchmarks" / "bench_validity.py"), run_name="bench_validity"
)
DRAWS = 3000


def limit(n: int, m: int, *, rate: float, delta: float = 0.1) -> float:
    return float(BENCH["halves_limit"](n, m, setting=BENCH["Setting"](rate, delta, n)))


def shares(n: int, m: int, *, rate: float, decimals: int | None = None) -> tuple[float, float]:
    """The shares of draws in which false_reject_pac and any_missed_pac look broken."""
    rng = np.random.default_rng(7)
    rejected = missed = 0
    for _ in range(DRAWS):
        scores = rng.normal(size=n + m)
        if decimals is not None:
            scores = scores.round(decimals)
        held, rest = scores[:n], scores[n:]
        upper = false_reject_pac(held, alpha=rate, delta=0.1)
        lower = any_missed_pac(held, beta=rate, delta=0.1)
        rejected += np.count_nonzero(rest > upper) > rate * m
        missed += np.count_nonzero(rest <= lower) > rate * m
    return rejected / DRAWS, missed / DRAWS


def test_by_hand() -> None:
    # The highest of 51 is the threshold; 3 of 52 are too many: the top three are all test parts.
    by_hand = 52 / 103 * 51 / 102 * 50 / 101
    assert limit(51, 52, rate=0.05) == pytest.approx(by_hand, rel=1e-9)


def test_many_test_parts_leave_the_contract() -> None:
    # P(R > 0.05) = 0.95⁴⁵ ≤ delta
    assert limit(45, 10**6, rate=0.05) == pytest.approx(0.95**45, abs=1e-4)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(45, 400), m=st.integers(1, 400), rate=st.sampled_from([0.05, 0.07, 0.2]))
def test_against_the_order_of_the_pool(n: int, m: int, rate: float) -> None:
    """Too many above exactly when the top of the pool holds few calibration parts."""
    k = next(k for k in range(1, n + 1) if stats.binom.cdf(n - k, n, rate) <= 0.1)
    too_many = next(x for x in range(m + 2) if x > rate * m * (1 + 1e-9))
    top = n - k + too_many
    expected = stats.hypergeom.cdf(n - k, n + m, n, top) if too_many <= m else 0.0
    assert limit(n, m, rate=rate) == pytest.approx(expected, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(("n", "m", "rate"), [(51, 52, 0.05), (30, 31, 0.1), (80, 25, 0.1)])
def test_by_simulation(n: int, m: int, rate: float) -> None:
    expected = limit(n, m, rate=rate)
    noise = 4 * np.sqrt(expected * (1 - expected) / DRAWS)
    assert shares(n, m, rate=rate) == pytest.approx((expected, expected), abs=noise)


def test_ties_only_help() -> None:
    expected = limit(51, 52, rate=0.05)
    assert max(shares(51, 52, rate=0.05, decimals=1)) < expected


def test_too_few_parts() -> None:
    with pytest.raises(CalibrationError, match="needs at least 45 held-out good images, got 44"):
        limit(44, 45, rate=0.05)


def test_halves_of_the_real_scores(capsys: pytest.CaptureFixture[str]) -> None:
    (scores,) = BENCH["read_scores"](BENCH["REAL_SCORES"]).values()
    law = BENCH["real_law"]("tile", scores)
    assert (law.good.size, len(law.peaks)) == (103, 61)
    found: dict[float, dict[str, Any]] = {
        setting.alpha: {
            row.rule: row for row in BENCH["split_halves"](law, setting, draws=200, kind="contract")
        }
        for setting in BENCH["HALVES"]
    }
    assert list(found[0.05]) == ["false_reject_pac"]
    said = capsys.readouterr().out
    assert "any_missed_pac is left out: a rate of missed defects of 0.05" in said
    assert "needs at least 45 held-out defective images, got 30" in said
    rows = found[0.1]
    assert list(rows) == ["false_reject_pac", "missed_defects_pac", "any_missed_pac"]
    assert rows["false_reject_pac"].limit == pytest.approx(limit(51, 52, rate=0.1))
    assert rows["any_missed_pac"].limit == pytest.approx(limit(30, 31, rate=0.1))
    assert rows["false_reject_pac"].kept
    assert rows["any_missed_pac"].kept
    share = rows["missed_defects_pac"]
    assert (share.limit, share.kept, share.note) == (None, None, "n/a: no exact law")
