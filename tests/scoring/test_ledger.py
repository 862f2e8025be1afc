from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from anomaly_u2net.errors import BusyError, InputError
from anomaly_u2net.scoring import Ledger, ScoreRow
from anomaly_u2net.scoring.ledger import CSV_NAME, JOURNAL_NAME, LOCK_NAME, PARQUET_NAME


def row(path: str, error: str = "an empty file") -> ScoreRow:
    hashes = {"model_hash": "m", "recipe_hash": "r", "calibration_hash": "c"}
    return ScoreRow(path=path, verdict="ERROR", error=error, **hashes)


def paths_in_csv(folder: Path) -> list[str]:
    with (folder / CSV_NAME).open(encoding="utf-8", newline="") as file:
        return [record["path"] for record in csv.DictReader(file)]


def test_the_newest_row_of_a_path_is_its_row(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        for path, error in (("/a", "1"), ("/b", "2"), ("/a", "3")):
            ledger.append(row(path, error))
    with Ledger(tmp_path) as ledger:
        assert ledger.rows == {"/a": row("/a", "3"), "/b": row("/b", "2")}
    assert (tmp_path / JOURNAL_NAME).read_bytes().count(b"\n") == 3


def test_a_row_is_in_the_file_when_append_returns(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.append(row("/a"))
        data = (tmp_path / JOURNAL_NAME).read_bytes()
    assert data.endswith(b"}\n")
    assert b'"/a"' in data


def test_any_name_survives_the_journal(tmp_path: Path) -> None:
    names = ["/ö 部.png", "/a\nb\r\u2028.png", '/"{}\\', "/caf\udce9.png"]
    with Ledger(tmp_path) as ledger:
        for name in names:
            ledger.append(row(name))
    with Ledger(tmp_path) as ledger:
        assert list(ledger.rows) == names


def test_a_last_row_that_is_cut_off_is_dropped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.append(row("/a"))
        ledger.append(row("/b"))
    journal = tmp_path / JOURNAL_NAME
    whole = journal.read_bytes()
    first = whole.index(b"\n") + 1
    ends = [*range(first + 1, len(whole), 40), len(whole) - 1]
    for end in ends:
        journal.write_bytes(whole[:end])
        with Ledger(tmp_path) as ledger:
            assert list(ledger.rows) == ["/a"]
            ledger.append(row("/b"))
        assert journal.read_bytes() == whole
    assert len(caplog.records) == len(ends)
    assert "dropped a last row that was cut off" in caplog.text


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (b"{not json}", "line 2 is damaged: expected a row as JSON"),
        (b"", "line 2 is damaged"),
        (b"\x00\xff", "line 2 is damaged"),
        (b"[1]", "line 2 is damaged"),
        (b'{"path": "/b"}', "line 2 is damaged.*missing"),
    ],
)
def test_another_damaged_line_is_named_and_nothing_is_changed(
    tmp_path: Path, damage: bytes, text: str
) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.append(row("/a"))
        ledger.append(row("/c"))
    journal = tmp_path / JOURNAL_NAME
    first, last, _ = journal.read_bytes().split(b"\n")
    damaged = b"\n".join([first, damage, last, b"torn"])
    journal.write_bytes(damaged)
    with pytest.raises(InputError, match=text):
        Ledger(tmp_path)
    assert journal.read_bytes() == damaged
    journal.write_bytes(b"\n".join([first, last, b""]))
    with Ledger(tmp_path) as ledger:  # the failed opening let go of the folder
        assert list(ledger.rows) == ["/a", "/c"]


def test_a_number_altered_to_nan_is_damage(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.append(row("/a"))
    journal = tmp_path / JOURNAL_NAME
    journal.write_text(journal.read_text().replace('"model_ms": null', '"model_ms": NaN'))
    with pytest.raises(InputError, match=r"line 1 is damaged.*model_ms: expected a finite number"):
        Ledger(tmp_path)


def test_a_second_ledger_is_refused_until_the_first_is_closed(tmp_path: Path) -> None:
    with Ledger(tmp_path), pytest.raises(BusyError, match="another process is writing there"):
        Ledger(tmp_path)
    Ledger(tmp_path).close()


def test_another_process_is_refused(tmp_path: Path) -> None:
    code = "import sys; from anomaly_u2net.scoring import Ledger; Ledger(sys.argv[1])"
    with Ledger(tmp_path):
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
        )
    assert done.returncode == 1
    assert "BusyError" in done.stderr


def test_an_interrupted_or_failed_append_leaves_the_journal_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(error: BaseException) -> Any:
        def fsync(handle: int) -> None:
            raise error

        return fsync

    with Ledger(tmp_path) as ledger:
        ledger.append(row("/a"))
        before = (tmp_path / JOURNAL_NAME).read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail(OSError(28, "No space left on device")))
            with pytest.raises(InputError, match=r"No space left.*free the disk and run again"):
                ledger.append(row("/b"))
            patch.setattr(os, "fsync", fail(KeyboardInterrupt()))
            with pytest.raises(KeyboardInterrupt):
                ledger.append(row("/b"))
        assert (tmp_path / JOURNAL_NAME).read_bytes() == before
        assert list(ledger.rows) == ["/a"]
        ledger.append(row("/c"))
    with Ledger(tmp_path) as ledger:
        assert list(ledger.rows) == ["/a", "/c"]


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="expected an output folder that can be written"):
            Ledger(folder)
    (tmp_path / "out" / JOURNAL_NAME).mkdir(parents=True)
    with pytest.raises(InputError, match="expected an output folder that can be written"):
        Ledger(tmp_path / "out")


def test_tables_put_the_given_paths_first_and_earlier_ones_after(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        for path in ("/old", "/c", "/a", "/c"):
            ledger.append(row(path))
        ledger.write_tables(["/a", "/b", "/c"])
    assert paths_in_csv(tmp_path) == ["/a", "/c", "/old"]
    names = {CSV_NAME, PARQUET_NAME, JOURNAL_NAME, LOCK_NAME}
    assert {file.name for file in tmp_path.iterdir()} == names


def test_a_table_that_cannot_be_written_says_that_the_rows_are_kept(tmp_path: Path) -> None:
    (tmp_path / CSV_NAME).mkdir()
    with Ledger(tmp_path) as ledger:
        ledger.append(row("/a"))
        with pytest.raises(InputError, match=r"all rows are kept in ledger\.jsonl"):
            ledger.write_tables()
    with Ledger(tmp_path) as ledger:
        assert list(ledger.rows) == ["/a"]
