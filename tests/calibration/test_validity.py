"""A small version of ``tests/benchmarks/bench_validity.py``, seeded: the promises hold."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCH = Path(__file__).parents[1] / "benchmarks" / "bench_validity.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_validity", BENCH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("place", range(3))
def test_promises_hold_and_habits_do_not(bench: ModuleType, place: int) -> None:
    law = bench.synthetic_laws(size=5000)[place]
    rows, _ = bench.check(law, bench.Setting(0.05, 0.1, 45), draws=250)
    promises = {row.rule: row for row in rows if row.kept is not None}
    assert len(promises) == 6
    assert all(row.kept for row in promises.values()), promises
    if law.name == "continuous":  # as tight as the formula says: 0.95⁴⁵ and 2/46
        assert promises["false_reject_pac"].value == pytest.approx(0.0994, abs=0.06)
        assert promises["false_reject"].value == pytest.approx(2 / 46, abs=0.006)
    habits = {row.rule: row.value for row in rows if row.kept is None}
    assert habits["best F1 on test"] > 0.3
    if law.name == "heavy-tailed":
        assert habits["mean + 3 sigma"] > 0.1


def test_the_measure_against_counting(bench: ModuleType) -> None:
    law = bench.synthetic_laws(size=300)[1]
    measure = bench.Measure(law)
    for threshold in (0.1, 0.5, 0.75):
        at = np.array([threshold])
        assert measure.rejected(at)[0] == pytest.approx(np.mean(law.good > threshold))
        missed = np.mean([np.mean(row <= threshold) for row in law.peaks])
        assert measure.missed(at)[0] == pytest.approx(missed)
        weak = np.mean([row.min() <= threshold for row in law.peaks])
        assert measure.any_missed(at)[0] == pytest.approx(weak)


def test_real_scores_by_part(bench: ModuleType) -> None:
    random = np.random.default_rng(0)
    scores = bench.ImageScores(
        ("good",) * 200 + ("bent",) * 160,
        tuple(random.random(200)) + tuple(0.5 + random.random(160)),
        tuple(str(i // 2) for i in range(360)),
    )
    law = bench.real_law("nut", scores)
    assert (law.good.size, len(law.peaks)) == (100, 80)
    rows = bench.split_halves(law, bench.Setting(0.05, 0.1, 45), draws=100)
    assert [row.rule for row in rows] == ["false_reject", "missed_defects", "any_missed"]
    assert all(row.kept for row in rows)
    assert bench.split_halves(law, bench.Setting(0.01, 0.1, 45), draws=5) == []
