"""Options that several verbs have: each is said once, here."""

from __future__ import annotations

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
