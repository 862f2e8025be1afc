"""``anomaly-u2net data synthesize``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anomaly_u2net.cli import show
from anomaly_u2net.cli.options import Json
from anomaly_u2net.errors import InputError

if TYPE_CHECKING:
    from anomaly_u2net.recipe import GeneratorParameters


def synthesize(
    root: Annotated[Path, typer.Argument(help="A folder in MVTec layout.")],
    out: Annotated[Path, typer.Option(help="New folder to write.")],
    card: Annotated[str, typer.Option(help="The data set's card.")] = "folder",
    count: Annotated[int, typer.Option(help="Images per generator and category.")] = 10,
    generator: Annotated[
        list[str] | None,
        typer.Option(
            help="One of perlin, structure, cut_paste, scar, poisson, scratch, stain, hole, crack, "
            "paste; several times for several.",
            show_default="all but paste",
        ),
    ] = None,
    textures: Annotated[
        str | None,
        typer.Option(
            help="What perlin fills its shapes with: self, noise, or a folder of images.",
            show_default="self and noise by turns",
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A parameter of a generator by its recipe key, e.g. synthesis.scar.length=40.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed makes other defects.")] = 0,
    as_json: Json = False,
) -> None:
    """Make defects on the good training images of a data set, with masks, as a new data set.

    The good images are copied into it, so it can be trained on by itself. To make defects while
    training instead, new ones at every step, set synthesis.share in the recipe.
    """
    from anomaly_u2net.data.index import index_dataset
    from anomaly_u2net.data.synthesis.write import synthesize as write
    from anomaly_u2net.recipe import DEFAULT_WEIGHTS

    names = generator or list(DEFAULT_WEIGHTS)
    parameters = _parameters(overrides or [])
    records = index_dataset(root, card=card)
    with show.progress() as bar:
        task = bar.add_task("made", total=None, note="")
        written = write(
            records,
            out,
            count=count,
            generators=names,
            textures=textures,
            parameters=parameters,
            seed=seed,
            on_image=lambda done, total: bar.update(task, completed=done, total=total),
        )
    counts = Counter((made.category, made.generator) for made in written)
    found = [(c, g) for c in sorted({c for c, _ in counts}) for g in names]
    if as_json:
        show.print_json([{"category": c, "generator": g, "images": counts[c, g]} for c, g in found])
    else:
        rows = [[c, g, str(counts[c, g])] for c, g in found]
        show.print_table(f"made in {out}", ["category", "generator", "images"], rows)


def _parameters(overrides: list[str]) -> GeneratorParameters:
    """What the generators keep to: the defaults, but for the values of ``--set``."""
    from anomaly_u2net.recipe import GeneratorParameters, Recipe
    from anomaly_u2net.recipe.part import hint

    known = GeneratorParameters.model_fields
    names = set()
    for text in overrides:
        key, equals, _ = text.partition("=")
        part, *rest = key.strip().split(".")
        if part != "synthesis" or len(rest) != 2 or not equals:
            raise InputError(
                f"--set {text!r}: expected synthesis.GENERATOR.PARAMETER=VALUE, e.g. "
                "synthesis.scar.length=40"
            )
        if rest[0] not in known:
            raise InputError(
                f"--set {text!r}: expected a generator with parameters, got {rest[0]!r}"
                f"{hint(rest[0], known)}"
            )
        names.add(rest[0])
    if not names:
        return GeneratorParameters()
    made = {"share": 0.5, "generators": dict.fromkeys(names, 1)}
    recipe = Recipe.from_dict({"name": "made", "synthesis": made}).with_overrides(overrides)
    return GeneratorParameters(**{name: getattr(recipe.synthesis, name) for name in names})
