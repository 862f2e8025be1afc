"""``anomaly-u2net benchmark``."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anomaly_u2net.cli import show
from anomaly_u2net.cli.options import Json
from anomaly_u2net.errors import InputError

if TYPE_CHECKING:
    from anomaly_u2net.benchmark import BenchmarkTable

#: No cell finished: there is nothing to compare.
NOTHING = 3


def benchmark(
    files: Annotated[
        list[str], typer.Argument(help="Benchmark files, or names of ours in recipes/benchmark/.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the tables and all runs, one per file.")],
    parallel: Annotated[int, typer.Option(help="Cells at a time, each a process of its own.")] = 1,
    ray: Annotated[
        bool, typer.Option("--ray", help="Cells as tasks of a Ray cluster (extra: ray).")
    ] = False,
    data_root: Annotated[
        Path | None, typer.Option(help="Folder in MVTec layout; sets data.root of one file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train and test categories x protocols x methods x seeds, ours and peers, into one table.

    Every method sees the same images and is measured on the same test images by the same code.
    Call it again to go on: finished cells are kept, failed ones tried again. Of several files, one
    whose images are not there is n/a and the others are run; a file or a recipe that cannot be
    read, or a folder of something else, stops before the first training. Exit code 3 when no cell finished.
    """
    from anomaly_u2net.benchmark import (
        benchmark_without_images,
        check_benchmark,
        in_processes,
        lacking_images,
        load_benchmark,
        on_ray,
        run_benchmark,
    )

    if ray and parallel != 1:
        raise InputError("--ray and --parallel both say where cells run: give one of them")
    if data_root is not None and len(files) > 1:
        raise InputError("--data-root is for one benchmark file: give it to each by itself")
    runner = on_ray if ray else in_processes(parallel)
    benches = [load_benchmark(name, data_root=data_root) for name in files]
    if len({bench.name.lower() for bench in benches}) < len(benches):
        raise InputError(
            "expected benchmark files of different names, since each has the folder of its name in "
            f"--out, got {', '.join(bench.name for bench in benches)}"
        )
    lacking = {bench.name: why for bench in benches if (why := lacking_images(bench))}
    for bench in benches:
        if bench.name not in lacking:
            check_benchmark(bench, out / bench.name)
    tables = []
    with _sigterm_as_ctrl_c(), show.progress() as bar:
        for bench in benches:
            if bench.name in lacking:
                why = lacking[bench.name]
                tables.append(benchmark_without_images(bench, out / bench.name, why))
                continue
            task = bar.add_task(bench.name, total=None, note="")

            def on_cell(what: str, done: int, total: int, task=task) -> None:  # type: ignore[no-untyped-def]
                bar.update(task, completed=done, total=total, note=what)

            tables.append(run_benchmark(bench, out / bench.name, runner=runner, on_cell=on_cell))
    if as_json:
        show.print_json([table.to_dict() for table in tables])
    else:
        for table in tables:
            _show(table, out / table.name, lacking=table.name in lacking)
    if not any(row.seeds for table in tables for row in table.rows):
        raise typer.Exit(NOTHING)


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Within, SIGTERM stops the command as Ctrl-C does: the processes of the cells end first."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _show(table: BenchmarkTable, folder: Path, *, lacking: bool) -> None:
    """What came of one file, and where it is written; lacking: its images are not there."""
    from anomaly_u2net.benchmark import has_cells

    file = folder / "benchmark.md"
    if not lacking:
        _print(table)
    else:
        print(f"{table.name}: {table.rows[0].notes[0]}")
        if has_cells(folder):
            print(f"left as it is: {file}, of a call that had them")
            return
    print(f"written: {file} (and .csv, .tex, .json)")


def _print(table: BenchmarkTable) -> None:
    """The main numbers on screen; the files have all of them."""
    from rich.markup import escape

    from anomaly_u2net.benchmark.writers import caption, header, line

    shown = ["method", "seeds", "image AUROC", "pixel AP", "AUPRO@0.30", "Δ pixel AP"]
    shown += ["Δ AUPRO@0.30", "training minutes", "note"]
    places = [header().index(title) for title in shown]
    for protocol in table.hashes:
        lines = [line(row) for row in table.rows if row.protocol == protocol]
        cells = [[escape(one[place]).replace(" (", "\n(") for place in places] for one in lines]
        show.print_table(f"{table.name}: {protocol}", shown, cells)
    print(caption(table))
