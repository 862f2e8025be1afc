"""What is wrong with a grid, found before the first of its trainings."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from pathlib import Path

from anomaly_u2net.benchmark.cells import Cell, from_scratch
from anomaly_u2net.benchmark.measure import SPLIT
from anomaly_u2net.benchmark.run import Failed, attempt, is_begun, is_finished
from anomaly_u2net.data.index import few
from anomaly_u2net.errors import AnomalyU2NetError, DatasetError, InputError, UnfitWeightsError
from anomaly_u2net.models import build_model, load_weights
from anomaly_u2net.training.run import (
    check_folder,
    check_limit,
    check_settings,
    init_path,
    split_data,
)


def check_cells(grid: Sequence[Cell], out: Path, *, max_minutes: float | None) -> None:
    """Raise `InputError` for whatever can be known to keep a cell of ``grid`` from its numbers.

    Looked at: the time limit, the folders in ``out``, what each recipe asks of this machine, its
    network and starting weights, the images and their validation part. Finished runs of these
    cells need nothing but their folder. A fault of some cells names the first that has it.
    """
    check_limit(max_minutes)
    _check(grid, lambda cell: is_begun(out / cell.folder, cell), once_per=lambda cell: cell.name)
    rest = [cell for cell in grid if not is_finished(out / cell.folder)]
    _check(rest, lambda cell: check_folder(out / cell.folder), once_per=lambda cell: cell.name)
    _check(rest, lambda cell: check_settings(cell.recipe), once_per=lambda cell: cell.name)
    _check(rest, _check_data, once_per=lambda cell: (cell.recipe.data.model_dump_json(), cell.seed))
    _check(rest, _check_model, once_per=lambda cell: cell.recipe.model.model_dump_json())


def weights_where_they_fit(grid: Sequence[Cell], out: Path) -> tuple[Cell, ...]:
    """``grid`` with the cells from random weights whose networks ``model.init`` does not fit.

    A design that has finished so in ``out`` is taken so, whether the weights are still there or not.
    Unchanged where the weights fit no design: then they are what `check_cells` refuses.
    """
    if all(cell.recipe.model.init is None for cell in grid):
        return tuple(grid)
    first: dict[str, Cell] = {}
    for cell in grid:
        first.setdefault(cell.design, cell)
    unfit = {design for design, cell in first.items() if not _takes_its_weights(cell, out)}
    if len(unfit) == len(first):
        return tuple(grid)
    return tuple(from_scratch(cell) if cell.design in unfit else cell for cell in grid)


def _takes_its_weights(cell: Cell, out: Path) -> bool:
    """Whether they are of its network; other faults are not looked at here."""
    if is_finished(out / from_scratch(cell).folder):
        return False
    try:
        _check_model(cell)
    except UnfitWeightsError:
        return False
    except AnomalyU2NetError:
        return True
    return True


def _check(
    grid: Sequence[Cell],
    check: Callable[[Cell], object],
    *,
    once_per: Callable[[Cell], Hashable],
) -> None:
    """Raise `InputError` with the faults that ``check`` finds; cells of one key are looked at once."""
    first: dict[Hashable, Cell] = {}
    for cell in grid:
        first.setdefault(once_per(cell), cell)
    found = [(cell, attempt(cell.name, partial(check, cell))) for cell in first.values()]
    faults: dict[str, Cell] = {}
    for cell, result in found:
        if isinstance(result, Failed):
            faults.setdefault(result.error, cell)
    if len(faults) == 1 and all(isinstance(result, Failed) for _, result in found):
        raise InputError(next(iter(faults)))
    if faults:
        raise InputError("; ".join(f"cell {cell.name}: {text}" for text, cell in faults.items()))


def _check_data(cell: Cell) -> None:
    """The images are there, and those to measure on have numbers in each category."""
    records = split_data(cell.recipe)
    measured = {r.category for r in records if r.split == SPLIT and r.defective}
    if without := sorted({r.category for r in records} - measured):
        data = cell.recipe.data
        held = (
            f"data.validation_fraction {data.validation_fraction}: raise it"
            if data.validation_fold is None
            else f"data.validation_fold {data.validation_fold}: choose fewer folds"
        )
        raise DatasetError(
            "expected validation images with defects in every category, to measure the designs "
            f"on, found none of {few(without)} with {held}"
        )


def _check_model(cell: Cell) -> None:
    """The network can be made, and takes its starting weights."""
    network, init = build_model(cell.recipe.model), init_path(cell.recipe)
    if init is not None:
        load_weights(network, init, start=True)
