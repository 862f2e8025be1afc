from __future__ import annotations

import contextlib
import csv
import os
import signal
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from fake_line import NAN_RED, FakeSegmenter, write_image, write_line
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_u2net.errors import BusyError, InputError
from anomaly_u2net.files import sha256_file
from anomaly_u2net.scoring import (
    Ledger,
    LineSummary,
    Scored,
    ScoreInput,
    ScoreRow,
    collect_inputs,
    exit_code,
    score_line,
    summarise,
)
from anomaly_u2net.scoring import line as line_module
from anomaly_u2net.scoring.ledger import CSV_NAME, JOURNAL_NAME, PARQUET_NAME

KNOWN = ("brick", "tile")


def collect(folder: Path) -> list[ScoreInput]:
    return collect_inputs([folder], known_categories=KNOWN)


def score(
    inputs: list[ScoreInput], out: Path, segmenter: Any = None, **options: Any
) -> list[Scored]:
    return list(score_line(segmenter or FakeSegmenter(), inputs, out, **options))


def timeless(rows: Iterable[ScoreRow]) -> list[ScoreRow]:
    return [replace(row, decode_ms=None, model_ms=None, post_ms=None) for row in rows]


def table(out: Path) -> list[ScoreRow]:
    """The rows of the Parquet table; the CSV must name the same paths and verdicts."""
    rows = [ScoreRow(**row) for row in pyarrow.parquet.read_table(out / PARQUET_NAME).to_pylist()]
    with (out / CSV_NAME).open(encoding="utf-8", newline="") as file:
        cells = [(cell["path"], cell["verdict"]) for cell in csv.DictReader(file)]
    assert cells == [(row.path, row.verdict) for row in rows]
    return rows


def test_rows_known_by_hand(tmp_path: Path) -> None:
    folder = write_line(tmp_path / "line", 2)
    scored = score(collect(folder), tmp_path / "out")
    assert [fresh for _, fresh in scored] == [True, True]
    good, bad = (row for row, _ in scored)
    assert (good.verdict, good.image_score, good.defect_count, good.largest_area) == (
        "OK",
        0,
        0,
        None,
    )
    path = folder / "brick" / "1.png"
    assert timeless([bad]) == [
        ScoreRow(
            path=str(path.resolve()),
            source_sha256=sha256_file(path),
            category="brick",
            image_score=1.0,
            image_threshold=0.9,
            pixel_threshold=0.5,
            verdict="NG",
            defect_count=1,
            defect_area=6,
            largest_area=6,
            largest_x=1,
            largest_y=2,
            largest_width=2,
            largest_height=3,
            largest_centroid_x=1.5,
            largest_centroid_y=3.0,
            model_hash="model-1",
            recipe_hash="recipe-1",
            calibration_hash="calibration-1",
        )
    ]
    assert all(ms is not None and ms >= 0 for ms in (bad.decode_ms, bad.model_ms, bad.post_ms))
    assert table(tmp_path / "out") == [good, bad]


def write_huge_header(path: Path) -> None:
    """A PNG whose header declares 60000 × 60000 pixels, and none of them."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b""))


def test_every_bad_input_is_a_row_and_the_run_goes_on(tmp_path: Path) -> None:
    line = tmp_path / "brick"
    whole = write_image(line / "9-good.png").read_bytes()
    (line / "0-cut.png").write_bytes(whole[:-24])
    (line / "1-empty.png").touch()
    (line / "2-text.png").write_text("no image")
    (line / "3-folder.png").mkdir()
    write_huge_header(line / "4-huge.png")
    write_image(line / "5-nan.png", (0, 0, 1, 1), red=NAN_RED)
    manifest = tmp_path / "more.csv"
    manifest.write_text("path,category\nbrick/gone.png,brick\nbolt/a.png,bolt\n")
    write_image(tmp_path / "bolt" / "a.png")
    inputs = collect_inputs([line], manifest=manifest, known_categories=KNOWN)
    inputs.append(ScoreInput(write_image(tmp_path / "b.png"), None))
    rows = {Path(row.path).name: row for row, _ in score(inputs, tmp_path / "out")}

    texts = {
        "0-cut.png": "damaged",
        "1-empty.png": "empty file",
        "2-text.png": "expected PNG, JPEG",
        "3-folder.png": "found a folder",
        "4-huge.png": "60,000 x 60,000",
        "5-nan.png": "expected finite scores, got NaN",
        "gone.png": "found nothing there; check the path",
        "a.png": "unknown category 'bolt': expected brick, tile",
        "b.png": "no category: expected one of brick, tile; give the category",
    }
    assert rows["9-good.png"].verdict == "OK"
    assert len(rows) == len(texts) + 1
    for name, text in texts.items():
        row = rows[name]
        assert row.verdict == "ERROR"
        assert text in (row.error or "")
        assert "Traceback" not in (row.error or "")
        assert "\n" not in (row.error or "")
        assert (row.image_score, row.defect_count, row.largest_x) == (None, None, None)
        assert (row.source_sha256 is None) == (name in ("3-folder.png", "gone.png"))
    assert rows["5-nan.png"].model_ms is not None
    assert rows["5-nan.png"].post_ms is None
    assert len(table(tmp_path / "out")) == len(rows)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (MemoryError(), "MemoryError"),
        (OSError(5, "Input/output error"), "OSError: [Errno 5] Input/output error"),
        (ZeroDivisionError("by\n  zero"), "ZeroDivisionError: by zero"),
        (InputError("the model expects 3 channels"), "the model expects 3 channels"),
        (InputError(), "InputError"),
        (RuntimeError("x" * 5000), "RuntimeError: " + "x" * 985 + "…"),
    ],
)
def test_any_exception_of_one_image_is_its_row(tmp_path: Path, error: Exception, text: str) -> None:
    def fail_at_second(call: int) -> None:
        if call == 2:
            raise error

    inputs = collect(write_line(tmp_path / "line", 3))
    rows = [row for row, _ in score(inputs, tmp_path / "out", FakeSegmenter(before=fail_at_second))]
    assert [row.verdict for row in rows] == ["OK", "ERROR", "OK"]
    assert rows[1].error == text


def test_a_pipe_is_an_error_row_and_does_not_block(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("needs named pipes")
    (tmp_path / "brick").mkdir()
    os.mkfifo(tmp_path / "brick" / "pipe.png")
    ((row, _),) = score(collect(tmp_path / "brick"), tmp_path / "out")
    assert "not a regular file" in (row.error or "")


def test_a_file_that_changes_while_it_is_read_is_an_error_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = collect(write_line(tmp_path / "line", 1))
    read = line_module.read_image

    def read_then_change(path: Path) -> Any:
        image = read(path)
        write_image(path, (0, 0, 1, 1))
        return image

    monkeypatch.setattr(line_module, "read_image", read_then_change)
    ((row, _),) = score(inputs, tmp_path / "out")
    assert row.verdict == "ERROR"
    assert "it changed while it was read" in (row.error or "")


def test_the_overlay_comes_before_the_row_and_its_failure_is_the_row(tmp_path: Path) -> None:
    inputs = collect(write_line(tmp_path / "line", 2))
    out = tmp_path / "out"
    seen = []

    def overlay(item: ScoreInput, image: Any, score_map: Any, verdict: Any) -> None:
        seen.append((item, image.shape, score_map.shape, verdict.decision))
        assert (out / JOURNAL_NAME).read_bytes().count(b"\n") == len(seen) - 1
        if len(seen) == 2:
            raise PermissionError(13, "Permission denied")

    rows = [row for row, _ in score(inputs, out, overlay=overlay)]
    assert seen == [(inputs[0], (6, 8, 3), (6, 8), "OK"), (inputs[1], (6, 8, 3), (6, 8), "NG")]
    assert [row.verdict for row in rows] == ["OK", "ERROR"]
    assert rows[1].error == "PermissionError: [Errno 13] Permission denied"


def test_a_second_run_scores_nothing_again_but_what_changed(tmp_path: Path) -> None:
    folder = write_line(tmp_path / "line", 4)
    (folder / "brick" / "2.png").write_bytes(b"")
    out = tmp_path / "out"
    first = score(collect(folder), out)
    again = score(collect(folder), out, overlay=lambda *_: None)
    assert [fresh for _, fresh in again] == [False, False, True, False]  # the ERROR is retried
    assert timeless(row for row, _ in again) == timeless(row for row, _ in first)

    write_image(folder / "brick" / "0.png", (1, 2, 2, 3))
    write_image(folder / "brick" / "2.png")
    third = score(collect(folder), out)
    assert [(row.verdict, fresh) for row, fresh in third] == [
        ("NG", True), ("NG", False), ("OK", True), ("NG", False),
    ]  # fmt: skip
    assert table(out) == [row for row, _ in third]
    assert (out / JOURNAL_NAME).read_bytes().count(b"\n") == 4 + 1 + 2


@pytest.mark.parametrize("changed", ["model_hash", "recipe_hash", "calibration_hash"])
def test_another_model_or_calibration_scores_again(tmp_path: Path, changed: str) -> None:
    inputs = collect(write_line(tmp_path / "line", 2))
    score(inputs, tmp_path / "out")
    scored = score(inputs, tmp_path / "out", FakeSegmenter(**{changed: "new"}))
    assert [fresh for _, fresh in scored] == [True, True]
    assert [getattr(row, changed) for row in table(tmp_path / "out")] == ["new", "new"]


def test_another_category_or_older_bytes_score_again(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png")
    out = tmp_path / "out"
    good = path.read_bytes()
    score([ScoreInput(path, "brick")], out)
    ((row, fresh),) = score([ScoreInput(path, "tile")], out)
    assert (row.category, fresh) == ("tile", True)
    write_image(path, (1, 2, 2, 3))
    score([ScoreInput(path, "tile")], out)
    path.write_bytes(good)  # its row exists in the journal, but a newer one stands in the tables
    ((row, fresh),) = score([ScoreInput(path, "tile")], out)
    assert (row.verdict, fresh) == ("OK", True)
    assert table(out) == [row]


def test_a_file_that_is_gone_replaces_its_row_and_other_paths_stay(tmp_path: Path) -> None:
    folder = write_line(tmp_path / "line", 3)
    inputs = collect(folder)
    out = tmp_path / "out"
    score(inputs, out)
    inputs[1].path.unlink()
    score(inputs[1:], out)
    assert [(Path(row.path).name, row.verdict) for row in table(out)] == [
        ("1.png", "ERROR"), ("2.png", "OK"), ("0.png", "OK"),
    ]  # fmt: skip


def test_same_stem_in_two_folders_and_awkward_names(tmp_path: Path) -> None:
    names = ["a/1.png", "b/1.png", "ö 部品.png", "a,b.png", 'say "x".png', "line\nfeed\r.png"]
    if sys.platform == "win32":
        names = names[:4]
    paths = [write_image(tmp_path / "tile" / name, (0, 0, 1, 1)) for name in names]
    out = tmp_path / "out"
    first = score(collect(tmp_path / "tile"), out)
    assert {row.path for row, _ in first} == {str(path.resolve()) for path in paths}
    assert table(out) == [row for row, _ in first]
    assert not any(fresh for _, fresh in score(collect(tmp_path / "tile"), out))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names are bytes on Linux only")
def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    inputs = [ScoreInput(write_image(path), "brick")]
    ((row, fresh),) = score(inputs, tmp_path / "out")
    assert (row.verdict, fresh) == ("OK", True)
    assert [kept.path for kept in table(tmp_path / "out")] == [
        f"{path.parent}{os.sep}caf\\udce9.png"
    ]
    assert score(inputs, tmp_path / "out") == [(row, False)]


def interrupt_at(call: int, error: type[BaseException]) -> Callable[[int], None]:
    def before(number: int) -> None:
        if number == call:
            raise error

    return before


def test_stopping_writes_the_tables_and_the_next_run_goes_on(tmp_path: Path) -> None:
    inputs = collect(write_line(tmp_path / "line", 5))
    whole = timeless(row for row, _ in score(inputs, tmp_path / "whole"))

    out = tmp_path / "broken"
    for _, (row, _) in zip(range(2), score_line(FakeSegmenter(), inputs, out), strict=False):
        last = row
    rows = table(out)  # the caller stopped: tables are there, the folder is free
    assert timeless(rows) == whole[: len(rows)]
    assert rows[1] == last
    with pytest.raises(KeyboardInterrupt):
        score(inputs, out, FakeSegmenter(before=interrupt_at(2, KeyboardInterrupt)))
    assert len(table(out)) == len(rows) + 1
    segmenter = FakeSegmenter()
    scored = score(inputs, out, segmenter)
    assert [fresh for _, fresh in scored].count(True) == segmenter.calls == 5 - len(rows) - 1
    assert timeless(table(out)) == whole


@settings(max_examples=15, deadline=None)
@given(
    stops=st.lists(
        st.tuples(st.sampled_from(["stop", "interrupt", "tear"]), st.integers(1, 6)), max_size=4
    )
)
def test_any_interruptions_give_exactly_one_row_an_input(stops: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "out"
        folder = write_line(Path(name) / "line", 4)
        (folder / "brick" / "zero.png").touch()
        inputs = collect(folder)
        for kind, number in stops:
            if kind == "interrupt":
                with contextlib.suppress(SystemExit):
                    score(inputs, out, FakeSegmenter(before=interrupt_at(number, SystemExit)))
                continue
            run = score_line(FakeSegmenter(), inputs, out)
            for _ in zip(range(number), run, strict=False):
                pass
            run.close()  # type: ignore[attr-defined]
            if kind == "tear":
                journal = out / JOURNAL_NAME
                journal.write_bytes(journal.read_bytes()[:-number])
        final = [row for row, _ in score(inputs, out)]
        whole = [row for row, _ in score(inputs, Path(name) / "whole")]
        assert [row.path for row in final] == [str(item.path) for item in inputs]
        assert timeless(final) == timeless(whole)
        assert table(out) == final


KILLED = """
import os, signal, sys
from pathlib import Path
from fake_line import FakeSegmenter
from anomaly_u2net.scoring import collect_inputs, score_line

def die(call):
    if call == 3:
        os.kill(os.getpid(), signal.SIGKILL)

inputs = collect_inputs([sys.argv[1]], known_categories=["brick", "tile"])
for row, fresh in score_line(FakeSegmenter(before=die), inputs, sys.argv[2]):
    print(Path(row.path).name, row.verdict, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_process_loses_no_row_that_it_handed_out(tmp_path: Path) -> None:
    folder, out = write_line(tmp_path / "line", 5), tmp_path / "out"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), str(out)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert killed.stdout.split() == ["0.png", "OK", "1.png", "NG"]
    assert not (out / CSV_NAME).exists()
    with (out / JOURNAL_NAME).open("ab") as journal:
        journal.write(b'{"path": "half of a li')

    scored = score(collect(folder), out)
    assert [fresh for _, fresh in scored] == [False, False, True, True, True]
    whole = [row for row, _ in score(collect(folder), tmp_path / "whole")]
    assert timeless(table(out)) == timeless(whole)


def test_one_run_at_a_time(tmp_path: Path) -> None:
    inputs = collect(write_line(tmp_path / "line", 2))
    first = score_line(FakeSegmenter(), inputs, tmp_path / "out")
    next(first)
    with pytest.raises(BusyError, match="another process is writing there"):
        score(inputs, tmp_path / "out")
    assert len(list(first)) == 1
    assert [fresh for _, fresh in score(inputs, tmp_path / "out")] == [False, False]


def test_what_cannot_work_is_refused_before_anything_is_scored(tmp_path: Path) -> None:
    inputs = collect(write_line(tmp_path / "line", 2))
    segmenter = FakeSegmenter()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="expected an output folder that can be written"):
        score(inputs, tmp_path / "file", segmenter)
    with pytest.raises(InputError, match="comes 2 times: expected each path once"):
        score([*inputs, inputs[1]], tmp_path / "out", segmenter)
    with pytest.raises(InputError, match=r"0\.png lies in the output folder"):
        score(inputs, tmp_path / "line", segmenter)
    out = tmp_path / "damaged"
    with Ledger(out):
        (out / JOURNAL_NAME).write_text("{}\n")
    with pytest.raises(InputError, match="line 1 is damaged"):
        score(inputs, out, segmenter)
    assert segmenter.calls == 0
    assert not (out / CSV_NAME).exists()


def test_an_output_folder_among_the_images_is_not_scored(tmp_path: Path) -> None:
    folder = write_line(tmp_path / "line", 2)
    out = folder / "out"

    def overlay(item: ScoreInput, *_: object) -> None:
        write_image(out / "overlays" / item.path.name)

    for _ in range(2):
        inputs = collect_inputs([folder], known_categories=KNOWN, out=out)
        assert len(score(inputs, out, overlay=overlay)) == 2


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [("", 0), ("OOO", 0), ("ON", 1), ("OR", 1), ("OE", 2), ("NRE", 2)],
)
def test_summary_and_exit_code(verdicts: str, code: int) -> None:
    names = {"O": "OK", "N": "NG", "R": "REVIEW", "E": "ERROR"}

    def row(verdict: Any) -> ScoreRow:
        known: dict[str, Any] = {"path": "/a", "model_hash": "m", "recipe_hash": "r"}
        known |= {"calibration_hash": "c", "verdict": verdict}
        if verdict == "ERROR":
            return ScoreRow(**known, error="broken")
        scores = {"image_score": 0.5, "image_threshold": 0.5, "pixel_threshold": 0.5}
        counts = {"defect_count": 0, "defect_area": 0}
        return ScoreRow(**known, source_sha256="00", category="brick", **scores, **counts)

    summary = summarise(row(names[letter]) for letter in verdicts)
    counted = [verdicts.count(letter) for letter in names]
    assert summary == LineSummary(*counted, total=len(verdicts))
    assert exit_code(summary) == code
