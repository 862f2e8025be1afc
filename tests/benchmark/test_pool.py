"""Cells in processes of their own, and on a Ray that is made up."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from anomaly_u2net.benchmark import in_processes, on_ray, pool
from anomaly_u2net.benchmark.jobs import Job
from anomaly_u2net.benchmark.methods import AnomalibMethod
from anomaly_u2net.benchmark.outcome import Outcome
from anomaly_u2net.errors import InputError, MissingExtra
from anomaly_u2net.recipe import DataRecipe


def job(out: Path, method: str) -> Job:
    data = DataRecipe(root=str(out))
    return Job(out, "plate", "given", method, 0, data, AnomalibMethod(anomalib="Padim"))


def work(one: Job, threads: int) -> None:
    """Stands for a cell: one dies, one fails, the rest say who made them."""
    if one.method == "dies":
        os._exit(9)
    error = "no luck" if one.method == "fails" else None
    found = Outcome(
        one.digest, one.category, one.protocol, one.method, one.seed, error=error,
        model_hash=f"{os.getpid()} with {threads}",
    )  # fmt: skip
    found.save(one.folder)


@pytest.fixture(autouse=True)
def _forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that need not load torch first."""
    forked = SimpleNamespace(get_context=lambda _: multiprocessing.get_context("fork"))
    monkeypatch.setattr(pool, "multiprocessing", forked)


def test_each_cell_has_a_process_and_one_that_dies_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_work", work)
    monkeypatch.setattr(pool.os, "cpu_count", lambda: 6)
    jobs = [job(tmp_path, name) for name in ("a", "dies", "b", "fails")]
    found = {one.method: outcome for one, outcome in in_processes(2)(jobs)}
    assert set(found) == {"a", "dies", "b", "fails"}
    makers = {found[name].model_hash for name in ("a", "b")}
    assert len(makers) == 2
    assert f"{os.getpid()} with 3" not in makers
    assert all(maker.endswith(" with 3") for maker in makers)
    assert found["fails"].reason == "failed: no luck"
    assert found["dies"].reason == (
        "failed: its process ended with code 9: too little memory, or killed from outside"
    )
    assert not (jobs[1].folder / "result.json").exists()  # so that it is tried again
    with pytest.raises(InputError, match="expected 1 process or more, got 0"):
        in_processes(0)


def test_processes_end_with_whoever_asked_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_work", work)
    begun = in_processes(2)([job(tmp_path, name) for name in ("a", "b", "c")])
    next(begun)
    begun.close()
    assert multiprocessing.active_children() == []


def test_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The calls that a Ray gets; one that was never installed is an error that says what to do."""
    calls: list[str] = []

    def remote(**options: Any) -> Callable[..., Any]:
        calls.append(f"remote {options}")
        return lambda work: SimpleNamespace(remote=lambda one: partial(work, one))

    fake = SimpleNamespace(
        init=lambda **_: calls.append("init"),
        remote=remote,
        wait=lambda waiting, num_returns: ([waiting[-1]], waiting[:-1]),
        get=lambda task: task(),
    )
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setattr(pool, "execute", lambda one: f"made {one.method}")
    jobs = [job(tmp_path, name) for name in ("a", "b")]
    assert [(one.method, made) for one, made in on_ray(jobs)] == [("b", "made b"), ("a", "made a")]
    assert calls == ["init", "remote {'max_calls': 1}"]
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match="ray is not installed: pip install"):
        next(on_ray(jobs))
