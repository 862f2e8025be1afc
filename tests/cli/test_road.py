"""The whole road on the tiny data set: train, calibrate, evaluate; score is in test_line.py."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from anomaly_u2net.calibration import Calibration
from anomaly_u2net.cli import measure
from anomaly_u2net.evaluation import METRICS
from anomaly_u2net.recipe import Recipe

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of the tiny run, not calibrated, to write into."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


@pytest.fixture
def recipe_file(tiny_recipe: Recipe, tmp_path: Path) -> Path:
    tiny_recipe.with_overrides(["train.steps=3"]).save(tmp_path / "tiny.yaml")
    return tmp_path / "tiny.yaml"


# --- train


@pytest.mark.usefixtures("quick_export")
def test_train(cli: Cli, recipe_file: Path, own_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "run"
    moved = own_data.rename(tmp_path / "data: #1")  # a path is taken as it is, not as YAML
    options = ["--out", out, "--data-root", moved, "--set", "train.validate_every=2"]
    code, text, _ = cli("train", recipe_file, *options)
    assert code == 0
    fields = dict(line.split(None, 1) for line in text.splitlines())
    assert (fields["run"], fields["steps"]) == (str(out), "3")
    assert {"seconds", "kept_step", "val_pixel_ap", "val_aupro"} < fields.keys()
    assert Recipe.load(out / "recipe.yaml").data.root == str(moved)
    code, text, err = cli("train", recipe_file, *options)
    assert (code, text) == (3, "")
    assert "already holds a run: give --resume, or another --out" in err
    code, text, _ = cli("train", recipe_file, *options, "--resume", "--json")
    assert (code, json.loads(text)["steps"]) == (0, 3)


@pytest.mark.usefixtures("quick_export")
def test_train_writes_to_runs_by_default(
    cli: Cli, recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, text, err = cli("train", recipe_file, "--json", "--max-minutes", "5")
    assert code == 0
    assert json.loads(text)["run"] == "runs/tiny"
    assert "training" in err
    assert (tmp_path / "runs/tiny/model.json").is_file()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--set", "data.root=null"], "data.root is not set: give --data-root FOLDER"),
        (["--data-root", "$NO_SUCH_PLACE/a"], "that variable is not set in the environment"),
        (["--data-root", "nothing"], "nothing: expected a data-set folder, found nothing"),
        (["--init", "nothing.onnx"], "nothing.onnx: no such weights file"),
        (["--init", "a.pkl"], "model.init"),
        (["--max-minutes", "0"], "max_minutes must be positive, got 0"),
        (["--devices", "0"], "train.devices: Input should be greater than or equal to 1"),
        (
            ["--set", "data.categories=[plat]"],
            "expected categories out of plate, sheet; got 'plat'",
        ),
        (["--set", "data.card=mvtecad"], "mvtecad"),
    ],
)
def test_train_refuses(
    cli: Cli, recipe_file: Path, tmp_path: Path, options: list[str], text: str
) -> None:
    if text == "model.init":
        (tmp_path / "a.pkl").touch()
        options, text = ["--init", str(tmp_path / "a.pkl")], "a.pkl: expected a .safetensors, .pth"
    code, out, err = cli("train", recipe_file, "--out", tmp_path / "run", *options)
    assert (code, out) == (3, "")
    assert text in err
    assert "Traceback" not in err


# --- calibrate


def test_calibrate(cli: Cli, run: Path) -> None:
    code, out, err = cli("calibrate", run, "--false-reject", "0.2")
    assert code == 0, err
    assert f"written: {run / 'calibration.json'}" in out
    assert "plate: image: Of new good images like the 4 held out, at most 20 %" in out
    saved = Calibration.load(run / "calibration.json")
    code, out, _ = cli("calibrate", run, "--false-reject", "0.2", "--json", "--backend", "torch")
    again = json.loads(out)
    assert code == 0
    for name, thresholds in saved.categories.items():
        value = again["categories"][name]["image"]["value"]
        assert value == pytest.approx(thresholds.image.value, rel=1e-3)  # torch and onnxruntime


def test_calibrate_refuses_test_images(cli: Cli, run: Path) -> None:
    code, out, err = cli("calibrate", run, "--split", "test")
    assert (code, out) == (3, "")
    assert "a threshold chosen on test images makes the test meaningless" in err
    assert not (run / "calibration.json").exists()


def test_calibrate_needs_enough_images_or_leave(cli: Cli, run: Path) -> None:
    code, out, err = cli("calibrate", run)
    assert (code, out) == (3, "")
    assert "19" in err
    assert not (run / "calibration.json").exists()
    code, out, _ = cli("calibrate", run, "--allow-weaker")
    assert code == 0
    assert "Weaker than the 5 % asked for" in out


def test_calibrate_without_held_out_images(cli: Cli, run: Path) -> None:
    lines = (run / "split.csv").read_text().splitlines()
    kept = [line for line in lines if ",calibration," not in line]
    (run / "split.csv").write_text("\n".join(kept) + "\n")
    code, _, err = cli("calibrate", run)
    assert code == 3
    assert "there are no held-out images: set data.calibration_fraction above 0" in err


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--false-reject", "0"], "false"),
        (["--pixel-rule", "youden"], "expected a pixel rule, one of false_reject, best_f1"),
        (["--backend", "tensorrt"], "unknown backend 'tensorrt': expected auto, onnx, torch"),
        (["--moved-to", "nothing"], "are missing"),
    ],
)
def test_calibrate_refuses(cli: Cli, run: Path, options: list[str], text: str) -> None:
    code, out, err = cli("calibrate", run, *options)
    assert (code, out) == (3, "")
    assert text in err
    assert "Traceback" not in err


# --- evaluate


def test_evaluate(cli: Cli, calibrated_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "numbers"
    code, text, _ = cli("evaluate", calibrated_run, "--out", out)
    assert code == 0
    assert f"written: {out / 'evaluation.json'}, {out / 'evaluation.csv'}" in text
    assert "plate/spot" in text
    saved = json.loads((out / "evaluation.json").read_text())
    assert [row["category"] for row in saved["categories"]] == ["plate", "sheet"]
    assert saved["mean"]["pixel_auroc"] > 0.95
    table = list(csv.DictReader((out / "evaluation.csv").read_text().splitlines()))
    assert [row["category"] for row in table] == ["plate", "sheet", "mean"]
    assert float(table[2]["pixel_auroc"]) == saved["mean"]["pixel_auroc"]
    code, text, _ = cli("evaluate", calibrated_run, "--out", out, "--json")
    assert (code, json.loads(text)) == (0, saved)


def test_evaluate_without_calibration_says_so(cli: Cli, run: Path) -> None:
    code, out, _ = cli("evaluate", run)
    assert code == 0
    assert "(calibrated: nothing: there is no calibration.json): columns that need one" in out
    assert "n/a" in out
    assert (run / "evaluation/test/evaluation.json").is_file()
    assert cli("evaluate", run, "--split", "validation")[0] == 0
    assert (run / "evaluation/validation/evaluation.csv").is_file()


def test_evaluate_other_images(cli: Cli, calibrated_run: Path, own_data: Path, tmp_path) -> None:
    shutil.rmtree(own_data / "plate")
    run = shutil.copytree(calibrated_run, tmp_path / "run")
    options = ["--data-root", own_data, "--category", "plate"]
    code, out, _ = cli("evaluate", run, *options, "--json")
    (row,) = json.loads(out)["categories"]
    assert (code, row["category"], row["good"], row["defective"]) == (0, "plate", 3, 3)
    assert row["metrics"]["false_reject"] is not None
    (written,) = (run / "evaluation").glob("test-own_data-*/evaluation.json")
    assert json.loads(written.read_text())["images_hash"] == json.loads(out)["images_hash"]
    shutil.copy(own_data / "sheet/train/good/train_good_0.png", own_data / "sheet/test/good")
    code, _, err = cli("evaluate", run, *options)
    assert code == 3
    assert "with the same bytes" in err


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--split", "train"], "--split 'train': expected test, validation or calibration"),
        (["--category", "plate"], "--category goes with --data-root"),
        (["--data-root", "x", "--moved-to", "y"], "--moved-to the run's own: give one"),
        (["--data-root", "x", "--split", "validation"], "leave --split out"),
        (["--data-root", "nothing"], "expected a data-set folder, found nothing"),
    ],
)
def test_evaluate_refuses(cli: Cli, tiny_run: Path, options: list[str], text: str) -> None:
    code, out, err = cli("evaluate", tiny_run, *options)
    assert (code, out) == (3, "")
    assert text in err


def test_evaluate_what_is_no_run(cli: Cli, run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, _, err = cli("evaluate", tmp_path / "empty")
    assert code == 3
    assert "no recipe.yaml here: expected the folder of a training run" in err
    (run / "model.onnx").write_bytes(b"altered")
    code, _, err = cli("evaluate", run)
    assert code == 3
    assert "model.onnx: altered or damaged: expected SHA-256" in err


def test_evaluate_where_nothing_can_be_written(cli: Cli, tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, _, err = cli("evaluate", tiny_run, "--out", tmp_path / "file" / "out")
    assert code == 3
    assert err.splitlines()[-1].startswith("anomaly-u2net: [Errno ")


def test_evaluate_with_a_spoilt_mask(
    cli: Cli, tiny_run: Path, own_data: Path, tmp_path: Path, write_png: Callable[..., None]
) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    mask = own_data / "plate/ground_truth/spot/test_spot_1_mask.png"
    write_png(np.zeros((9, 9), np.uint8), mask)
    code, _, err = cli("evaluate", run, "--moved-to", own_data)
    assert code == 3
    assert "test_spot_1_mask.png" in err
    mask.unlink()
    code, _, err = cli("evaluate", run, "--moved-to", own_data)
    assert code == 3
    assert "1 are missing" in err


def test_the_table_on_screen_has_every_metric() -> None:
    assert list(measure.COLUMNS) == list(METRICS)
