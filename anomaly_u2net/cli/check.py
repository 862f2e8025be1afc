"""``anomaly-u2net data check``: what is missing, broken or unexpected in a data set."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anomaly_u2net.cli.options import Json

if TYPE_CHECKING:
    from anomaly_u2net.data.check import Total

#: Findings of a kind that are listed; --json lists all.
SHOWN = 20


def check(
    root: Annotated[Path, typer.Argument(help="The data set's folder.")],
    card: Annotated[str, typer.Option(help="The data set's card.")] = "folder",
    as_json: Json = False,
) -> None:
    """Read every image and mask, and tell what is missing, broken or unexpected.

    Exit code 0: the data set is whole. 1: something was found.
    """
    from anomaly_u2net.cli.show import print_json, print_table, progress
    from anomaly_u2net.data.check import check_dataset

    with progress() as bar:
        task = bar.add_task("images", total=None, note="")
        report = check_dataset(
            root, card=card, on_image=lambda n, of: bar.update(task, completed=n, total=of)
        )
    counts = Counter((found.kind, found.category) for found in report.findings)
    if as_json:
        print_json(
            {
                "images": report.images,
                "findings": [found._asdict() for found in report.findings],
                "uncounted": report.uncounted,
                "total": report.total and report.total._asdict(),
            }
        )
    elif not counts:
        print(f"{root}: {report.images} images, nothing missing, broken or unexpected")
    else:
        rows = [[*key, str(n)] for key, n in counts.items()]
        print_table(f"{root}: {report.images} images", ["kind", "category", "findings"], rows)
        for kind in dict.fromkeys(kind for kind, _ in counts):
            own = [found for found in report.findings if found.kind == kind]
            for found in own[:SHOWN]:
                print(": ".join(filter(None, (kind, found.file or found.category, found.text))))
            if len(own) > SHOWN:
                print(f"{kind}: and {len(own) - SHOWN} more; --json lists all")
    if report.uncounted and not as_json:
        print(f"no counts to verify against, in card {card}: {', '.join(report.uncounted)}")
    if report.total and not as_json:
        _show_total(report.total, card)
    if counts:
        raise typer.Exit(1)


def _show_total(total: Total, card: str) -> None:
    from anomaly_u2net.data.index import few, images_in_words

    stated = f"the total in card {card}, {images_in_words(total.stated)}"
    if total.absent:
        print(f"{stated}, was not verified; not here: {few(total.absent)}")
    elif total.found == total.stated:
        print(f"{stated}, is what was found")
