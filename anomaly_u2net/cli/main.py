"""``anomaly-u2net``: verbs that parse, call the library and print.

Progress goes to stderr, results to stdout. Exit codes: 0 done (score: every row OK), 1 NG or REVIEW
rows, 2 ERROR rows, 3 the command could not run (wrong arguments, missing or unusable files).
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from typing import Any

import typer

import anomaly_u2net
from anomaly_u2net.cli import benchmark, calibrate, compare, data, line, measure, recipes, training
from anomaly_u2net.errors import AnomalyU2NetError

#: The command could not run at all; 0, 1 and 2 belong to the rows of ``score``.
FAILED = 3
INTERRUPTED = 130
#: Wrong arguments. Recent typer carries its own copy of click, so the class is found by its heir.
USAGE_ERRORS: tuple[type[Any], ...] = tuple(
    heir for heir in typer.BadParameter.__mro__ if heir.__name__ == "ClickException"
)

app = typer.Typer(
    name="anomaly-u2net",
    help="Industrial defect segmentation with U²-Net: train on masks, calibrate, score a line.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 NG or REVIEW rows, 2 ERROR rows, 3 the command could not run.",
)
app.command("train")(training.train)
app.command("compare")(compare.compare)
app.command("benchmark")(benchmark.benchmark)
app.command("evaluate")(measure.evaluate)
app.command("calibrate")(calibrate.calibrate)
app.command("score")(line.score)
app.command("overlay")(line.overlay)
app.add_typer(recipes.app, name="recipe")
app.add_typer(data.app, name="data")


def _version(show: bool) -> None:
    if show:
        typer.echo(f"anomaly-u2net {anomaly_u2net.__version__}")
        raise typer.Exit


@app.callback()
def options(
    _: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and stop."
    ),
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Log more, to stderr."),
) -> None:
    """Industrial defect segmentation with U²-Net: train on masks, calibrate, score a line."""
    logging.basicConfig(
        level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr
    )
    if verbose:
        logging.getLogger("anomaly_u2net").setLevel(logging.INFO)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit; every error of ours is one readable line on stderr."""
    # Threads that spin while they wait make torch many times slower on a machine that does
    # anything else; to be set before torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        code = app(args=arguments, standalone_mode=False, prog_name="anomaly-u2net")
    except AnomalyU2NetError as error:
        typer.echo(f"anomaly-u2net: {error}", err=True)
        code = FAILED
    except USAGE_ERRORS as error:
        error.show()
        code = FAILED
    except OSError as error:
        typer.echo(f"anomaly-u2net: {error}", err=True)
        code = FAILED
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except Exception:  # a fault of ours: shown whole, but not with exit code 1, which means NG
        traceback.print_exc()
        code = FAILED
    if code == INTERRUPTED:  # also what typer makes of Ctrl-C
        typer.echo("anomaly-u2net: interrupted", err=True)
    sys.exit(code if isinstance(code, int) else 0)
