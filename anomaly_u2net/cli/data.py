"""``anomaly-u2net data``: the built-in sample, and what a folder holds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from anomaly_u2net.cli import audit, check, protocols
from anomaly_u2net.cli.synthesize import synthesize

app = typer.Typer(
    help="The built-in sample, data-set cards, and what a folder holds.", no_args_is_help=True
)
app.command("check")(check.check)
app.command("split")(protocols.split)
app.command("publish")(protocols.publish)
app.command("synthesize")(synthesize)
app.command("audit")(audit.audit)


@app.command("demo")
def demo(
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    seed: Annotated[int, typer.Option(help="Another seed draws other defects.")] = 0,
) -> None:
    """Write the built-in sample data set: three categories, drawn defects with masks."""
    from anomaly_u2net.data.demo import write_demo

    print(write_demo(out, seed=seed))


@app.command("cards")
def cards() -> None:
    """The data sets that have a card: what they are and how to get them."""
    from anomaly_u2net.cli.show import print_fields
    from anomaly_u2net.data.cards import list_cards, load_card

    for name in list_cards():
        card = load_card(name)
        print_fields({name: card.title, "licence": card.licence, "get": card.get})
        print()


@app.command("count")
def count(
    root: Annotated[Path, typer.Argument(help="The data set's folder.")],
    card: Annotated[str, typer.Option(help="The data set's card.")] = "folder",
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Count the images of a data set by category, split and label."""
    from anomaly_u2net.cli.show import print_json, print_table
    from anomaly_u2net.data.index import index_dataset

    counts = Counter((r.category, r.split, r.label) for r in index_dataset(root, card=card))
    rows = [[*key, str(n)] for key, n in sorted(counts.items())]
    if as_json:
        keys = ("category", "split", "label")
        print_json(
            [dict(zip(keys, key, strict=True)) | {"images": n} for key, n in sorted(counts.items())]
        )
    else:
        print_table(str(root), ["category", "split", "label", "images"], rows)
