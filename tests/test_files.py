from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path

import pytest

from anomaly_u2net import files
from anomaly_u2net.errors import InputError
from anomaly_u2net.files import (
    folder_aside,
    sha256_file,
    sha256_json,
    write_aside,
    write_json,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_nothing_is_seen_before_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.json"
    with write_aside(path) as aside:
        aside.write_text("half")
        assert not path.exists()
        assert aside.parent == path.parent  # a rename within one file system
        assert aside.suffix == ".json"
        assert aside.name.startswith(".")
        aside.write_text("whole")
    assert path.read_text() == "whole"
    assert names(path.parent) == ["a.json"]


def test_a_folder_is_not_written_over(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected a file to write, found a folder; name a file"):
        write_text(tmp_path / "..", "text")
    assert names(tmp_path) == []


@pytest.mark.parametrize("old", [None, "old"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_everything_as_it_was(
    tmp_path: Path, old: str | None, error: type[BaseException]
) -> None:
    path = tmp_path / "a.txt"
    if old is not None:
        path.write_text(old)
    with pytest.raises(error), write_aside(path) as aside:  # noqa: PT012
        aside.write_text("half")
        raise error
    assert names(tmp_path) == ([] if old is None else ["a.txt"])
    assert old is None or path.read_text() == old


def test_a_failing_disk_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_it_is_on_the_disk_before_it_is_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, seen = tmp_path / "a.txt", []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (seen.append(path.exists()), real(handle))[1])
    write_text(path, "x")
    assert seen == [False, True]  # the file, then the folder that names it


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_others_may_read_it_as_any_file(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "a.txt", "x")
        assert files._umask() == umask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == mode


def test_a_long_name(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 240 + ".txt")
    write_text(path, "x")
    assert path.read_text() == "x"


def test_text_is_utf8(tmp_path: Path) -> None:
    write_text(str(tmp_path / "a.txt"), "U²-Net\n")
    assert (tmp_path / "a.txt").read_bytes() == "U²-Net\n".encode()


def test_json_reads_back_and_refuses_nan(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    value = {"ä": [1, 0.1, None, True]}
    write_json(path, value)
    assert json.loads(path.read_text(encoding="utf-8")) == value
    assert path.read_text(encoding="utf-8") == (
        '{\n  "ä": [\n    1,\n    0.1,\n    null,\n    true\n  ]\n}\n'
    )
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text(encoding="utf-8")) == value


def test_hashes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180
    assert sha256_file(tmp_path / "a") == known
    big = os.urandom(3_000_000)
    (tmp_path / "b").write_bytes(big)
    assert sha256_file(tmp_path / "b") == hashlib.sha256(big).hexdigest()
    assert sha256_json({"b": 1, "a": [1, 2]}) == sha256_json({"a": [1, 2], "b": 1})
    assert sha256_json({"a": [1, 2]}) != sha256_json({"a": [2, 1]})
    assert sha256_json({"a": 1}) == hashlib.sha256(b'{"a":1}').hexdigest()
    with pytest.raises(ValueError, match="not JSON compliant"):
        sha256_json(float("inf"))


def test_a_folder_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    place = tmp_path / "new" / "parts"
    with pytest.raises(ValueError, match="half way"), folder_aside(place) as aside:  # noqa: PT012
        (aside / "a.txt").write_text("half")
        assert aside.parent == place.parent  # a rename within one file system
        raise ValueError("half way")
    assert list(place.parent.iterdir()) == []
    place.mkdir()
    with folder_aside(place) as aside:
        (aside / "a.txt").write_text("whole")
    assert [path.name for path in place.parent.iterdir()] == ["parts"]
    with pytest.raises(OSError, match="not empty"), folder_aside(place) as aside:
        (aside / "a.txt").write_text("other")
    assert (place / "a.txt").read_text() == "whole"
    assert [path.name for path in place.parent.iterdir()] == ["parts"]
