"""Options that several verbs have: each is said once, here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

RUN = typer.Argument(help="The folder of a training run.")

Run = Annotated[Path, RUN]
#: For a verb that can do without a run.
MaybeRun = Annotated[Path | None, RUN]
MovedTo = Annotated[
    Path | None, typer.Option(help="Where the run's own data lie now, if they moved.")
]
Backend = Annotated[str, typer.Option(help="auto, onnx or torch.")]
#: For a verb that can do without a model, and then refuses the option.
MaybeBackend = Annotated[str | None, typer.Option(help="auto, onnx or torch.", show_default="auto")]
Memory = Annotated[
    str | None,
    typer.Option(
        help="How much may be used, as 8GiB: beyond it, pixels are counted in bins of score.",
        show_default="half of what is available",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
DataRoot = Annotated[str | None, typer.Option(help="Folder in MVTec layout; sets data.root.")]
Init = Annotated[
    str | None, typer.Option(help="Weights to start from (.safetensors, .pth, .onnx).")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe key, e.g. train.steps=200."),
]


def with_values(
    overrides: Sequence[str] | None, data_root: str | None, values: Mapping[str, str | int | None]
) -> list[str]:
    """The overrides of a recipe that ``--set``, ``--data-root`` and other options ask for."""
    if data_root is not None and "$" not in data_root:  # found again from any folder
        data_root = str(Path(data_root).expanduser().absolute())
    given = {"data.root": data_root, **values}
    asked = [
        f"{key}={json.dumps(value, ensure_ascii=False)}"  # a path as it is
        for key, value in given.items()
        if value is not None
    ]
    return [*(overrides or []), *asked]
