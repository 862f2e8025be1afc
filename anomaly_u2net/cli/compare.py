"""``anomaly-u2net compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anomaly_u2net.cli import show
from anomaly_u2net.cli.options import DataRoot, Init, Json, Set, with_values
from anomaly_u2net.errors import InputError
from anomaly_u2net.resources import require_extra

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from anomaly_u2net.benchmark import DesignTable

#: No cell finished: there is nothing to compare.
NOTHING = 3


def compare(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of one of ours.")],
    out: Annotated[Path, typer.Option(help="Folder for the table and a run folder per cell.")],
    arch: Annotated[
        list[str] | None, typer.Option(help="An architecture: one value of model.arch.")
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUES",
            help="Vary a recipe key too, by one value or a YAML list: "
            r"'loss.pixel=\[bce, bce+dice]'.",
        ),
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option(help="Train each design with this seed too.")
    ] = None,
    overrides: Set = None,
    data_root: DataRoot = None,
    init: Init = None,
    max_minutes: Annotated[
        float | None, typer.Option(help="Stop each training by then, learning rate brought down.")
    ] = None,
    plot: Annotated[
        bool, typer.Option("--plot", help="Draw time against quality too: compare.png.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train several designs by one recipe, and compare them on the validation part.

    Every combination of --arch, --vary and --seed is one training by the same recipe.
    Numbers are of validation images, never of test images; differences are to the first design.
    Call it again to go on: finished trainings are kept, killed ones resumed.
    Exit code 3 when none finished.
    """
    from anomaly_u2net.recipe.find import find_recipe

    values = {"model.init": init}
    settings = find_recipe(recipe, overrides=with_values(overrides, data_root, values))
    varied = _varied(arch or [], vary or [])
    if plot:
        require_extra("report", "matplotlib")  # now, not after hours of training
    from anomaly_u2net.benchmark import compare_designs, draw_frontier

    with show.progress() as bar:
        table = compare_designs(
            settings,
            vary=varied,
            out=out,
            seeds=seed,
            max_minutes=max_minutes,
            on_work=_Bars(bar),
        )
    written = table.save(out)  # first: the trainings took long, and stdout may be closed
    finished = any(row.finished for row in table.rows)
    if plot and finished:
        written.append(out / "compare.png")
        draw_frontier(table, written[-1])
    if as_json:
        show.print_json(table.to_dict())
    else:
        if finished:
            _print(table)
        else:
            print("\n".join(f"{row.cell.name}: {row.error}" for row in table.rows))
        print(f"written: {', '.join(map(str, written))}")
    if not finished:
        raise typer.Exit(NOTHING)


def _varied(arch: list[str], vary: list[str]) -> dict[str, list[Any]]:
    """Key → values, in the order given, architectures first."""
    import yaml

    found: dict[str, list[Any]] = {"model.arch": list(arch)} if arch else {}
    for text in vary:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not key:
            raise InputError(f"--vary {text!r}: expected KEY=VALUES, e.g. train.lr=[0.001, 0.003]")
        if key in found:
            raise InputError(f"--vary {text!r}: {key} is varied already: give all values at once")
        try:
            values = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise InputError(f"--vary {text!r}: the values are not valid YAML: {error}") from error
        found[key] = values if isinstance(values, list) else [values]
    return found


class _Bars:
    """A progress bar for each piece of work, made when it begins."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        if what not in self._tasks:
            self._tasks[what] = self._bar.add_task(what, total=total, note="")
        self._bar.update(self._tasks[what], completed=done)


def _print(table: DesignTable) -> None:
    """The table on screen, intervals below their numbers."""
    from rich.markup import escape

    lines = [[escape(cell).replace(" (", "\n(") for cell in line] for line in table.lines()]
    header = [title.replace(" ", "\n") for title in table.header()]
    show.print_table("designs on validation images", header, lines)
    print(table.caption)
