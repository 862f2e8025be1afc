"""The tables of a scored line: CSV for people, Parquet for programs, with the same rows."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anomaly_u2net.files import write_aside
from anomaly_u2net.scoring.row import COLUMNS, REQUIRED, ScoreRow

if TYPE_CHECKING:
    import pyarrow


def write_csv(rows: Iterable[ScoreRow], path: str | Path) -> None:
    """Write rows as CSV (UTF-8, RFC 4180), whole or not at all; ``None`` is an empty cell.

    Floats are written so that reading them gives the same number. Raises ``OSError``.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "rows.csv"
    >>> write_csv([], path)
    >>> path.read_text().split(",")[:3]
    ['path', 'source_sha256', 'category']
    """
    with write_aside(path) as aside, aside.open("w", encoding="utf-8", newline="") as file:
        # Lines end in \r\n so that csv quotes a name with either sign in it.
        table = csv.writer(file, lineterminator="\r\n")
        table.writerow(COLUMNS)
        for row in rows:
            table.writerow(_cells(row).values())


def write_parquet(rows: Iterable[ScoreRow], path: str | Path) -> None:
    """Write rows as Parquet with ``parquet_schema``, whole or not at all. Raises ``OSError``.

    >>> import tempfile
    >>> import pyarrow.parquet
    >>> path = Path(tempfile.mkdtemp()) / "rows.parquet"
    >>> write_parquet([], path)
    >>> pyarrow.parquet.read_table(path).schema.field("defect_area").type
    DataType(int64)
    """
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_pylist([_cells(row) for row in rows], schema=parquet_schema())
    with write_aside(path) as aside:
        pyarrow.parquet.write_table(table, aside)


def parquet_schema() -> pyarrow.Schema:
    """The columns as string, int64 and float64; null only where a row may lack a value.

    >>> parquet_schema().field("image_score").nullable, parquet_schema().field("path").nullable
    (True, False)
    """
    import pyarrow

    types = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}
    return pyarrow.schema(
        pyarrow.field(name, types[kind], nullable=name not in REQUIRED)
        for name, kind in COLUMNS.items()
    )


def _cells(row: ScoreRow) -> dict[str, Any]:
    """The columns of a row; file names that are not UTF-8 show their bytes as ``\\udcXX``."""
    return {
        name: value.encode("utf-8", "backslashreplace").decode() if kind is str and value else value
        for (name, value), kind in zip(row.as_dict().items(), COLUMNS.values(), strict=True)
    }
