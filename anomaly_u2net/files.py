"""Writing files so that nobody ever sees half of one, and naming contents by hash."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

from anomaly_u2net.errors import BusyError, InputError


@contextmanager
def write_aside(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success fsync it and rename it into place.

    On any error the temporary file is removed and an existing ``path`` stays as it was. Raises
    `InputError` where ``path`` is a folder.

    >>> folder = Path(tempfile.mkdtemp())
    >>> with write_aside(folder / "a.txt") as aside:
    ...     _ = aside.write_text("whole")
    >>> [p.name for p in folder.iterdir()], (folder / "a.txt").read_text()
    (['a.txt'], 'whole')
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: expected a file to write, found a folder; name a file in it")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.stem[:100]}-", suffix=path.suffix
    )
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        aside.chmod(0o666 & ~_umask())
        aside.replace(path)
        fsync_folder(path.parent)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def folder_aside(path: str | Path) -> Iterator[Path]:
    """Yield a new folder beside ``path``; on success it takes the place of ``path``.

    ``path`` must not be there, or be empty. On any error the new folder is removed with all that is
    in it. Raises `OSError` when ``path`` has got files meanwhile.

    >>> place = Path(tempfile.mkdtemp()) / "parts"
    >>> with folder_aside(place) as aside:
    ...     _ = (aside / "a.txt").write_text("whole")
    >>> (place / "a.txt").read_text()
    'whole'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name[:100]}-"))
    try:
        yield aside
        aside.chmod(0o777 & ~_umask())
        if path.is_dir():
            path.rmdir()
        aside.rename(path)
        fsync_folder(path.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` whole or not at all."""
    with write_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all; NaN is refused."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def fsync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut (no-op where folders cannot be opened)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def hold(lock: FileIO, folder: Path) -> None:
    """Hold ``lock`` until it is closed; the system lets it go when the process dies.

    Raises `BusyError`, which names ``folder``, when another process has it.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(lock.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        raise BusyError(
            f"{folder}: expected an output folder for this run alone, but another process is "
            "writing there; wait for it to end or choose another folder"
        ) from error


def sha256_file(path: str | Path) -> str:
    """The hex SHA-256 of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """The hex SHA-256 of ``value`` as canonical JSON (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
