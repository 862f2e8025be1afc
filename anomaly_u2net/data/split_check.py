"""A split's file beside what its protocol makes of the data now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from anomaly_u2net.data.index import few
from anomaly_u2net.data.split_files import LABELLED, split_cells, split_rows
from anomaly_u2net.errors import DatasetError
from anomaly_u2net.types import GOOD, ImageRecord, MaskValues

FILE, PART, LABEL = (LABELLED.index(name) for name in ("file", "split", "label"))
#: What a file without the column mask_values means.
WHITE: MaskValues = "white"


class SplitDifference(NamedTuple):
    """An image that a file and a split do not have alike.

    gone: only the file has it. new: only the split has it. other: both have it; text says what the
    file holds and what the split does.
    """

    kind: Literal["gone", "new", "other"]
    file: str
    text: str


class SplitCheck(NamedTuple):
    """images: how many the file lists."""

    images: int
    differences: list[SplitDifference]


def check_split(path: str | Path, split: Iterable[ImageRecord], *, root: str | Path) -> SplitCheck:
    """Compare the file that ``write_split`` or ``publish_splits`` wrote with ``split``, made now.

    By the file's name below ``root``: category, split, label, mask, group and the image's SHA-256; the
    order does not matter. Published files list the chosen masks alone, or those and the tested
    images; of ``split`` only as much is compared. Raises ``DatasetError`` for a file that is none, or
    that lists an image twice.
    """
    rows = [[*row, WHITE][: len(LABELLED)] for row in split_rows(path)]
    listed = {row[FILE]: row for row in rows}
    if len(listed) < len(rows):
        twice = sorted(file for file, n in Counter(row[FILE] for row in rows).items() if n > 1)
        raise DatasetError(
            f"{path}: expected every image once, found {len(twice)} twice: {few(twice)}; "
            "make the split again"
        )
    kinds = {(row[PART], row[LABEL] != GOOD) for row in rows}
    cells = (split_cells(r, root=Path(root)) for r in split if _is_listed(r, kinds))
    made = {row[FILE]: row for row in cells}
    found = [
        *(_lone("gone", listed[file]) for file in sorted(listed.keys() - made.keys())),
        *(_lone("new", made[file]) for file in sorted(made.keys() - listed.keys())),
    ]
    for file in sorted(listed.keys() & made.keys()):
        changed = [
            f"{name} {old or 'none'}, now {new or 'none'}"
            for name, old, new in zip(LABELLED, listed[file], made[file], strict=True)
            if old != new
        ]
        if changed:
            found.append(SplitDifference("other", file, "; ".join(changed)))
    return SplitCheck(len(rows), found)


def _is_listed(record: ImageRecord, kinds: set[tuple[str, bool]]) -> bool:
    """Whether a file that holds such (part, is defective) is to list an image like this one."""
    if not kinds <= {("train", True), ("test", False), ("test", True)}:
        return True  # a whole split
    if record.split == "test":
        return any(part == "test" for part, _ in kinds)
    return record.split == "train" and record.defective


def _lone(kind: Literal["gone", "new"], row: list[str]) -> SplitDifference:
    where = {"gone": "only in the file", "new": "not in the file"}[kind]
    return SplitDifference(kind, row[FILE], f"{where}: {row[PART]}, {row[LABEL]}")
