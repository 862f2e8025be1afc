"""``anomaly-u2net data synthesize``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from anomaly_u2net.cli import show
from anomaly_u2net.cli.options import Json


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

    records, names = index_dataset(root, card=card), generator or list(DEFAULT_WEIGHTS)
    with show.progress() as bar:
        task = bar.add_task("made", total=None, note="")
        written = write(
            records,
            out,
            count=count,
            generators=names,
            textures=textures,
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
