"""``anomaly-u2net data split`` and ``data publish``: protocols written to files, or checked."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from anomaly_u2net.cli.options import Json

if TYPE_CHECKING:
    from anomaly_u2net.data.published import SplitFacts
    from anomaly_u2net.data.split_check import SplitCheck

#: Differences that are listed; --json lists all.
SHOWN = 10

Root = Annotated[Path, typer.Argument(help="The data set's folder.")]
Card = Annotated[str, typer.Option(help="The data set's card.")]
NearCopies = Annotated[
    Literal["keep", "leave"],
    typer.Option(help="leave: test images that look like training images are not tested."),
]


def split(
    root: Root,
    protocol: Annotated[str, typer.Option(help="As kshot-10; see the page Protocols.")],
    out: Annotated[Path | None, typer.Option(help="The CSV file to write.")] = None,
    check: Annotated[
        Path | None,
        typer.Option(help="Write nothing: compare this CSV file, a published one too."),
    ] = None,
    card: Card = "folder",
    seed: Annotated[int, typer.Option(min=0, help="Another seed chooses other masks.")] = 0,
    near_copies: NearCopies = "keep",
    as_json: Json = False,
) -> None:
    """Write who is trained on and who is tested by a protocol, checked for leaks.

    With --check FILE: exit code 0 when the file says what the protocol makes of the data, 1 when not.
    """
    from anomaly_u2net.data.duplicates import picture_groups
    from anomaly_u2net.data.index import index_dataset
    from anomaly_u2net.data.protocols import (
        check_protocol,
        split_by_protocol,
        without_near_copies,
    )
    from anomaly_u2net.data.published import split_facts
    from anomaly_u2net.data.split_check import check_split
    from anomaly_u2net.data.split_files import split_rows, write_split
    from anomaly_u2net.errors import InputError

    if (out is None) == (check is None):
        got = "neither" if out is None else "both"
        raise InputError(f"expected --out FILE to write, or --check FILE to compare, got {got}")
    if check is not None:
        split_rows(check)  # before anything else takes its time
    records = index_dataset(root, card=card)
    chosen = split_by_protocol(records, protocol, seed=seed)
    leave = near_copies == "leave"
    groups = picture_groups(records) if leave or out is not None else {}
    if leave:
        chosen = without_near_copies(chosen, groups)
    check_protocol(chosen)
    if check is not None:
        _show_check(
            check_split(check, chosen, root=root),
            check,
            f"{protocol} with seed {seed}{' without near copies' if leave else ''} from {root}",
            as_json=as_json,
        )
    if out is not None:
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


def _show_check(found: SplitCheck, file: Path, made: str, *, as_json: bool) -> None:
    """Raises ``Exit`` with code 1 for differences."""
    from anomaly_u2net.cli.show import print_json

    if as_json:
        print_json(
            {"images": found.images, "differences": [one._asdict() for one in found.differences]}
        )
    elif not found.differences:
        print(f"{file}: {found.images} images, as {made}")
    else:
        count = Counter(one.kind for one in found.differences)
        print(
            f"{file}: {found.images} images, not as {made}: {count['gone']} only in the file, "
            f"{count['new']} not in the file, {count['other']} other"
        )
        for one in found.differences[:SHOWN]:
            print(f"{one.file}: {one.text}")
        if (more := len(found.differences) - SHOWN) > 0:
            print(f"and {more} more; --json lists all")
    if found.differences:
        raise typer.Exit(1)
