"""The journal of a scored line: rows are appended and never changed, and survive a kill.

``ledger.jsonl`` holds one JSON line a row, on disk (fsync) before the row is handed out. A row is
there once its line feed is: what follows the last line feed was cut off by a kill, was never
handed out, and is dropped on opening. The newest line of a path is its row. ``rows.csv`` and
``rows.parquet`` are made from the journal and can be deleted; the journal cannot.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from contextlib import ExitStack
from io import FileIO
from pathlib import Path
from types import TracebackType

from anomaly_u2net.errors import InputError
from anomaly_u2net.files import fsync_folder, hold
from anomaly_u2net.scoring.row import ScoreRow
from anomaly_u2net.scoring.tables import write_csv, write_parquet

logger = logging.getLogger(__name__)

JOURNAL_NAME = "ledger.jsonl"
LOCK_NAME = "ledger.lock"
CSV_NAME = "rows.csv"
PARQUET_NAME = "rows.parquet"


class Ledger:
    """An open journal, held by this process alone until it is closed.

    ``rows``: the newest row of each path, by path, in the order in which paths first came.

    Raises ``InputError`` when the folder cannot be written or a line of the journal is damaged,
    ``BusyError`` when another process (or another ``Ledger``) holds the folder.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> row = ScoreRow(path="/line/a.png", verdict="ERROR", error="an empty file",
    ...                model_hash="m", recipe_hash="r", calibration_hash="c")
    >>> with Ledger(folder) as ledger:
    ...     ledger.append(row)
    >>> with Ledger(folder) as ledger:
    ...     ledger.rows == {"/line/a.png": row}
    True
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._path = self.folder / JOURNAL_NAME
        with ExitStack() as files:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                lock = files.enter_context(FileIO(self.folder / LOCK_NAME, "a"))
                hold(lock, self.folder)
                self._journal = files.enter_context(FileIO(self._path, "a+"))
                fsync_folder(self.folder)
            except OSError as error:
                raise InputError(
                    f"{self.folder}: expected an output folder that can be written, got {error}; "
                    "choose another one or give this user the right to write there"
                ) from error
            self.rows = self._load()
            self._files = files.pop_all()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the folder."""
        self._files.close()

    def append(self, row: ScoreRow) -> None:
        """Add a row; when this returns it is on the disk.

        Raises ``InputError`` when it cannot be written (a full disk). Then, as after an
        interruption, the journal is as it was before.
        """
        line = memoryview(json.dumps(row.as_dict(), allow_nan=False).encode() + b"\n")
        start, written = self._journal.seek(0, os.SEEK_END), 0
        try:
            while written < len(line):
                written += self._journal.write(line[written:]) or 0
            os.fsync(self._journal.fileno())
        except BaseException as error:
            self._journal.truncate(start)
            if isinstance(error, OSError):
                raise InputError(
                    f"{self._path}: expected to add a row, got {error}; all rows before it are "
                    "kept: free the disk and run again to go on"
                ) from error
            raise
        self.rows[row.path] = row

    def write_tables(self, paths: Sequence[str] = ()) -> None:
        """Write ``rows.csv`` and ``rows.parquet``: one row a path, each file whole or not at all.

        The rows of ``paths`` come first, in that order; paths of earlier runs follow. Raises
        ``InputError`` when a table cannot be written; the journal is not touched.
        """
        order = dict.fromkeys([*paths, *self.rows])
        rows = [self.rows[path] for path in order if path in self.rows]
        try:
            write_csv(rows, self.folder / CSV_NAME)
            write_parquet(rows, self.folder / PARQUET_NAME)
        except (OSError, InputError) as error:
            raise InputError(
                f"{self.folder}: expected to write {CSV_NAME} and {PARQUET_NAME}, got {error}; "
                f"all rows are kept in {JOURNAL_NAME}: close programs that have the tables open "
                "or free the disk, and run again"
            ) from error

    def _load(self) -> dict[str, ScoreRow]:
        data = self._path.read_bytes()
        *lines, torn = data.split(b"\n")
        rows: dict[str, ScoreRow] = {}
        for number, line in enumerate(lines, start=1):
            try:
                row = ScoreRow(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise InputError(
                    f"{self._path} line {number} is damaged: expected a row as JSON, got {error}; "
                    "restore the file, or delete that line (its image is then scored again), or "
                    "choose another output folder"
                ) from error
            rows[row.path] = row
        if torn:
            logger.warning("%s: dropped a last row that was cut off; it is redone", self._path)
            self._journal.truncate(len(data) - len(torn))
        return rows
