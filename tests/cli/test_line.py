"""``score`` and ``overlay`` with the tiny model: exit codes, bad files, going on."""

from __future__ import annotations

import csv
import json
import pickle
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image as Pillow

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def good(tiny_data: Path) -> Path:
    """Good images of a known verdict: the thresholds are the highest of their scores."""
    return tiny_data / "plate" / "validation" / "good"


@pytest.fixture
def bad(tiny_data: Path) -> Path:
    return tiny_data / "plate" / "validation" / "spot"


def table(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((out / "rows.csv").read_text().splitlines()))


def test_all_ok_is_0(cli: Cli, calibrated_run: Path, good: Path, tmp_path: Path) -> None:
    code, out, err = cli("score", calibrated_run, good, "--out", tmp_path / "out")
    assert code == 0, err
    fields = dict(line.split(None, 1) for line in out.splitlines())
    assert fields["ok"] == fields["total"] == "4"
    assert [row["verdict"] for row in table(tmp_path / "out")] == ["OK"] * 4
    parquet = pyarrow.parquet.read_table(tmp_path / "out" / "rows.parquet").to_pylist()
    assert [row["path"] for row in parquet] == [row["path"] for row in table(tmp_path / "out")]
    assert {row["category"] for row in parquet} == {"plate"}  # by the folder's name


def test_ng_is_1_and_the_region_is_where_the_defect_is(
    cli: Cli, calibrated_run: Path, good: Path, bad: Path, tmp_path: Path
) -> None:
    code, out, _ = cli("score", calibrated_run, good, bad, "--out", tmp_path / "out", "--json")
    assert code == 1
    found = json.loads(out)  # alone on stdout
    assert found["summary"] == {
        "ok": 4, "ng": 1, "review": 0, "error": 0, "total": 5, "from_earlier_runs": 0,
    }  # fmt: skip
    row = found["rows"][-1]
    with Pillow.open(bad.parents[1] / "ground_truth/spot/validation_spot_0_mask.png") as mask:
        left, top, right, bottom = mask.getbbox()
    assert left - 4 <= row["largest_centroid_x"] <= right + 4
    assert top - 4 <= row["largest_centroid_y"] <= bottom + 4
    assert row["image_score"] > row["image_threshold"]


def test_again_adds_nothing_and_scores_nothing(
    cli: Cli, calibrated_run: Path, good: Path, bad: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert cli("score", calibrated_run, good, "--out", out)[0] == 0
    before = table(out)
    code, text, _ = cli("score", calibrated_run, good, bad, "--out", out, "--json")
    found = json.loads(text)
    assert (code, found["summary"]["total"], found["summary"]["from_earlier_runs"]) == (1, 5, 4)
    assert table(out)[:4] == before
    assert len({row["path"] for row in table(out)}) == len(table(out)) == 5


def png_header(width: int, height: int) -> bytes:
    """A PNG by its header, with hardly any pixels behind it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100)))


def spoil(line: Path, sound: Path) -> dict[str, str]:
    """Every kind of bad file beside two sound ones: name → what its error says."""
    line.mkdir()
    for name in ("a_sound.png", "z_sound.png"):
        shutil.copy(sound, line / name)
    data = sound.read_bytes()
    (line / "cut.png").write_bytes(data[: len(data) // 2])
    (line / "empty.png").touch()
    (line / "huge.png").write_bytes(png_header(30_000, 30_000))
    (line / "folder.png").mkdir()
    (line / "text.png").write_text("not an image at all\n")
    (line / "noise.jpg").write_bytes(bytes(range(256)))
    (line / "dangling.png").symlink_to(line / "nowhere")
    return {
        "cut.png": "cut", "empty.png": "empty", "huge.png": "30,000 x 30,000", "folder.png": "folder",
        "text.png": "expected", "noise.jpg": "expected", "nowhere": "nothing",
    }  # fmt: skip


def test_bad_files_are_error_rows_and_the_line_goes_on(
    cli: Cli, calibrated_run: Path, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = spoil(tmp_path / "line", sorted(good.iterdir())[0])
    locked = tmp_path / "line" / "locked.png"
    shutil.copy(sorted(good.iterdir())[0], locked)
    opened = Path.open

    def refuse(self: Path, *rest: Any, **named: Any) -> Any:  # chmod does not stop root
        if self.name == "locked.png":
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, *rest, **named)

    monkeypatch.setattr(Path, "open", refuse)
    options = ["--out", tmp_path / "out", "--category", "plate", "--overlays"]
    code, _, err = cli("score", calibrated_run, tmp_path / "line", *options)
    assert code == 2
    rows = {Path(row["path"]).name: row for row in table(tmp_path / "out")}
    assert sorted(rows) == sorted([*texts, "locked.png", "a_sound.png", "z_sound.png"])
    assert {name for name, row in rows.items() if row["verdict"] != "ERROR"} == {
        "a_sound.png",
        "z_sound.png",
    }
    for name, text in texts.items():
        assert text in rows[name]["error"], rows[name]["error"]
        assert rows[name]["image_score"] == ""
    assert "ermi" in rows["locked.png"]["error"]
    assert len([line for line in err.splitlines() if line.startswith("ERROR ")]) == 8
    assert len(list((tmp_path / "out" / "overlays").glob("*.png"))) == 2


def test_a_file_that_is_not_there_is_an_error_row(
    cli: Cli, calibrated_run: Path, good: Path, tmp_path: Path
) -> None:
    names = [good / "validation_good_0.png", tmp_path / "missing.png"]
    options = ["--out", tmp_path / "out", "--category", "plate"]
    assert cli("score", calibrated_run, *names, *options)[0] == 2
    assert [row["verdict"] for row in table(tmp_path / "out")] == ["OK", "ERROR"]


def test_manifest(cli: Cli, calibrated_run: Path, tiny_data: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "today.csv"
    shutil.copy(tiny_data / "plate/validation/good/validation_good_0.png", tmp_path / "a.png")
    shutil.copy(tiny_data / "sheet/validation/good/validation_good_0.png", tmp_path / "b.png")
    manifest.write_text("path,category\na.png,plate\nb.png,sheet\n")
    code, out, _ = cli(
        "score", calibrated_run, "--manifest", manifest, "--out", tmp_path / "out", "--json"
    )
    assert code == 0
    assert [row["category"] for row in json.loads(out)["rows"]] == ["plate", "sheet"]
    manifest.write_text("file,kind\na.png,plate\n")
    code, _, err = cli("score", calibrated_run, "--manifest", manifest, "--out", tmp_path / "o")
    assert code == 3
    assert "path" in err


def test_without_a_category_each_image_is_an_error(
    cli: Cli, calibrated_run: Path, good: Path, tmp_path: Path
) -> None:
    shutil.copytree(good, tmp_path / "line")
    code, _, _ = cli("score", calibrated_run, tmp_path / "line", "--out", tmp_path / "out")
    assert code == 2
    assert "no category: expected one of plate, sheet" in table(tmp_path / "out")[0]["error"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["RUN", "--out", "OUT"], "nothing to score: name files, folders, patterns, or a"),
        (["RUN", "GOOD", "--out", "OUT", "--category", "plat"], "unknown category 'plat'"),
        (["RUN", "GOOD/*.gif", "--out", "OUT"], "matches no image"),
        (["RUN", "GOOD", "--out", "FILE"], "FILE"),
        (["RUN", "GOOD", "--out", "FILE/out"], "FILE"),
        (["PICKLE", "GOOD", "--out", "OUT"], "got a file; pickled models are never loaded"),
        (["nothing", "GOOD", "--out", "OUT"], "no model.json here (there is no such folder)"),
        (["RUN", "GOOD", "--out", "OUT", "--manifest", "none.csv"], "none.csv"),
        (["RUN", "GOOD", "--out", "OUT", "--threads", "some"], "Invalid value for '--threads'"),
    ],
)
def test_score_refuses(
    cli: Cli, calibrated_run: Path, good: Path, tmp_path: Path, arguments: list[str], text: str
) -> None:
    (tmp_path / "FILE").touch()
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"a": 1}))
    places = {
        "RUN": calibrated_run, "OUT": tmp_path / "OUT", "GOOD": good,
        "FILE": tmp_path / "FILE", "PICKLE": tmp_path / "model.pkl",
    }  # fmt: skip
    first = {word: word.split("/")[0] for word in arguments}
    given = [
        word.replace(first[word], str(places[first[word]])) if first[word] in places else word
        for word in arguments
    ]
    code, out, err = cli("score", *given)
    assert (code, out) == (3, "")
    assert text in " ".join(err.split())
    assert "Traceback" not in err
    assert not (tmp_path / "OUT" / "rows.csv").exists()


@pytest.mark.parametrize("verb", ["score", "overlay"])
def test_a_model_without_calibration_is_refused_at_once(
    cli: Cli, tiny_run: Path, good: Path, tmp_path: Path, verb: str
) -> None:
    code, out, err = cli(verb, tiny_run, good, "--out", tmp_path / "out")
    assert (code, out) == (3, "")
    assert "no calibration.json here, so nothing can be judged: run" in err
    assert not (tmp_path / "out").exists()


def test_overlays_of_many_days_keep_their_own_pictures(
    cli: Cli, calibrated_run: Path, good: Path, tmp_path: Path
) -> None:
    first, second = sorted(good.iterdir())[:2]
    for day, path in (("day1", first), ("day2", second)):
        (tmp_path / day).mkdir()
        shutil.copy(path, tmp_path / day / "0001.png")
    options = ["--out", tmp_path / "out", "--category", "plate"]
    assert cli("score", calibrated_run, tmp_path / "day1", *options)[0] == 0
    # Rows of an earlier run get the pictures that it did not draw.
    assert cli("score", calibrated_run, tmp_path / "day1", *options, "--overlays")[0] == 0
    assert cli("score", calibrated_run, tmp_path / "day2", *options, "--overlays")[0] == 0
    pictures = {path.name: path.read_bytes() for path in (tmp_path / "out/overlays").glob("*.png")}
    assert sorted(pictures) == ["0001.png", "day2__0001.png"]
    assert pictures["0001.png"] != pictures["day2__0001.png"]


def test_another_models_calibration_is_refused(
    cli: Cli, calibrated_run: Path, good: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(calibrated_run, tmp_path / "run"))
    spec = json.loads((run / "model.json").read_text())
    (run / "model.json").write_text(json.dumps(spec | {"name": "other"}))
    code, _, err = cli("score", run, good, "--out", tmp_path / "out")
    assert code == 3
    assert "run 'anomaly-u2net calibrate' again" in err


@pytest.mark.parametrize("style", ["panel", "overlay", "heatmap"])
def test_overlay(
    cli: Cli, calibrated_run: Path, good: Path, bad: Path, tmp_path: Path, style: str
) -> None:
    code, out, _ = cli(
        "overlay", calibrated_run, good, bad, "--out", tmp_path / "out", "--style", style
    )
    assert code == 0
    assert "written  5" in out
    pictures = sorted((tmp_path / "out").glob("*.png"))
    assert len(pictures) == 5
    for path in pictures:
        with Pillow.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        assert style == "panel" or pixels.shape == (48, 40, 3)


def test_overlay_of_bad_files_goes_on(
    cli: Cli, calibrated_run: Path, good: Path, tmp_path: Path
) -> None:
    spoil(tmp_path / "line", sorted(good.iterdir())[0])
    options = ["--out", tmp_path / "out", "--category", "plate"]
    code, out, err = cli("overlay", calibrated_run, tmp_path / "line", *options)
    assert code == 2
    assert [line.split()[:2] for line in out.splitlines()][:2] == [
        ["written", "2"],
        ["failed", "7"],
    ]
    assert len([line for line in err.splitlines() if line.startswith("ERROR ")]) == 7


def test_overlay_refuses_an_unknown_style(
    cli: Cli, calibrated_run: Path, good: Path, tmp_path: Path
) -> None:
    code, _, err = cli("overlay", calibrated_run, good, "--out", tmp_path, "--style", "jet")
    assert code == 3
    assert "--style 'jet': expected one of panel, overlay, heatmap" in err
