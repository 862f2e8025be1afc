"""One cell of a grid: trained, found trained, or gone on with; or its error."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from anomaly_u2net.benchmark.cells import Cell
from anomaly_u2net.errors import AnomalyU2NetError, InputError, MissingExtra, ModelFileError
from anomaly_u2net.evaluation.runs import run_recipe
from anomaly_u2net.inference.bundle import SPEC_NAME, read_spec
from anomaly_u2net.training import Progress, train
from anomaly_u2net.training.run import check_same_weights

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Trained:
    """A cell with its finished run. minutes: of training and its validations, all sessions."""

    cell: Cell
    folder: Path
    steps: int
    minutes: float


@dataclass(frozen=True, slots=True)
class Failed:
    """What kept a cell from its result. lacking: weights or a package that are not there."""

    error: str
    lacking: bool = False


def attempt(name: str, work: Callable[[], T]) -> T | Failed:
    """What ``work`` returns, or its error, so that the other cells go on.

    An error that is not one of ours is logged whole: out of memory, say, or a fault of this
    package. An interruption is not caught.

    >>> attempt("a division", lambda: 1 / 2)
    0.5
    """
    try:
        return work()
    except AnomalyU2NetError as error:
        return Failed(str(error), lacking=isinstance(error, (ModelFileError, MissingExtra)))
    except Exception as error:
        logger.exception("%s failed", name)
        return Failed(f"{type(error).__name__}: {error}")


def train_cell(
    cell: Cell,
    out: str | Path,
    *,
    max_minutes: float | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Trained:
    """Train ``cell`` into its folder under ``out``, unless that was done already.

    A finished run of the same recipe is taken as it is, an unfinished one is resumed. Raises
    `InputError` when the folder holds a run of another recipe, which is left alone, and as
    `training.train`.
    """
    folder = Path(out) / cell.folder
    begun = is_begun(folder, cell)
    if not is_finished(folder):
        train(cell.recipe, folder, resume=begun, max_minutes=max_minutes, on_progress=on_progress)
    last = json.loads((folder / "checkpoints" / "last.json").read_text(encoding="utf-8"))
    return Trained(cell, folder, last["step"], last["seconds"] / 60)


def is_finished(folder: Path) -> bool:
    """Whether ``folder`` holds a run that ended."""
    return (folder / SPEC_NAME).is_file()


def is_begun(folder: Path, cell: Cell) -> bool:
    """Whether ``folder`` holds a run of the cell; `InputError` for another recipe or start."""
    found = []
    if begun := (folder / "recipe.yaml").is_file():
        found.append(run_recipe(folder).digest)
    if is_finished(folder):
        found.append(read_spec(folder).recipe_hash)
    if others := [digest for digest in found if digest != cell.recipe.digest]:
        raise InputError(
            f"{folder} holds a run of another recipe: expected {cell.recipe.digest[:12]}, found "
            f"{others[0][:12]}: give another --out, or remove that folder"
        )
    check_same_weights(folder, cell.recipe)
    return begun
