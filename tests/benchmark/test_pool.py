"""Cells in processes of their own, on a Ray that is made up, and on a real one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from anomaly_u2net.benchmark import in_processes, on_ray, pool
from anomaly_u2net.benchmark.jobs import LOCK, Job, failed_outcome
from anomaly_u2net.benchmark.methods import AnomalibMethod
from anomaly_u2net.benchmark.outcome import Outcome
from anomaly_u2net.benchmark.run import Failed
from anomaly_u2net.errors import InputError, MissingExtra
from anomaly_u2net.files import hold
from anomaly_u2net.recipe import DataRecipe


class RayError(Exception):
    """Stands for what a Ray raises for a task that it lost."""


def job(out: Path, method: str) -> Job:
    data = DataRecipe(root=str(out))
    return Job(out, "plate", "given", method, 0, data, AnomalibMethod(anomalib="Padim"))


def make(one: Job) -> Outcome:
    """Stands for a cell: one dies, one fails, the rest say who made them."""
    if one.method == "dies":
        os._exit(9)
    error = "no luck" if one.method == "fails" else None
    return Outcome(
        one.digest, one.category, one.protocol, one.method, one.seed, error=error,
        model_hash=f"{os.getpid()} with {torch.get_num_threads()}",
    )  # fmt: skip


def made_and_died(one: Job, count: int, answer: Any) -> None:
    """A process that falls over its libraries when all is done."""
    answer.send(make(one))
    answer.close()
    os._exit(7)


@pytest.fixture(autouse=True)
def _forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that need not load torch first."""
    forked = SimpleNamespace(get_context=lambda _: multiprocessing.get_context("fork"))
    monkeypatch.setattr(pool, "multiprocessing", forked)


def test_each_cell_has_a_process_and_one_that_dies_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "execute", make)
    jobs = [job(tmp_path, name) for name in ("a", "dies", "b", "fails")]
    before = torch.get_num_threads()
    torch.set_num_threads(6)  # as OMP_NUM_THREADS would: a share of it, whatever the machine has
    try:
        found = {one.method: outcome for one, outcome in in_processes(2)(jobs)}
    finally:
        torch.set_num_threads(before)
    assert set(found) == {"a", "dies", "b", "fails"}
    makers = {found[name].model_hash for name in ("a", "b")}
    assert len(makers) == 2
    assert f"{os.getpid()} with 3" not in makers
    assert all(maker.endswith(" with 3") for maker in makers)
    assert found["fails"].reason == "failed: no luck"
    assert found["dies"].reason == (
        "failed: its process ended with code 9: too little memory, or killed from outside"
    )
    with pytest.raises(InputError, match="expected 1 process or more, got 0"):
        in_processes(0)


def test_a_result_counts_however_its_process_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_work", made_and_died)
    ((_, outcome),) = in_processes(1)([job(tmp_path, "a")])
    assert outcome.error is None


def test_a_cell_that_another_process_works_at_is_said_to_be_so(tmp_path: Path) -> None:
    one = job(tmp_path, "a")
    failed_outcome(one, Failed("of an earlier try")).save(one.folder)
    with (one.folder / LOCK).open("ab", buffering=0) as lock:
        hold(lock, one.folder)
        ((_, outcome),) = in_processes(1)([one])
    assert "another process is writing there" in outcome.reason


def test_processes_end_with_whoever_asked_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "execute", make)
    begun = in_processes(2)([job(tmp_path, name) for name in ("a", "b", "c")])
    next(begun)
    begun.close()
    assert multiprocessing.active_children() == []


def test_a_process_that_does_not_end_when_asked_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready, says = multiprocessing.Pipe(duplex=False)

    def ignores(one: Job, count: int, answer: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if one.method == "ignores":
            says.send(os.getpid())
            signal.pause()
        answer.send(make(one))

    monkeypatch.setattr(pool, "_work", ignores)
    monkeypatch.setattr(pool, "GRACE", 0.1)
    begun = in_processes(2)([job(tmp_path, name) for name in ("ignores", "a")])
    next(begun)
    ignoring = ready.recv()
    begun.close()
    with pytest.raises(ProcessLookupError):
        os.kill(ignoring, 0)


def test_a_process_ends_when_the_one_that_started_it_is_killed(
    tmp_path: Path, this_package: dict[str, str]
) -> None:
    """Its output ends once nobody is left who could write there."""
    script = """
        import os, threading
        from anomaly_u2net.benchmark import pool

        def for_ever(job):
            print(os.getpid(), flush=True)
            threading.Event().wait()

        pool.execute = for_ever
        if __name__ == "__main__":
            list(pool.in_processes(1)(["a job"]))
    """
    path = tmp_path / "benchmark.py"
    path.write_text(textwrap.dedent(script))
    with subprocess.Popen(
        [sys.executable, path], env=this_package, stdout=subprocess.PIPE, text=True
    ) as main:
        assert main.stdout is not None
        worker = int(main.stdout.readline())
        assert worker != main.pid
        main.kill()
        try:
            assert main.communicate(timeout=60) == ("", None)
        except subprocess.TimeoutExpired:
            os.kill(worker, signal.SIGKILL)
            raise


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

    def execute(one: Job) -> str:
        if one.method == "dies":
            raise RayError("the worker died")
        return f"made {one.method}"

    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setitem(sys.modules, "ray.exceptions", SimpleNamespace(RayError=RayError))
    monkeypatch.setattr(pool, "execute", execute)
    jobs = [job(tmp_path, name) for name in ("a", "dies", "b")]
    (_, b), (died, outcome), (_, a) = on_ray(jobs)
    assert (a, b) == ("made a", "made b")
    assert (died.method, outcome.reason) == ("dies", "failed: RayError: the worker died")
    assert calls == ["init", "remote {'max_calls': 1}"]
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match="ray is not installed: pip install"):
        next(on_ray(jobs))


def test_a_real_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its workers do the jobs, here ones whose images are not there, and keep what came of them."""
    ray = pytest.importorskip("ray", reason="extra ray is not installed")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # it would write a token into the home folder
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    jobs = [job(tmp_path, name) for name in ("a", "b")]
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        found = {one.method: outcome for one, outcome in on_ray(jobs)}
    finally:
        ray.shutdown()
    for one in jobs:
        assert f"failed: {tmp_path}: expected" in found[one.method].reason
        assert Outcome.load(one.folder) == found[one.method]
