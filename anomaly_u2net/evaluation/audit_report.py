"""An audit on disk: audit.md to read, audit.json for programs, and pictures of what was found."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from anomaly_u2net.data.audit import EDGES, SEVERITIES, Audit, Finding, Item, group_rows, shown
from anomaly_u2net.data.cards import Card
from anomaly_u2net.data.images import read_image, read_mask
from anomaly_u2net.data.index import find_places
from anomaly_u2net.errors import DatasetError
from anomaly_u2net.evaluation.label_noise import SAY, Doubts, doubt_picture
from anomaly_u2net.files import write_aside, write_json, write_text
from anomaly_u2net.types import Image, ImageRecord
from anomaly_u2net.visual import outline, sheet, write_png
from anomaly_u2net.visual.overlay import TRUE

#: Of each finding: items named in audit.md, and shown in its picture.
NAMED, PICTURED = 20, 12
_CELL = 240
_PANEL = 560
#: Images of one group that are shown.
_MEMBERS = 6
_GROUPS = (
    "copies_across_splits", "groups_across_splits", "near_copies_across_splits",
    "near_copies_unlike_labels", "copies", "near_copies", "copies_across_categories",
)  # fmt: skip
_MASKS = ("mask_unseen", "mask_large", "defect_size")


def write_report(
    audit: Audit, folder: str | Path, *, root: str | Path, doubts: Doubts | None = None
) -> list[Path]:
    """Write audit.md, audit.json and a picture a finding into ``folder``; the files, audit.md first.

    root: the data set; files are named relative to it. doubts: what `label_doubts` found, for its
    pictures; add its findings to the audit before.
    """
    folder = Path(folder)
    pictures: dict[int, str] = {}
    for number, finding in enumerate(audit.findings):
        picture = _picture(finding, doubts)
        if picture is not None:
            category = f"-{finding.category}" if finding.category else ""
            pictures[number] = f"{finding.check}{category}.png"
            write_png(folder / pictures[number], picture)
    write_json(folder / "audit.json", audit.to_dict(root))
    write_text(folder / "audit.md", _markdown(audit, pictures, Path(root)))
    names = ["audit.md", "audit.json", *dict.fromkeys(pictures.values())]
    return [folder / name for name in names]


def groups_folder(root: str | Path, card: Card) -> Path:
    """The folder of the one category in ``root``: its groups.csv lies there.

    Raises `DatasetError` for several categories, each of which has a groups.csv of its own, and for
    a card that reads none.
    """
    places = find_places(Path(root), card)
    if len(places) != 1:
        raise DatasetError(
            "expected one category, whose groups go into the groups.csv in its folder; found "
            f"{', '.join(sorted(places))}: audit one category's folder at a time"
        )
    folder = next(iter(places.values()))
    if not folder.is_dir():
        raise DatasetError(
            f"expected a category with a folder of its own for its groups.csv; card {card.name!r} "
            f"finds the images by {folder} and reads no groups: leave --write-groups out"
        )
    return folder


def write_groups(
    audit: Audit,
    file: str | Path,
    *,
    records: Sequence[ImageRecord],
    folder: str | Path,
    column: str = "group",
) -> int:
    """Write the groups of one category as `index_dataset` reads them; how many groups there are.

    Columns file, relative to ``folder`` (see `groups_folder`), and ``column`` (as the card states
    it). Groups that were given and groups that were found are joined where they share an image, so
    that none is lost.
    """
    rows = group_rows(audit.joined, [record.path for record in records], root=Path(folder))
    with write_aside(file) as aside, aside.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerows([("file", column), *rows])
    return len(audit.joined)


def size_table(finding: Finding) -> tuple[list[str], list[list[str]]]:
    """Head and lines of the histogram of a finding ``defect_size``: regions by type and width."""
    limits = [f"{edge:g}" for edge in EDGES]
    between = [f"{low}–{high}" for low, high in pairwise(limits)]
    head = ["type", f"< {limits[0]} px", *between, f"≥ {limits[-1]}"]
    rows = finding.numbers["histogram"].items()
    return head, [[label, *map(str, counts)] for label, counts in rows]


def _markdown(audit: Audit, pictures: dict[int, str], root: Path) -> str:
    counts = ", ".join(f"{len(audit.of(severity))} {severity}" for severity in SEVERITIES)
    lines = [f"# Audit of {root}", "", f"{audit.images} images; findings: {counts}.", ""]
    for number, finding in enumerate(audit.findings):
        where = f" ({finding.category})" if finding.category else ""
        lines += [f"## {finding.severity}: {finding.check}{where}", "", f"{finding.text}.", ""]
        if finding.advice:
            lines += [f"**What to do.** {finding.advice}", ""]
        if finding.check == "defect_size":
            head, rows = size_table(finding)
            lines += ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
            lines.append("")
        if number in pictures:
            lines += [f"![{finding.check}]({pictures[number]})", ""]
        lines += [_line(item, root) for item in finding.items[:NAMED]]
        rest = len(finding.items) - NAMED
        lines += [f"- … and {rest} more in audit.json"] if rest > 0 else []
        lines += [""] if finding.items else []
    return "\n".join(lines).rstrip() + "\n"


def _line(item: Item, root: Path) -> str:
    files = ", ".join(f"`{shown(file, root)}`" for file in item.files)
    return f"- {files}" + (f": {item.note}" if item.note else "")


def _picture(finding: Finding, doubts: Doubts | None) -> Image | None:
    """What there is to see of a finding; ``None`` where that is nothing."""
    items = finding.items[:PICTURED]
    if not items:
        return None
    if finding.check in _GROUPS:
        rows = [_row(item) for item in items]
        return sheet([cell for row in rows for cell in row], columns=_MEMBERS, cell=_CELL)
    if finding.check in _MASKS:
        cells = [cell for item in items for cell in _with_mask(item)]
        return sheet(cells, columns=_MEMBERS, cell=_CELL)
    if doubts is not None and finding.check in SAY:
        own = [doubt for doubt in doubts.doubts if doubt.kind == finding.check][:PICTURED]
        return sheet([doubt_picture(doubt) for doubt in own], columns=2, cell=_PANEL)
    return None


def _row(item: Item) -> list[Image]:
    """The first images of a group, filled up with blank ones: a row of the sheet."""
    cells = [read_image(path) for path in item.files[:_MEMBERS]]
    return cells + [np.zeros((8, 8, 3), np.uint8)] * (_MEMBERS - len(cells))


def _with_mask(item: Item) -> list[Image]:
    """An image without and with its mask outlined."""
    image = read_image(item.files[0])
    mask = read_mask(item.files[1], values=item.mask_values)
    return [image, outline(image, [(mask, TRUE)])]
