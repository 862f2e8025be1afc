"""The clock and the tables of a run; what the keeper does in a run is in test_run.py."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from anomaly_u2net.training import keeper
from anomaly_u2net.training.keeper import Clock, write_rows


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that stands still until ``now`` is set."""
    clock = SimpleNamespace(now=100.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(keeper, "time", clock)
    return clock


def test_without_a_limit_no_time_passes(time: SimpleNamespace) -> None:
    clock = Clock(None)
    time.now += 1e6
    assert (clock.seconds, clock.fraction()) == (1e6, 0.0)


def test_fraction_of_the_limit(time: SimpleNamespace) -> None:
    clock = Clock(60)
    time.now += 15
    assert clock.fraction() == 0.25
    clock.validation = 30.0  # room for one more validation
    assert clock.fraction() == 0.5
    time.now += 1000
    assert clock.fraction() == 1.0


def test_a_validation_longer_than_the_limit_ends_the_run(time: SimpleNamespace) -> None:
    clock = Clock(60)
    clock.validation = 100.0
    time.now += 1
    assert clock.fraction() == 1.0


def test_seconds_of_before_a_resume_count(time: SimpleNamespace) -> None:
    clock = Clock(60)
    clock.add_earlier(30)
    time.now += 6
    assert (clock.seconds, clock.fraction()) == (36.0, 0.6)


def test_rows_get_the_union_of_their_columns(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.csv", [{"a": 1}, {"a": 2, "b": "n/a"}])
    assert (tmp_path / "rows.csv").read_text().splitlines() == ["a,b", "1,", "2,n/a"]
