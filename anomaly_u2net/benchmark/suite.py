"""The benchmark: every cell of a file, kept as it ends, and one table of them all."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias

import yaml

from anomaly_u2net.benchmark.jobs import finished, plan, plan_jobs
from anomaly_u2net.benchmark.methods import BenchmarkFile
from anomaly_u2net.benchmark.outcome import NAME
from anomaly_u2net.benchmark.pool import Runner, here
from anomaly_u2net.benchmark.report import BenchmarkTable, make_table, table_without_images
from anomaly_u2net.files import write_text

#: Called when a cell is there: its name, how many are, and of how many.
OnCell: TypeAlias = Callable[[str, int, int], None]


def check_benchmark(bench: BenchmarkFile, out: str | Path) -> None:
    """Raise what `run_benchmark` would before it trains anything; nothing is written."""
    for job in plan_jobs(bench, out):
        finished(job)


def run_benchmark(
    bench: BenchmarkFile,
    out: str | Path,
    *,
    runner: Runner = here,
    on_cell: OnCell = lambda *_: None,
) -> BenchmarkTable:
    """Train and measure categories × protocols × methods × seeds on the test images.

    Each cell has a folder in ``out`` and is finished once its result lies there: a call after a
    kill goes on, finished cells are not made again, failed ones are tried again. runner: `here`,
    `in_processes(n)` or `on_ray` of `benchmark.pool`. The table is written into ``out`` after every
    cell.

    Raises, before anything is trained, as `plan_jobs`, and `InputError` for a folder in ``out``
    that holds a cell of another benchmark, or one that began from other weights.
    """
    rows = plan(bench)
    jobs = plan_jobs(bench, out, rows)
    outcomes = {job.name: done for job in jobs if (done := finished(job)) is not None}
    rest = [job for job in jobs if job.name not in outcomes]
    _save_file(bench, out)
    table = partial(make_table, bench, rows)
    on_cell("finished before", len(outcomes), len(jobs))
    for job, outcome in runner(rest):
        outcomes[job.name] = outcome
        table([outcomes[j.name] for j in jobs if j.name in outcomes]).save(out)
        on_cell(job.name, len(outcomes), len(jobs))
    whole = table([outcomes[job.name] for job in jobs])
    whole.save(out)
    return whole


def benchmark_without_images(bench: BenchmarkFile, out: str | Path, why: str) -> BenchmarkTable:
    """The n/a table of a benchmark whose images are not there, written into ``out`` like any.

    What `has_cells` of an earlier call, with its images, is left as it is.
    """
    table = table_without_images(bench, why)
    if not has_cells(out):
        _save_file(bench, out)
        table.save(out)
    return table


def has_cells(out: str | Path) -> bool:
    """Whether ``out`` holds the result of any cell, or the error of one."""
    return any(Path(out).glob(f"*/*/*/{NAME}"))


def _save_file(bench: BenchmarkFile, out: str | Path) -> None:
    text = yaml.safe_dump(bench.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    write_text(Path(out) / "benchmark.yaml", text)
