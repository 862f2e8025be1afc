"""Splits as CSV files: who trains, who is held out, who is tested, and the bytes of each image."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import get_args

from anomaly_u2net.data.index import few
from anomaly_u2net.errors import DatasetError
from anomaly_u2net.files import sha256_file, write_aside
from anomaly_u2net.types import GOOD, ImageRecord, MaskValues, Split

COLUMNS = ("file", "category", "split", "label", "mask", "group", "sha256")
SHA256 = COLUMNS.index("sha256")
#: One more where some masks hold label numbers.
LABELLED = (*COLUMNS, "mask_values")


def write_split(path: str | Path, records: Iterable[ImageRecord], *, root: str | Path) -> None:
    """Write a split as CSV, whole or not at all: one row a record, in the order given.

    Columns: file, category, split, label, mask, group, sha256. ``file`` and ``mask`` are POSIX
    paths relative to ``root``; an empty cell is None. A column mask_values follows where some masks
    hold label numbers. Raises ``DatasetError`` for a file that
    does not lie under ``root``.
    """
    root, records = Path(root), list(records)
    labelled = any(record.mask_values == "labels" for record in records)
    with write_aside(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(LABELLED if labelled else COLUMNS)
        for record in records:
            cells = split_cells(record, root=root)
            writer.writerow(cells if labelled else cells[: len(COLUMNS)])


def split_cells(record: ImageRecord, *, root: Path) -> list[str]:
    """What ``write_split`` writes of one record, under the columns ``LABELLED``."""
    return [
        _relative(record.path, root),
        record.category,
        record.split,
        record.label,
        _relative(record.mask, root) if record.mask else "",
        record.group or "",
        sha256_file(record.path),
        record.mask_values,
    ]


def read_split(
    path: str | Path,
    root: str | Path,
    *,
    only: Split | None = None,
    category: str | None = None,
    check_bytes: bool = False,
) -> list[ImageRecord]:
    """Read what ``write_split`` wrote, for the data under ``root``.

    ``only`` picks one split, ``category`` one category; files of others need not be there. Raises
    ``DatasetError``: not such a CSV, an unknown split, an image twice, a defect without a mask, files
    that are missing and, with ``check_bytes``, images whose SHA-256 has changed.
    """
    path, root = Path(path), Path(root)
    records: list[ImageRecord] = []
    changed: list[str] = []
    for line, row in enumerate(split_rows(path), start=2):
        record = _record(row, root, where=f"{path}, line {line}")
        if only not in (None, record.split) or category not in (None, record.category):
            continue
        if check_bytes and record.path.is_file() and sha256_file(record.path) != row[SHA256]:
            changed.append(row[0])
        records.append(record)
    files = [record.path for record in records]
    missing = [str(file) for file in files if not file.is_file()]
    missing += [str(r.mask) for r in records if r.mask and not r.mask.exists()]
    twice = [str(file) for file, count in Counter(files).items() if count > 1]
    for what, names in (("missing", missing), ("altered", changed), ("listed twice", twice)):
        if names:
            raise DatasetError(
                f"{path}: expected every file once under {root}, unaltered; {len(names)} are "
                f"{what}: {few(names)}; restore the data, or make the split again"
            )
    return records


def listed_files(path: str | Path) -> list[tuple[str, str, str]]:
    """(file below the root, category, split) of every row; the images need not be there."""
    return [(file, category, split) for file, category, split, *_ in split_rows(path)]


def training_hashes(path: str | Path) -> set[str]:
    """The SHA-256 of every image that ``write_split`` listed outside the test split.

    Needs only the CSV, not the images. Raises ``DatasetError`` when it is not such a CSV.
    """
    return {row[SHA256] for row in split_rows(path) if row[2] != "test"}


def split_rows(path: str | Path) -> list[list[str]]:
    """The lines of a split's CSV below the header, whatever lies under the root.

    Raises ``DatasetError`` when it is not such a CSV.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = list(csv.reader(file)) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(
            f"{path}: expected a split as CSV, could not read it: {error}"
        ) from error
    if tuple(header) not in (COLUMNS, LABELLED):
        raise DatasetError(
            f"{path}: expected the columns {','.join(COLUMNS)}, found {','.join(header) or 'none'};"
            " write the file with write_split"
        )
    for line, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise DatasetError(
                f"{path}, line {line}: expected {len(header)} cells, found {len(row)}"
            )
    return rows


def _record(row: list[str], root: Path, *, where: str) -> ImageRecord:
    file, category, split, label, mask, group, _, *more = row
    values = more[0] if more else "white"
    if split not in get_args(Split):
        raise DatasetError(
            f"{where}: expected a split out of {', '.join(get_args(Split))}, found {split!r}"
        )
    if values not in get_args(MaskValues):
        raise DatasetError(
            f"{where}: expected mask_values out of {', '.join(get_args(MaskValues))}, found "
            f"{values!r}"
        )
    for name in (file, mask):
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise DatasetError(f"{where}: expected a path under the root, found {name!r}")
    if not (file and category and label) or (label == GOOD) == bool(mask):
        raise DatasetError(
            f"{where}: expected file, category and label, and a mask for a defect only, "
            f"found {','.join(row)}"
        )
    return ImageRecord(
        root / file,
        category,
        split,  # type: ignore[arg-type]
        label,
        root / mask if mask else None,
        group or None,
        values,  # type: ignore[arg-type]
    )


def _relative(path: Path, root: Path) -> str:
    try:
        return path.relative_to(root).as_posix()
    except ValueError as error:
        raise DatasetError(f"{path}: expected a file under {root}; give its root") from error
