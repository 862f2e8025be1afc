"""``anomaly-u2net data split`` and ``data publish``: protocols written to files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from anomaly_u2net.cli.options import Json

if TYPE_CHECKING:
    from anomaly_u2net.data.published import SplitFacts

Root = Annotated[Path, typer.Argument(help="The data set's folder.")]
Card = Annotated[str, typer.Option(help="The data set's card.")]
NearCopies = Annotated[
    Literal["keep", "leave"],
    typer.Option(help="leave: test images that look like training images are not tested."),
]


def split(
    root: Root,
    out: Annotated[Path, typer.Option(help="The CSV file to write.")],
    protocol: Annotated[str, typer.Option(help="As kshot-10; see the page Protocols.")],
    card: Card = "folder",
    seed: Annotated[int, typer.Option(min=0, help="Another seed chooses other masks.")] = 0,
    near_copies: NearCopies = "keep",
    as_json: Json = False,
) -> None:
    """Write who is trained on and who is tested by a protocol, checked for leaks."""
    from anomaly_u2net.data.duplicates import picture_groups
    from anomaly_u2net.data.index import index_dataset
    from anomaly_u2net.data.protocols import (
        check_protocol,
        split_by_protocol,
        without_near_copies,
    )
    from anomaly_u2net.data.published import split_facts
    from anomaly_u2net.data.split_files import write_split

    records = index_dataset(root, card=card)
    chosen = split_by_protocol(records, protocol, seed=seed)
    groups = picture_groups(records)
    if near_copies == "leave":
        chosen = without_near_copies(chosen, groups)
    check_protocol(chosen)
    write_split(out, chosen, root=root)
    facts = split_facts(records, chosen, groups, protocol=protocol, seed=seed)
    _show([facts], out, as_json=as_json)


def publish(
    root: Root,
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    card: Card = "folder",
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            help="May be given several times.",
            show_default="kshot-1, kshot-5, kshot-10 and good_only",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many: 0, 1, …")] = 3,
    near_copies: NearCopies = "keep",
    as_json: Json = False,
) -> None:
    """Write the chosen masks of several protocols and seeds, small enough to publish.

    With --near-copies leave also the test images that stay, beside the files without it.
    """
    from anomaly_u2net.data.index import index_dataset
    from anomaly_u2net.data.published import PROTOCOLS, publish_splits

    records = index_dataset(root, card=card)
    facts = publish_splits(
        records,
        out,
        root=root,
        protocols=protocol or PROTOCOLS,
        seeds=range(seeds),
        leave=near_copies == "leave",
    )
    _show(facts, out, as_json=as_json)


def _show(facts: list[SplitFacts], out: Path, *, as_json: bool) -> None:
    from anomaly_u2net.cli.show import print_json, print_table

    if as_json:
        print_json([one._asdict() for one in facts])
        return
    rows = [[str(value) for value in one._replace(hash=one.hash[:12])] for one in facts]
    print_table(str(out), [name.replace("_", " ") for name in facts[0]._fields], rows)
    for one in facts:
        if one.near_copies:
            print(
                f"{one.protocol}, seed {one.seed}: {one.near_copies} of "
                f"{one.test_good + one.test_defective} test images look like a training image; "
                "--near-copies leave takes them out of the test"
            )
