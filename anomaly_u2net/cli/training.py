"""``anomaly-u2net train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anomaly_u2net.cli import show
from anomaly_u2net.cli.options import DataRoot, Init, Json, Set, with_values


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of one of ours.")],
    out: Annotated[
        Path | None, typer.Option(help="Run folder to write.", show_default="runs/<name>")
    ] = None,
    data_root: DataRoot = None,
    init: Init = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was interrupted.")
    ] = False,
    max_minutes: Annotated[
        float | None, typer.Option(help="Stop by then, with the learning rate brought down.")
    ] = None,
    devices: Annotated[
        int | None, typer.Option(help="Processes; more than 1 trains with DDP.")
    ] = None,
    overrides: Set = None,
    as_json: Json = False,
) -> None:
    """Train a U²-Net on masks, by a recipe, into a run folder."""
    values = {"model.init": init, "train.devices": devices}
    from anomaly_u2net.recipe.find import find_recipe

    settings = find_recipe(recipe, overrides=with_values(overrides, data_root, values))
    out = Path("runs") / settings.name if out is None else out
    from anomaly_u2net.training import Progress
    from anomaly_u2net.training import train as run_training

    with show.progress() as bar:
        task = bar.add_task("training", total=settings.train.steps, note="")

        def draw(now: Progress) -> None:
            kept = now.row.get(f"val_{settings.train.select}", "")
            note = f"loss {now.row['loss']}  {settings.train.select} {kept}" if now.row else ""
            bar.update(task, completed=now.step, note=note)

        result = run_training(
            settings, out, resume=resume, max_minutes=max_minutes, on_progress=draw
        )
    fields = {
        "run": str(result.folder),
        "steps": result.steps,
        "seconds": round(result.seconds, 1),
        "kept_step": result.metrics["step"],
    }
    fields |= {k: v for k, v in result.metrics.items() if k.startswith("val_")}
    show.print_json(fields) if as_json else show.print_fields(fields)
