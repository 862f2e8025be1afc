"""Is another design better for these images? Every cell by one recipe, into one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

from anomaly_u2net.benchmark.cells import Cell, cells
from anomaly_u2net.benchmark.checks import check_cells, weights_where_they_fit
from anomaly_u2net.benchmark.measure import (
    DIFFERENCES,
    NUMBERS,
    compare_cells,
    costs,
    evaluate_cell,
    time_cells,
    validation_records,
)
from anomaly_u2net.benchmark.run import Failed, Trained, attempt, train_cell
from anomaly_u2net.benchmark.table import COLUMNS, DesignTable, Row, failed_row
from anomaly_u2net.errors import InputError
from anomaly_u2net.evaluation import Evaluation, Measured
from anomaly_u2net.evaluation.compare import Comparison
from anomaly_u2net.evaluation.evaluate import OnImage
from anomaly_u2net.evaluation.table import Numbers
from anomaly_u2net.recipe import Recipe

#: Called as work goes on: what is being done, how much of it is done, and of how much.
OnWork: TypeAlias = Callable[[str, int, int], None]


def compare_designs(
    recipe: Recipe,
    *,
    vary: Mapping[str, Sequence[Any]],
    out: str | Path,
    seeds: Sequence[int] | None = None,
    max_minutes: float | None = None,
    on_work: OnWork = lambda *_: None,
) -> DesignTable:
    """Train every cell of a grid by ``recipe``, measure it on the validation part, and compare.

    vary and seeds: as `cells` takes them. out: each cell gets a run folder in it; finished ones
    are not trained again, killed ones are resumed. max_minutes: of each training.

    Each cell is compared with the first design of the same seed, by paired resamples of images
    (`evaluation.compare`). The recipe's weights (``model.init``) go to the networks that they fit;
    the others start from random ones, and their names say so. A cell that fails in training is a
    row with its error, and the others go on. Test images are never measured. Writes nothing but
    the run folders: `DesignTable.save` does.

    Raises, before anything is trained, `InputError` for a grid of one cell, and as `cells` and
    `benchmark.checks.check_cells`.
    """
    grid = cells(recipe, vary=vary, seeds=seeds)
    if not {"model", "model.init"} & set(vary):  # weights that a design names itself have to fit
        grid = weights_where_they_fit(grid, Path(out))
    if len(grid) < 2:
        raise InputError(
            f"nothing to compare: expected two designs or seeds at least, got {grid[0].name}: "
            "give --arch, --vary or --seed more values"
        )
    check_cells(grid, Path(out), max_minutes=max_minutes)
    found = {cell.name: _measure(cell, Path(out), max_minutes, on_work) for cell in grid}
    rows = []
    for cell in grid:
        one, first = found[cell.name], found[next(c for c in grid if c.seed == cell.seed).name]
        if isinstance(one, Failed):
            rows.append(failed_row(cell, one.error))
        else:
            rows.append(_row(one, None if one is first else _compare(one, first, on_work)))
    measured = [one for one in found.values() if isinstance(one, _Measured)]
    rows = _with_times(rows, [one.run for one in measured], on_work)
    return DesignTable(
        tuple(rows),
        recipe.digest,
        images=measured[0].images if measured else 0,
        certified_within=max((one.evaluation.certified_within for one in measured), default=0.0),
    )


@dataclass(frozen=True, slots=True)
class _Measured:
    """A cell that has its numbers. images: that they were measured on."""

    run: Trained
    images: int
    costs: dict[str, Measured]
    evaluation: Evaluation


def _measure(
    cell: Cell, out: Path, max_minutes: float | None, on_work: OnWork
) -> _Measured | Failed:
    def work() -> _Measured:
        training = f"training {cell.name}"
        run = train_cell(
            cell,
            out,
            max_minutes=max_minutes,
            on_progress=lambda now: on_work(training, now.step, now.steps),
        )
        records = validation_records(run)
        advance = _counter(f"measuring {cell.name}", len(records), on_work)
        found = evaluate_cell(run, on_image=advance)
        return _Measured(run, len(records), costs(run, records[0]), found)

    return attempt(cell.name, work)


def _compare(one: _Measured, first: _Measured | Failed, on_work: OnWork) -> Comparison | Failed:
    if isinstance(first, Failed):
        return Failed("no difference: the first design failed with this seed")
    name = one.run.cell.name
    advance = _counter(f"comparing {name}", 2 * one.images, on_work)
    return attempt(name, lambda: compare_cells(one.run, first.run, on_image=advance))


def _row(one: _Measured, comparison: Comparison | Failed | None) -> Row:
    """The row of a measured cell; ``comparison`` is None for the first design itself."""
    numbers: Numbers = dict.fromkeys(COLUMNS)
    numbers |= one.costs
    numbers |= {name: one.evaluation.mean_numbers[name] for name in NUMBERS}
    numbers["pixel_miou"] = one.evaluation.mean_miou
    if isinstance(comparison, Comparison):
        for name in DIFFERENCES:
            if (d := comparison.mean[name]) is not None:
                numbers[f"{name}_difference"] = Measured(d.value, d.low, d.high)
    error = comparison.error if isinstance(comparison, Failed) else None
    return Row(one.run.cell, numbers, error)


def _with_times(rows: Sequence[Row], runs: Sequence[Trained], on_work: OnWork) -> list[Row]:
    """The rows with the time of each that has a run."""
    if not runs:
        return list(rows)
    times = time_cells(runs, on_image=lambda done, total: on_work("timing", done, total))
    by_name = {run.cell.name: Measured(ms) for run, ms in zip(runs, times, strict=True)}
    return [
        replace(row, numbers=row.numbers | {"milliseconds": by_name.get(row.cell.name)})
        for row in rows
    ]


def _counter(what: str, total: int, on_work: OnWork) -> OnImage:
    """What to call after each image."""
    done = count(1)
    return lambda _: on_work(what, next(done), total)
