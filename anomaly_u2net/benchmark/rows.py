"""What a protocol of a benchmark file stands for on its images: the cells of one row.

===============  ===============================================================================
``full``         itself; where no category has masks in its training part, the five folds
``full-folds``   the five folds
``hard-each-K``  ``hard-TYPE-K`` of every category and each of its types (DRA, arXiv 2203.14506)
others           themselves
===============  ===============================================================================
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from anomaly_u2net.data.protocols import choosable
from anomaly_u2net.errors import DatasetError, InputError
from anomaly_u2net.recipe.protocol import FOLDS, parse_protocol
from anomaly_u2net.types import ImageRecord, types_of

#: Protocols of benchmarks alone: every fold in one row, and how every type is written.
ALL_FOLDS, EACH = "full-folds", "each"
FOLD_NAMES = [f"full-fold{fold}of{FOLDS}" for fold in range(1, FOLDS + 1)]


class RowSplits(NamedTuple):
    """The (category, protocol) of each cell of a row, for one seed and method.

    over: what its numbers are means over beside categories and seeds, as ``5 folds``, or nothing.
    left_out: what the protocol cannot be made of, and why.
    """

    cells: tuple[tuple[str, str], ...]
    over: str = ""
    left_out: tuple[str, ...] = ()


def check_name(protocol: str) -> None:
    """Raise ``InputError`` for what is no protocol of a benchmark."""
    if protocol != ALL_FOLDS:
        parse_protocol(protocol)


def row_splits(protocol: str, records: Sequence[ImageRecord]) -> RowSplits:
    """The cells of ``protocol`` on the images of a benchmark.

    Of ``hard-each-K`` a type with fewer than K masks is left out, and a category without another
    type to test. Raises ``DatasetError`` when nothing remains.

    >>> from pathlib import Path
    >>> parts = [
    ...     ImageRecord(Path(f"a/test/{label}/{i}.png"), "a", "test", label)
    ...     for label in ("good", "cut", "dent") for i in range(3)
    ... ]
    >>> row_splits("hard-each-2", parts)
    RowSplits(cells=(('a', 'hard-cut-2'), ('a', 'hard-dent-2')), over='2 types', left_out=())
    >>> len(row_splits("full", parts).cells), row_splits("kshot-1", parts).cells
    (5, (('a', 'kshot-1'),))
    """
    categories = sorted({record.category for record in records})
    trained = any(record.defective and record.split == "train" for record in records)
    if protocol == ALL_FOLDS or (protocol == "full" and not trained):
        cells = tuple((category, fold) for category in categories for fold in FOLD_NAMES)
        return RowSplits(cells, over=f"{FOLDS} folds")
    if parse_protocol(protocol).label != EACH:
        return RowSplits(tuple((category, protocol) for category in categories))
    return _each_type(protocol, categories, records)


def plan_rows(protocols: Sequence[str], records: Sequence[ImageRecord]) -> dict[str, RowSplits]:
    """Protocol → its cells; raises ``InputError`` when two would share some, as `row_splits`."""
    rows = {protocol: row_splits(protocol, records) for protocol in protocols}
    owner: dict[tuple[str, str], str] = {}
    for protocol, row in rows.items():
        for cell in row.cells:
            if (other := owner.setdefault(cell, protocol)) != protocol:
                raise InputError(
                    f"protocols has {protocol} beside {other}, and both stand for {cell[1]} of "
                    f"category {cell[0]!r} here: leave one of them out"
                )
    return rows


def _each_type(
    protocol: str, categories: Sequence[str], records: Sequence[ImageRecord]
) -> RowSplits:
    shots = parse_protocol(protocol).shots
    cells, left_out = [], []
    for category in categories:
        own = [record for record in records if record.category == category]
        tested = {record.label for record in own if record.defective and record.split == "test"}
        for label, n in sorted(Counter(r.label for r in choosable(own)).items()):
            if n < shots:
                left_out.append(f"{category}, {label}: {n} masks")
            elif all(types_of(label) & types_of(other) for other in tested):
                left_out.append(f"{category}, {label}: no other type to test")
            else:
                cells.append((category, f"hard-{label}-{shots}"))
    if not cells:
        raise DatasetError(
            f"protocol {protocol}: expected a category with {shots} masks of one type and another "
            f"type to test, found none ({'; '.join(left_out) or 'no masks'}); choose fewer masks, "
            "or leave this protocol out"
        )
    return RowSplits(tuple(cells), f"{len(cells)} types", tuple(left_out))
