"""``anomaly-u2net data audit``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anomaly_u2net.cli import show
from anomaly_u2net.cli.options import Json
from anomaly_u2net.errors import InputError

if TYPE_CHECKING:
    from anomaly_u2net.data.audit import Audit, Finding
    from anomaly_u2net.evaluation.label_noise import Doubts
    from anomaly_u2net.recipe.parts import InputRecipe

#: There is a finding of the severity that --fail-on asks for, or of a worse one.
PROBLEMS = 1
#: Items of a finding that are named on screen.
_NAMED = 3


def audit(
    path: Annotated[Path, typer.Argument(help="A folder in MVTec layout.")],
    card: Annotated[str, typer.Option(help="The data set's card.")] = "folder",
    recipe: Annotated[
        str | None, typer.Option(help="A recipe, for its input.size and input.fit.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="The network's input, pixels a side.", show_default="320")
    ] = None,
    fit: Annotated[
        str | None,
        typer.Option(help="letterbox, stretch or native.", show_default="letterbox"),
    ] = None,
    run: Annotated[
        list[Path] | None,
        typer.Option(help="A trained run that judges the labels it held out; give several."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for audit.md, audit.json and pictures.")
    ] = None,
    write_groups: Annotated[
        Path | None, typer.Option(help="Write the groups that were found as a groups.csv.")
    ] = None,
    fail_on: Annotated[
        str, typer.Option(help="Exit with 1 from this severity on: error or warning.")
    ] = "warning",
    as_json: Json = False,
) -> None:
    """Look for what is wrong with a data set before it is trained on.

    Copies and near copies, masks that are empty, full, of another size or on nothing visible,
    test images unlike training, defects too small for the input, types with too few masks; with
    --run also labels that trained models doubt. Exit codes: 0 nothing above info, 1 problems.
    """
    from anomaly_u2net.data.audit import audit as look_through
    from anomaly_u2net.data.cards import load_card
    from anomaly_u2net.data.index import index_dataset
    from anomaly_u2net.evaluation import audit_report

    if fail_on not in ("error", "warning"):
        raise InputError(f"--fail-on {fail_on!r}: expected error or warning")
    shape = _input(recipe, size, fit)
    known = load_card(card)
    records = index_dataset(path, card=known)
    folder = audit_report.groups_folder(path, known) if write_groups is not None else None
    doubts = _doubts(run, path) if run else None
    with show.progress() as bar:
        task = bar.add_task("looking", total=len(records), note="")
        result = look_through(
            records, fit=shape.fit, size=shape.size, on_image=lambda _: bar.advance(task)
        )
    if doubts is not None:
        result = result.with_findings(doubts.findings())
    written: list[Path] = []
    if out is not None:
        written += audit_report.write_report(result, out, root=path, doubts=doubts)
    if write_groups is not None and folder is not None:
        column = known.groups.column if known.groups else "group"
        audit_report.write_groups(
            result, write_groups, records=records, folder=folder, column=column
        )
        written.append(write_groups)
    if as_json:
        show.print_json(result.to_dict(path))
    else:
        _print(result, path)
        if written:
            print(f"written: {', '.join(map(str, written))}")
    if result.fails(fail_on):  # type: ignore[arg-type]
        raise typer.Exit(PROBLEMS)


def _input(recipe: str | None, size: int | None, fit: str | None) -> InputRecipe:
    """How large the network sees an image: by a recipe, or by --size and --fit."""
    from pydantic import ValidationError

    from anomaly_u2net.recipe.find import find_recipe
    from anomaly_u2net.recipe.parts import InputRecipe

    if recipe is not None:
        if size is not None or fit is not None:
            raise InputError("--recipe says size and fit already: leave --size and --fit out")
        return find_recipe(recipe).input
    if size is not None and fit == "native":
        raise InputError("--fit native takes images at their own size: leave --size out")
    given = {key: value for key, value in (("size", size), ("fit", fit)) if value is not None}
    try:
        return InputRecipe.model_validate(given)
    except ValidationError as error:
        faults = "; ".join(fault["msg"] for fault in error.errors())
        raise InputError(f"--size and --fit: {faults}; got {given}") from None


def _doubts(runs: list[Path], root: Path) -> Doubts:
    from anomaly_u2net.evaluation.label_noise import held_out, label_doubts

    total = sum(len(held_out(run, root=root)) for run in runs)
    with show.progress() as bar:
        task = bar.add_task("judging labels", total=total, note="")
        return label_doubts(runs, root=root, on_image=lambda _: bar.advance(task))


def _print(result: Audit, root: Path) -> None:
    """Findings on screen, worst first."""
    for finding in result.findings:
        _print_finding(finding, root)
    counts = ", ".join(f"{len(result.of(s))} {s}" for s in ("error", "warning", "info"))
    print(f"{result.images} images; findings: {counts}")


def _print_finding(finding: Finding, root: Path) -> None:
    from anomaly_u2net.data.audit import shown
    from anomaly_u2net.evaluation.audit_report import size_table

    where = f" {finding.category}" if finding.category else ""
    print(f"{finding.severity:<7}  {finding.check}{where}: {finding.text}")
    for item in finding.items[:_NAMED]:
        rest = f" and {len(item.files) - 2} more" if len(item.files) > 2 else ""
        files = ", ".join(shown(file, root) for file in item.files[:2]) + rest
        print(f"           {files}" + (f": {item.note}" if item.note else ""))
    if len(finding.items) > _NAMED:
        print(f"           … and {len(finding.items) - _NAMED} more")
    if finding.advice:
        print(f"         → {finding.advice}")
    if finding.check == "defect_size":
        show.print_table("", *size_table(finding))
