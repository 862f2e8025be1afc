"""The road on the tiny data set: train, evaluate; calibrate and score have files of their own."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from anomaly_u2net.cli import numbers
from anomaly_u2net.evaluation import LABEL_METRICS, METRICS, SIZE_METRICS, memory
from anomaly_u2net.evaluation.runs import other_records
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


# --- evaluate


def test_evaluate(cli: Cli, calibrated_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "numbers"
    code, text, _ = cli("evaluate", calibrated_run, "--out", out)
    assert code == 0
    assert f"written: {out / 'evaluation.json'}, {out / 'evaluation.csv'}" in text
    assert "plate/spot" in text
    saved = json.loads((out / "evaluation.json").read_text())
    assert [row["category"] for row in saved["categories"]] == ["plate", "sheet"]
    assert saved["mean"]["pixel_auroc"]["value"] > 0.95
    assert (saved["engine"], saved["interval"]["resamples"]) == ("exact", 1000)
    assert "engine: exact (exact needs" in text
    assert "half of what is available" in text
    table = list(csv.DictReader((out / "evaluation.csv").read_text().splitlines()))
    assert [row["category"] for row in table] == ["plate", "sheet", "mean"]
    assert float(table[2]["pixel_auroc"]) == saved["mean"]["pixel_auroc"]["value"]
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
        (["--memory", "much"], "'much' is no amount of memory: write it as 8GiB, 500MB"),
        (["--memory", "0"], "expected 1 byte of memory or more, got 0"),
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


def test_evaluate_within_little_memory_streams(cli: Cli, calibrated_run: Path, tmp_path) -> None:
    run = shutil.copytree(calibrated_run, tmp_path / "run")
    code, exact, _ = cli("evaluate", run, "--json", "--no-intervals")
    assert code == 0
    code, text, _ = cli("evaluate", run, "--memory", "1kB")
    assert code == 0
    assert "engine: streaming, pixel numbers certified within" in text
    assert "(± below each); AUPIMO needs all maps: n/a" in text
    assert "no intervals of streamed numbers: they need" in text
    assert "; allowed 1000.0 B\n" in text
    assert "allowed 1000.0 B, --memory)" in text
    saved = json.loads((run / "evaluation/test/evaluation.json").read_text())
    assert saved["engine"] == "streaming"
    for row, sure in zip(saved["categories"], json.loads(exact)["categories"], strict=True):
        assert row["metrics"]["aupimo"] is None
        low, high = row["metrics"]["aupro_0.30"]["certified"]
        assert low <= sure["metrics"]["aupro_0.30"]["value"] <= high
    table = list(csv.DictReader((run / "evaluation/test/evaluation.csv").read_text().splitlines()))
    assert {row["engine"] for row in table} == {"streaming"}
    assert {row["aupimo"] for row in table} == {"n/a"}


def test_evaluate_without_intervals(cli: Cli, calibrated_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "numbers"
    code, text, _ = cli("evaluate", calibrated_run, "--no-intervals", "--out", out)
    assert code == 0
    assert "95 % interval" not in text
    saved = json.loads((out / "evaluation.json").read_text())
    assert saved["interval"] is None
    assert saved["mean"]["pixel_auroc"]["low"] is None


@pytest.fixture
def six_of_a_kind(own_data: Path) -> Path:
    """Sheets, of which half are copies in other bytes: enough of a kind for intervals."""
    for part, labels in (("test", ("good", "spot")), ("ground_truth", ("spot",))):
        for label in labels:
            for path in (own_data / "sheet" / part / label).iterdir():
                copy = path.with_name(path.name.replace("test_", "test_copy_"))
                copy.write_bytes(path.read_bytes() + b"\0")
    shutil.rmtree(own_data / "plate")
    return own_data


def test_intervals_stand_below_their_numbers(
    cli: Cli, calibrated_run: Path, six_of_a_kind: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(calibrated_run, tmp_path / "run")
    code, text, _ = cli("evaluate", run, "--data-root", six_of_a_kind)
    assert code == 0
    lines = text.splitlines()
    row = next(number for number, line in enumerate(lines) if line.startswith("│ sheet "))
    values, limits = (
        [cell.strip() for cell in line.strip("│").split("│")] for line in lines[row : row + 2]
    )
    assert values[:3] == ["sheet", "6", "6"]
    assert limits[:3] == ["", "", ""]
    for value, limit in zip(values[3:], limits[3:], strict=True):
        low, high = limit.split("–")
        assert float(low) - 5e-4 <= float(value) <= float(high) + 5e-4
    assert "sheet, 64-1023 px" in text
    assert "below a number: its 95 % interval over images like these (1000 resamples" in text


def test_streamed_numbers_have_interval_and_certificate(
    cli: Cli,
    calibrated_run: Path,
    six_of_a_kind: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    run = shutil.copytree(calibrated_run, tmp_path / "run")
    options = ["--data-root", six_of_a_kind]
    monkeypatch.setattr(memory, "STREAM_STATE", 0)
    records = other_records(run, six_of_a_kind)
    one, two = (memory.plan_memory(records, models=models).streamed for models in (1, 2))
    code, text, _ = cli("evaluate", run, *options, "--memory", one)
    assert code == 0
    assert "engine: streaming, pixel numbers certified within" in text
    assert "no intervals of streamed numbers" not in text
    lines = text.splitlines()
    row = next(number for number, line in enumerate(lines) if line.startswith("│ sheet "))
    value, limits, certificate = (
        [cell.strip() for cell in line.strip("│").split("│")][6] for line in lines[row : row + 3]
    )
    low, high = limits.split("–")
    assert float(low) - 5e-4 <= float(value) <= float(high) + 5e-4
    assert certificate.startswith("±")
    assert float(certificate[1:]) < 1e-3
    (written,) = (run / "evaluation").glob("test-own_data-*/evaluation.json")
    number = json.loads(written.read_text())["categories"][0]["metrics"]["pixel_auroc"]
    assert number["certified"][0] <= number["value"] <= number["certified"][1]
    assert number["low"] <= number["value"] <= number["high"]
    code, text, _ = cli("evaluate", run, *options, "--memory", two, "--against", run)
    assert code == 0
    assert "engine: streaming, pixel differences certified within" in text


def test_compare_two_runs(
    cli: Cli, calibrated_run: Path, run: Path, own_data: Path, tmp_path: Path
) -> None:
    a = shutil.copytree(calibrated_run, tmp_path / "a")
    code, text, err = cli("evaluate", a, "--against", run)
    assert code == 0
    assert "comparing" in err
    assert f"A is {a}, B is {run}, each at its own thresholds" in text
    assert f"written: {a / 'evaluation/test/comparison.json'}" in text
    saved = json.loads((a / "evaluation/test/comparison.json").read_text())
    assert set(saved["categories"]) == {"plate", "sheet"}
    assert saved["categories"]["plate"]["false_reject"] is None  # B is not calibrated
    assert list(saved["mean"]) == list(METRICS)
    assert "mean over categories, test images" in text
    code, text, _ = cli("evaluate", a, "--against", run, "--json", "--data-root", own_data)
    assert (code, json.loads(text)["images_hash"]) == (0, saved["images_hash"])
    lines = (run / "split.csv").read_text().splitlines()
    kept = [line for line in lines if "test_good_0" not in line]
    (run / "split.csv").write_text("\n".join(kept) + "\n")
    code, _, err = cli("evaluate", a, "--against", run)
    assert code == 3
    assert "these runs have others in this split (12 and 10)" in err


def test_compare_refuses(cli: Cli, calibrated_run: Path, run: Path) -> None:
    code, _, err = cli("evaluate", run, "--against", calibrated_run, "--memory", "1kB")
    assert code == 3
    assert "a comparison keeps what each image of a category adds to the numbers" in err
    code, _, err = cli("evaluate", run, "--against", calibrated_run, "--no-intervals")
    assert code == 3
    assert "--against is about intervals: leave --no-intervals out" in err


def test_the_tables_on_screen_have_every_metric() -> None:
    assert list(numbers.COLUMNS) == list(METRICS)
    assert list(numbers.LABEL_COLUMNS) == list(LABEL_METRICS)
    assert list(numbers.SIZE_COLUMNS) == list(SIZE_METRICS)
