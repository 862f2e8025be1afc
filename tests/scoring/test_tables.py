from __future__ import annotations

import csv
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from anomaly_u2net.scoring import COLUMNS, ScoreRow, parquet_schema, write_csv, write_parquet
from anomaly_u2net.scoring.row import verdict_columns
from anomaly_u2net.types import Region, Verdict

HASHES = {"model_hash": "m", "recipe_hash": "r", "calibration_hash": "c"}
AWKWARD = ["/ö/ß 部品.png", "/a,b.png", "/line\nfeed.png", "/return\rhere.png", '/"q".png', "/=1+1"]


def rows() -> list[ScoreRow]:
    verdict = Verdict("NG", 0.1 + 0.2, 0.5, 0.4, (Region(6, (1, 2, 2, 3), (1.5, 3.0), 0.9),))
    scored = [
        ScoreRow(
            path=path, source_sha256="00", category="tile", **HASHES, **verdict_columns(verdict)
        )
        for path in AWKWARD
    ]
    failed = ScoreRow(path="/bad.png", verdict="ERROR", error='cut "off",\nhere', **HASHES)
    return [*scored, failed]


def test_csv_parses_back_to_the_same_rows(tmp_path: Path) -> None:
    write_csv(rows(), tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(encoding="utf-8", newline="") as file:
        header, *cells = csv.reader(file, strict=True)
    assert header == list(COLUMNS)
    back = [
        ScoreRow(**{
            name: kind(cell) if cell else None
            for (name, kind), cell in zip(COLUMNS.items(), line, strict=True)
        })
        for line in cells
    ]  # fmt: skip
    assert back == rows()
    assert cells[-1][3] == ""


def test_parquet_has_the_same_rows_types_and_nulls(tmp_path: Path) -> None:
    write_parquet(rows(), tmp_path / "rows.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "rows.parquet")
    assert table.schema.equals(parquet_schema())
    assert table.schema.names == list(COLUMNS)
    assert table.schema.field("largest_x").type == pyarrow.int64()
    assert table.schema.field("model_ms").type == pyarrow.float64()
    lacking = {field.name for field in table.schema if field.nullable}
    assert set(COLUMNS) - lacking == {"path", "verdict", *HASHES}
    assert table.schema.field("error").type == pyarrow.string()
    assert [ScoreRow(**row) for row in table.to_pylist()] == rows()
    assert table.column("image_score").null_count == 1
    assert table.column("error").null_count == len(AWKWARD)


def test_without_rows_the_tables_have_their_columns(tmp_path: Path) -> None:
    write_csv([], tmp_path / "rows.csv")
    write_parquet([], tmp_path / "rows.parquet")
    assert (tmp_path / "rows.csv").read_text().split() == [",".join(COLUMNS)]
    assert pyarrow.parquet.read_table(tmp_path / "rows.parquet").num_rows == 0


def test_a_name_that_is_not_utf8_shows_its_bytes(tmp_path: Path) -> None:
    row = ScoreRow(path="/caf\udce9.png", verdict="ERROR", error="broken", **HASHES)
    write_csv([row], tmp_path / "rows.csv")
    write_parquet([row], tmp_path / "rows.parquet")
    assert r"/caf\udce9.png" in (tmp_path / "rows.csv").read_text(encoding="utf-8")
    shown = pyarrow.parquet.read_table(tmp_path / "rows.parquet").column("path").to_pylist()
    assert shown == [r"/caf\udce9.png"]


def test_a_table_that_fails_half_way_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    write_csv(rows(), path)
    before = path.read_bytes()

    def broken() -> object:
        yield rows()[0]
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        write_csv(broken(), path)  # type: ignore[arg-type]
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["rows.csv"]
