"""Whole runs on the tiny data set: what they write, choose, refuse, and survive."""

from __future__ import annotations

import csv
import json
import math
import platform
import shutil
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from safetensors.torch import load_file, save_file

from anomaly_u2net.data.demo import write_demo
from anomaly_u2net.data.training_set import BalancedBatches, TrainingSet
from anomaly_u2net.errors import (
    CollapseError,
    DatasetError,
    InputError,
    LeakError,
    MaskError,
    MissingExtra,
    ModelFileError,
    RecipeError,
)
from anomaly_u2net.evaluation import evaluate
from anomaly_u2net.evaluation.runs import run_records
from anomaly_u2net.files import sha256_file
from anomaly_u2net.inference.bundle import read_spec
from anomaly_u2net.inference.segmenter import Segmenter
from anomaly_u2net.models import packaged
from anomaly_u2net.recipe import Recipe
from anomaly_u2net.training import Progress, keeper, train
from anomaly_u2net.training.run import check_settings, init_path, split_data, training_loader

RUN_FILES = [
    "checkpoints/best.json",
    "checkpoints/best.safetensors",
    "checkpoints/last.json",
    "checkpoints/last.safetensors",
    "checkpoints/resume.ckpt",
    "environment.json",
    "metrics.csv",
    "model.json",
    "model.onnx",
    "model.safetensors",
    "recipe.yaml",
    "split.csv",
]
WEIGHTS = ["checkpoints/best.safetensors", "checkpoints/last.safetensors", "model.safetensors"]


class Killed(BaseException):
    """Stands for a kill: nothing in the package catches it."""


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def short(tiny_recipe: Recipe) -> Recipe:
    """Ten steps with validations after 4, 8 and 10."""
    return tiny_recipe.with_overrides(["train.steps=10", "train.validate_every=4"])


def rows(folder: Path, *, timed: bool = False) -> list[dict[str, str]]:
    found = list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))
    return [{k: v for k, v in row.items() if timed or k != "seconds"} for row in found]


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def kill_at(step: int, *, after_validation: bool = False) -> Callable[[Progress], None]:
    def call(now: Progress) -> None:
        if now.step == step and (now.row.get("step") == step) == after_validation:
            raise Killed

    return call


def assert_same_run(one: Path, other: Path) -> None:
    for name in (*WEIGHTS, "recipe.yaml", "split.csv"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert rows(one) == rows(other)
    assert files(one) == files(other)
    states = [
        torch.load(folder / "checkpoints" / "resume.ckpt", weights_only=True)
        for folder in (one, other)
    ]
    assert states[0]["global_step"] == states[1]["global_step"]
    assert states[0]["lr_schedulers"] == states[1]["lr_schedulers"]
    for key, value in states[0]["state_dict"].items():
        assert torch.equal(value, states[1]["state_dict"][key]), key  # model and average


# --- what a run writes


def test_run_folder(tiny_run: Path) -> None:
    assert files(tiny_run) == sorted(
        [*RUN_FILES, "samples/step_000040.png", "samples/step_000080.png"]
    )


def test_sample_sheet_is_a_picture_of_the_validation_images(tiny_run: Path) -> None:
    for path in (tiny_run / "samples").iterdir():
        with Pillow.open(path) as picture:
            picture.load()
            assert picture.format == "PNG"
            assert min(picture.size) > 100
            assert len(set(picture.convert("L").tobytes())) > 20


def test_environment(tiny_run: Path) -> None:
    found = json.loads((tiny_run / "environment.json").read_text())
    assert found["python"] == platform.python_version()
    assert found["packages"]["torch"] == torch.__version__.split("+")[0]
    assert sorted(found) == [
        "cpus", "gpu", "init_sha256", "packages", "platform", "precision", "python"
    ]  # fmt: skip
    assert found["init_sha256"] is None


def test_metrics_table(tiny_run: Path) -> None:
    first, last = rows(tiny_run, timed=True)
    assert list(last) == [
        "step", "seconds", "lr",
        "loss", "loss_side1", "loss_side2", "loss_fused",
        "range_side1", "range_side2", "range_fused", "separation",
        "val_pixel_auroc", "val_pixel_ap", "val_aupro", "val_image_auroc",
        "val_map_range",
        "constant_outputs",
    ]  # fmt: skip
    assert [first["step"], last["step"]] == ["40", "80"]
    assert float(first["seconds"]) <= float(last["seconds"])
    assert float(last["loss"]) < float(first["loss"]) / 2
    assert float(first["lr"]) == pytest.approx(0.02 / 2)
    assert float(last["lr"]) == 0
    assert float(last["val_pixel_ap"]) > 0.5
    assert last["constant_outputs"] == ""


def test_the_model_is_the_best_of_the_validations(tiny_run: Path) -> None:
    best = max(rows(tiny_run), key=lambda row: float(row["val_pixel_ap"]))
    about = json.loads((tiny_run / "checkpoints" / "best.json").read_text())
    assert (str(about["step"]), about["select"]) == (best["step"], "pixel_ap")
    assert about["recipe_hash"] == Recipe.load(tiny_run / "recipe.yaml").digest
    assert (tiny_run / "model.safetensors").read_bytes() == (
        tiny_run / "checkpoints" / "best.safetensors"
    ).read_bytes()
    assert read_spec(tiny_run).files["onnx"][1] == sha256_file(tiny_run / "model.onnx")


@pytest.mark.usefixtures("quick_export")
def test_an_earlier_better_validation_is_kept(
    short: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([0.25, 0.75, 0.5])
    monkeypatch.setattr(keeper, "score_records", lambda *_: {"pixel_ap": next(values)})
    result = train(short, tmp_path / "run")
    assert (result.steps, result.metrics["step"]) == (10, 8)
    assert result.metrics["val_pixel_ap"] == 0.75
    assert result.folder == tmp_path / "run"
    assert (tmp_path / "run" / "model.safetensors").read_bytes() != (
        tmp_path / "run" / "checkpoints" / "last.safetensors"
    ).read_bytes()


@pytest.mark.usefixtures("quick_export")
def test_select_last_keeps_the_last(
    short: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([0.25, 0.75, 0.5])
    monkeypatch.setattr(keeper, "score_records", lambda *_: {"pixel_ap": next(values)})
    result = train(short.with_overrides(["train.select=last"]), tmp_path / "run")
    assert result.metrics["step"] == 10


@pytest.mark.usefixtures("quick_export")
def test_progress_counts_every_step(short: Recipe, tmp_path: Path) -> None:
    seen: list[Progress] = []
    train(short, tmp_path / "run", on_progress=seen.append)
    assert [now.step for now in seen] == [1, 2, 3, 4, 4, 5, 6, 7, 8, 8, 9, 10, 10]
    assert {now.steps for now in seen} == {10}
    assert seen[0].row == {}
    assert seen[-1].row["step"] == 10


# --- what it sees


@pytest.mark.usefixtures("quick_export")
def test_neither_weights_nor_choice_see_test_or_calibration_images(
    short: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, set[str]] = {"trained": set(), "chosen": set(), "read": set()}
    made, scored, read = TrainingSet.__init__, keeper.score_records, keeper.read_sample

    def spy_set(self: TrainingSet, records: Any, **rest: Any) -> None:
        seen["trained"] |= {record.split for record in records}
        made(self, records, **rest)

    def spy_scores(segmenter: Segmenter, records: Any) -> Any:
        seen["chosen"] |= {record.split for record in records}
        return scored(segmenter, records)

    def spy_read(record: Any) -> Any:
        seen["read"].add(record.split)
        return read(record)

    monkeypatch.setattr(TrainingSet, "__init__", spy_set)
    monkeypatch.setattr(keeper, "score_records", spy_scores)
    monkeypatch.setattr(keeper, "read_sample", spy_read)
    train(short, tmp_path / "run")
    assert seen == {"trained": {"train"}, "chosen": {"validation"}, "read": {"validation"}}


@pytest.mark.usefixtures("quick_export")
def test_no_step_repeats_the_batch_of_another(
    short: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    draw = BalancedBatches.batch

    def spy(self: BalancedBatches, step: int, *, rank: int = 0) -> Any:
        steps.append(step)
        return draw(self, step, rank=rank)

    monkeypatch.setattr(BalancedBatches, "batch", spy)
    train(short, tmp_path / "run")
    assert steps == list(range(10))


@pytest.mark.usefixtures("quick_export")
def test_same_seed_same_weights_other_seed_others(short: Recipe, tmp_path: Path) -> None:
    short = short.with_overrides(["train.steps=3"])
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        train(short.with_overrides([f"seed={seed}"]), tmp_path / name)
    one, again, other = (
        (tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "again", "other")
    )
    assert one == again
    assert one != other


@pytest.mark.usefixtures("quick_export")
def test_init_starts_from_the_weights_of_a_file(
    short: Recipe, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINY_RUN", str(tiny_run))
    short = short.with_overrides(["train.steps=1", "train.lr=1e-9"])
    train(short, tmp_path / "scratch")
    warm = short.with_overrides(["model.init=$TINY_RUN/model.safetensors"])
    train(warm, tmp_path / "warm")
    loss = {name: float(rows(tmp_path / name)[0]["loss"]) for name in ("scratch", "warm")}
    assert loss["warm"] < 0.2 < loss["scratch"]
    before, after = (
        load_file(tiny_run / "model.safetensors"),
        load_file(tmp_path / "warm" / WEIGHTS[1]),
    )
    torch.testing.assert_close(after["fuse.weight"], before["fuse.weight"])
    environment = json.loads((tmp_path / "warm" / "environment.json").read_text())
    assert environment["init_sha256"] == sha256_file(tiny_run / "model.safetensors")


def test_init_names_a_file_or_weights_of_a_package(
    short: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert init_path(short) is None
    monkeypatch.setenv("WEIGHTS", "/somewhere")
    assert init_path(short.with_overrides(["model.init=$WEIGHTS/a.pth"])) == Path(
        "/somewhere/a.pth"
    )
    named = short.with_overrides(["model.init=efficientnet-lite0"])
    monkeypatch.setitem(packaged.PACKAGES, "efficientnet-lite0", "no_such_package")
    with pytest.raises(MissingExtra, match=r"anomaly_u2net\[peers\]"):
        check_settings(named)


def test_init_of_another_architecture(short: Recipe, tiny_run: Path, tmp_path: Path) -> None:
    other = short.with_overrides([f"model.init={tiny_run / 'model.safetensors'}", "model.width=8"])
    with pytest.raises(ModelFileError, match=r"does not fit the model: .* check model.arch"):
        train(other, tmp_path / "run")
    with pytest.raises(ModelFileError, match=r"nothing.safetensors: no such weights file"):
        train(short.with_overrides(["model.init=nothing.safetensors"]), tmp_path / "other")


@pytest.mark.usefixtures("quick_export")
def test_constant_outputs_are_said_and_noted(
    short: Recipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Outputs that start at the prior 0.001 and hardly learn stay within 0.02."""
    recipe = short.with_overrides(["model.prior=0.001", "train.lr=1e-9", "train.steps=4"])
    train(recipe, tmp_path / "run")
    (row,) = rows(tmp_path / "run")
    assert row["constant_outputs"] == "side1 side2 fused"
    assert 0.1 < float(row["loss_fused"]) < 2.0
    weights = load_file(tmp_path / "run" / "model.safetensors")
    assert weights["sides.0.bias"].item() == pytest.approx(math.log(0.001 / 0.999), abs=1e-3)
    text = caplog.text
    assert "step 4: constant output of side1, side2, fused" in text
    # What the recipe has already is not advised.
    assert "Try a warm start (model.init instead of model.prior) or loss.pixel bce+dice or" in text
    assert "model.prior 0.02" not in text


@pytest.mark.usefixtures("quick_export")
@pytest.mark.parametrize(("sign", "blind"), [(1, False), (-1, True)])
def test_an_output_that_is_turned_round_is_said(
    short: Recipe, tiny_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    sign: int, blind: bool,
) -> None:  # fmt: skip
    """Its range is wide and its loss finite, and yet it finds no defect."""
    weights = load_file(tiny_run / "model.safetensors")
    turned = {k: sign * v if k.startswith("fuse.") else v for k, v in weights.items()}
    save_file(turned, tmp_path / "turned.safetensors")
    changes = [f"model.init={tmp_path / 'turned.safetensors'}", "train.lr=1e-9", "train.steps=4"]
    train(short.with_overrides(changes), tmp_path / "run")
    (row,) = rows(tmp_path / "run")
    assert (float(row["separation"]) < -0.5) == blind
    assert (float(row["separation"]) > 0.5) != blind
    assert row["constant_outputs"] == ""
    said = "the network hardly tells defects from background. Try crops" in caplog.text
    assert said == blind


@pytest.mark.usefixtures("quick_export")
def test_a_kept_network_that_is_constant_is_said(
    short: Recipe, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In training it finds something, by its batch's statistics; what is saved finds nothing."""
    found = {"pixel_ap": 0.1, "map_range": 0.001}
    monkeypatch.setattr(keeper, "score_records", lambda *_: found)
    train(short.with_overrides(["train.lr=0.02", "train.steps=40"]), tmp_path / "run")
    row = rows(tmp_path / "run")[-1]
    assert row["constant_outputs"] == ""
    assert row["val_map_range"] == "0.001"
    assert "the network that is kept (averaged weights, BatchNorm's averages) gives" in caplog.text
    assert "on no validation image do scores span 0.02. Try a warm start" in caplog.text


@pytest.mark.usefixtures("quick_export")
def test_a_diverging_run_stops_and_says_so(short: Recipe, tmp_path: Path) -> None:
    wild = short.with_overrides(["train.lr=1e30", "train.clip=null", "train.warmup=0"])
    with pytest.raises(CollapseError, match=r"the loss became (nan|inf) at step \d+: lower train"):
        train(wild, tmp_path / "run")
    assert not (tmp_path / "run" / "model.json").exists()


@pytest.mark.usefixtures("quick_export")
def test_no_validation_images_is_said(
    short: Recipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result = train(short.with_overrides(["data.validation_fraction=0"]), tmp_path / "run")
    assert "there are none: the last weights are kept" in caplog.text
    assert result.metrics["step"] == 10
    assert not [column for column in rows(tmp_path / "run")[0] if column.startswith("val_")]
    assert not (tmp_path / "run" / "samples").exists()


# --- killed and resumed


@pytest.mark.usefixtures("quick_export")
@pytest.mark.parametrize(
    ("killed", "workers"),
    [
        (kill_at(6), 0),
        (kill_at(6), 1),  # a loader process fetches ahead
        (kill_at(4, after_validation=True), 0),  # before there is any state
        (kill_at(8, after_validation=True), 0),  # between the weights and the state
        (kill_at(9), 0),
    ],
    ids=["step 6", "step 6, worker", "first validation", "second validation", "step 9"],
)
def test_killed_and_resumed_is_the_run_without_the_kill(
    short: Recipe, tmp_path: Path, killed: Callable[[Progress], None], workers: int
) -> None:
    short = short.with_overrides([f"train.workers={workers}"])
    train(short, tmp_path / "whole")
    with pytest.raises(Killed):
        train(short, tmp_path / "killed", on_progress=killed)
    assert not (tmp_path / "killed" / "model.json").exists()
    train(short, tmp_path / "killed", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")
    assert [row["step"] for row in rows(tmp_path / "killed")] == ["4", "8", "10"]


@pytest.mark.usefixtures("quick_export")
def test_killed_twice(short: Recipe, tmp_path: Path) -> None:
    train(short, tmp_path / "whole")
    with pytest.raises(Killed):
        train(short, tmp_path / "killed", on_progress=kill_at(5))
    with pytest.raises(Killed):
        train(short, tmp_path / "killed", resume=True, on_progress=kill_at(9))
    train(short, tmp_path / "killed", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.usefixtures("quick_export")
def test_sigkill_in_a_process_of_its_own(
    short: Recipe, tmp_path: Path, single_thread: dict[str, str]
) -> None:
    short.save(tmp_path / "short.yaml")
    script = """
        import os, signal, sys
        from anomaly_u2net import Recipe, train

        def call(now):
            if now.step == 6:
                os.kill(os.getpid(), signal.SIGKILL)

        train(Recipe.load(sys.argv[1]), sys.argv[2], on_progress=call)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(
        [*command, tmp_path / "short.yaml", tmp_path / "killed"],
        env=single_thread, timeout=120, check=False, capture_output=True,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    train(short, tmp_path / "whole")
    train(short, tmp_path / "killed", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_resuming_a_finished_run_changes_nothing(tiny_run: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(tiny_run, again)
    steps: list[int] = []
    recipe = Recipe.load(tiny_run / "recipe.yaml")
    result = train(recipe, again, resume=True, on_progress=lambda now: steps.append(now.step))
    assert (result.steps, steps) == (80, [])
    assert read_spec(again).digest == read_spec(tiny_run).digest  # a calibration stays valid
    assert_same_run(tiny_run, again)


@pytest.mark.usefixtures("quick_export")
def test_ctrl_c_is_a_keyboard_interrupt(short: Recipe, tmp_path: Path) -> None:
    def press(now: Progress) -> None:
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(short, tmp_path / "run", on_progress=press)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.usefixtures("quick_export")
def test_a_run_is_resumed_with_its_own_recipe_and_data(
    short: Recipe, own_data: Path, tmp_path: Path
) -> None:
    short = short.with_overrides([f"data.root={own_data}"])
    with pytest.raises(Killed):
        train(short, tmp_path / "run", on_progress=kill_at(5))
    with pytest.raises(
        RecipeError, match=r"resumed with its own: anomaly-u2net train .* give another"
    ):
        train(short.with_overrides(["train.lr=0.5"]), tmp_path / "run", resume=True)
    shutil.copy(
        own_data / "plate/train/good/train_good_0.png", own_data / "plate/train/good/new.png"
    )
    with pytest.raises(DatasetError, match=r"lists other images than .* with its own data"):
        train(short, tmp_path / "run", resume=True)


def test_a_run_is_resumed_with_the_weights_it_began_from(
    short: Recipe, tiny_run: Path, tmp_path: Path
) -> None:
    start, before = tmp_path / "start.safetensors", tiny_run / "model.safetensors"
    shutil.copy(before, start)
    warm = short.with_overrides([f"model.init={start}"])
    with pytest.raises(Killed):
        train(warm, tmp_path / "run", on_progress=kill_at(5))
    start.write_bytes(b"others")
    with pytest.raises(
        InputError, match=r"start.safetensors is not the file .* restore it"
    ) as found:
        train(warm, tmp_path / "run", resume=True)
    assert sha256_file(before)[:12] in str(found.value)
    noted = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert noted["init_sha256"] == sha256_file(before)


def test_out_that_cannot_be_used(short: Recipe, tiny_run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"already holds a run: give --resume, or another --out"):
        train(short, tiny_run)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    with pytest.raises(InputError, match=r"exists and is not a run: expected a new or empty"):
        train(short, tmp_path / "full")
    with pytest.raises(InputError, match=r"exists and is not a run"):
        train(short, tmp_path / "full" / "letter.txt")
    with pytest.raises(InputError, match=r"cannot write the run folder"):
        train(short, tmp_path / "full" / "letter.txt" / "run")
    assert files(tmp_path / "full") == ["letter.txt"]


@pytest.mark.usefixtures("quick_export")
def test_a_start_that_failed_leaves_the_folder_usable(short: Recipe, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"no such weights file \(model.init\)"):
        train(short.with_overrides(["model.init=nothing.safetensors"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    short.with_overrides(["train.lr=0.5"]).save(tmp_path / "run" / "recipe.yaml")
    assert train(short, tmp_path / "run").steps == 10  # nothing had been trained there


def test_there_must_be_something_to_resume(short: Recipe, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to resume: expected the folder of a run"):
        train(short, tmp_path / "mistyped", resume=True)


def test_the_same_bytes_in_training_and_test_are_a_leak(
    short: Recipe, own_data: Path, tmp_path: Path
) -> None:
    shutil.copy(own_data / "plate/train/good/train_good_0.png", own_data / "plate/test/good")
    with pytest.raises(LeakError, match=r"found 1 of 13 with the same bytes: .*train_good_0"):
        train(short.with_overrides([f"data.root={own_data}"]), tmp_path / "run")


# --- limited time


@pytest.mark.usefixtures("quick_export")
@pytest.mark.parametrize(("minutes", "validations"), [(0.5, 1), (1, 2)])
def test_max_minutes_stops_early_with_a_low_rate_and_a_model(
    tiny_recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    minutes: float,
    validations: int,
) -> None:
    """Each look at the clock takes a second: 30 looks are over within the first 40 steps."""
    now = iter(range(10**6))
    monkeypatch.setattr(keeper, "time", SimpleNamespace(monotonic=lambda: float(next(now))))
    result = train(tiny_recipe, tmp_path / "run", max_minutes=minutes)
    table = rows(tmp_path / "run")
    assert len(table) == validations
    assert result.steps < 40 * validations
    assert float(table[-1]["lr"]) < 0.05 * 0.02
    assert [path for path in RUN_FILES if not (tmp_path / "run" / path).is_file()] == []


@pytest.mark.usefixtures("quick_export")
def test_a_run_stopped_by_time_can_go_on(
    short: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        now = iter(range(10**6))
        patch.setattr(keeper, "time", SimpleNamespace(monotonic=lambda: float(next(now))))
        stopped = train(short, tmp_path / "run", max_minutes=6 / 60)
    assert stopped.steps < 10
    assert stopped.steps % 4 != 0  # within an interval
    assert train(short, tmp_path / "run", resume=True).steps == 10


@pytest.mark.parametrize("minutes", [0, -1.0, math.nan])
def test_max_minutes_must_be_positive(short: Recipe, tmp_path: Path, minutes: float) -> None:
    with pytest.raises(InputError, match=r"max_minutes must be positive, got"):
        train(short, tmp_path / "run", max_minutes=minutes)


# --- what it refuses


def test_good_images_alone_do_not_train(short: Recipe, own_data: Path, tmp_path: Path) -> None:
    shutil.rmtree(own_data / "plate" / "train" / "spot")
    text = r"'plate': expected defect images in training, found none; .*data.borrow_defects"
    with pytest.raises(DatasetError, match=text):
        train(short.with_overrides([f"data.root={own_data}"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("seed", [0, 1])
def test_the_protocol_chooses_before_parts_are_held_out(short: Recipe, seed: int) -> None:
    recipe = short.with_overrides(["data.protocol=kshot-1", f"seed={seed}"])
    found = Counter((r.category, r.split, r.defective) for r in split_data(recipe))
    for category in ("plate", "sheet"):
        own = {key[1:]: n for key, n in found.items() if key[0] == category}
        assert own == {
            ("train", False): 8,
            ("train", True): 1,
            ("validation", False): 2,
            ("calibration", False): 4,
            ("test", False): 3,
            ("test", True): 3,
        }
    with pytest.raises(DatasetError, match="expected defect images in training, found none"):
        split_data(short.with_overrides(["data.protocol=good_only"]))


def test_near_copies_leave_the_test_before_parts_are_held_out(
    short: Recipe, own_data: Path
) -> None:
    plate = own_data / "plate"
    for split in ("train", "test"):  # darker copies of a training and of a test image
        path = sorted((plate / split / "good").glob("*.png"))[0]
        darker = np.asarray(Pillow.open(path)) * 0.8
        Pillow.fromarray(darker.astype(np.uint8)).save(
            plate / "test" / "good" / f"{split}_copy.png"
        )
    recipe = short.with_overrides([f"data.root={own_data}", "data.protocol=full"])
    kept = split_data(recipe)
    for seed in range(4):  # also where the copied one is held out
        some = recipe.with_overrides(["data.near_copies=leave", f"seed={seed}"])
        left = {r.path for r in kept} - {r.path for r in split_data(some)}
        assert {path.name for path in left} == {"train_copy.png"}


def test_near_copies_are_held_out_together(short: Recipe, own_data: Path) -> None:
    good = own_data / "plate" / "train" / "good"
    path = sorted(good.glob("*.png"))[0]
    for gain in (0.9, 0.8, 0.7):
        darker = np.asarray(Pillow.open(path)) * gain
        Pillow.fromarray(darker.astype(np.uint8)).save(good / f"copy_{gain}.png")
    recipe = short.with_overrides([f"data.root={own_data}", "data.calibration_fraction=0.3"])

    def parted(choice: str, seed: int) -> set[str]:
        records = split_data(recipe.with_overrides([f"data.near_copies={choice}", f"seed={seed}"]))
        return {r.split for r in records if r.path == path or r.path.name.startswith("copy")}

    assert any(len(parted("keep", seed)) > 1 for seed in range(4))
    assert all(len(parted("together", seed)) == 1 for seed in range(8))


@pytest.mark.usefixtures("quick_export")
def test_good_images_alone_train_on_made_defects(
    short: Recipe, own_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for category in ("plate", "sheet"):
        shutil.rmtree(own_data / category / "train" / "spot")
    made = ["synthesis.share=0.5", "synthesis.generators={stain: 1, scratch: 1}"]
    recipe = short.with_overrides([f"data.root={own_data}", *made])
    result = train(recipe, tmp_path / "run")
    assert "set train.select last" in caplog.text  # nothing to choose by
    assert result.metrics["step"] == 10
    assert {row["val_pixel_ap"] for row in rows(result.folder)} == {"n/a"}


@pytest.mark.parametrize("workers", [0, 1])
def test_made_defects_are_filled_from_a_folder_of_textures(
    short: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """Textures of one colour, opaque: each made defect is of one colour, whatever the light."""
    (tmp_path / "inner").mkdir()
    for name, level in (("a", 90), ("inner/b", 200)):
        Pillow.new("RGB", (20, 30), (level,) * 3).save(tmp_path / f"{name}.png")
    monkeypatch.setenv("TEXTURES", str(tmp_path))
    made = ["share=1", "textures=$TEXTURES", "generators={perlin: 1}", "perlin.opacity=1"]
    recipe = short.with_overrides(
        [*(f"synthesis.{text}" for text in made), f"train.workers={workers}"]
    )
    good = [r for r in split_data(recipe) if r.split == "train" and not r.defective]
    batches = iter(training_loader(recipe, good))
    levels = []
    for _ in range(3):
        batch = next(batches)
        for image, mask in zip(batch.image, batch.mask, strict=True):
            inside = image[:, mask[0].bool()]
            if inside.numel():
                assert np.ptp(inside.numpy(), axis=1).max() < 1e-5
                levels.append(round(inside[0, 0].item(), 2))
    assert len(set(levels)) > 3


@pytest.mark.usefixtures("quick_export")
def test_a_good_only_run_is_resumed_to_the_same_weights(
    short: Recipe, own_data: Path, tmp_path: Path
) -> None:
    shutil.rmtree(own_data / "plate" / "train" / "spot")  # one category with defects, one without
    recipe = short.with_overrides([f"data.root={own_data}", "synthesis.share=0.6"])
    train(recipe, tmp_path / "whole")
    with pytest.raises(Killed):
        train(recipe, tmp_path / "killed", on_progress=kill_at(6))
    train(recipe, tmp_path / "killed", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_made_defects_need_what_they_are_made_of(
    short: Recipe, own_data: Path, tmp_path: Path
) -> None:
    shutil.rmtree(own_data / "plate" / "train" / "spot")
    own = short.with_overrides([f"data.root={own_data}", "synthesis.share=0.5"])
    with pytest.raises(
        DatasetError, match=r"'plate': .*paste, the only one of synthesis\.generators"
    ):
        train(own.with_overrides(["synthesis.generators={paste: 1}"]), tmp_path / "run")
    with pytest.raises(DatasetError, match=r"synthesis\.textures /gone: expected self, noise or a"):
        train(own.with_overrides(["synthesis.textures=/gone"]), tmp_path / "other")


def test_a_category_without_good_images(short: Recipe, own_data: Path, tmp_path: Path) -> None:
    shutil.rmtree(own_data / "plate" / "train" / "good")
    with pytest.raises(DatasetError, match=r"'plate': expected good images in training"):
        train(short.with_overrides([f"data.root={own_data}"]), tmp_path / "run")


def test_a_defect_without_a_mask(short: Recipe, own_data: Path, tmp_path: Path) -> None:
    (own_data / "plate/ground_truth/spot/train_spot_0_mask.png").unlink()
    text = r"expected a mask for every defect image, 1 have none: train/spot/train_spot_0.png"
    with pytest.raises(MaskError, match=text):
        train(short.with_overrides([f"data.root={own_data}"]), tmp_path / "run")


def test_a_mask_of_another_size(
    short: Recipe, own_data: Path, tmp_path: Path, write_png: Callable[..., None]
) -> None:
    for mask in (own_data / "plate/ground_truth/spot").glob("train*.png"):
        write_png(np.full((10, 10), 255, np.uint8), mask)
    with pytest.raises(MaskError, match=r"_mask.png: expected .*48.*40.*10"):
        train(short.with_overrides([f"data.root={own_data}"]), tmp_path / "run")


def test_settings_that_this_machine_cannot_do(short: Recipe, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"fp16 needs a GPU: use fp32"):
        train(short.with_overrides(["train.precision=fp16"]), tmp_path / "run")
    if not torch.cuda.is_available():
        with pytest.raises(RecipeError, match=r"accelerator is cuda, but torch sees no GPU"):
            train(short.with_overrides(["train.accelerator=cuda"]), tmp_path / "run")
    with pytest.raises(RecipeError, match=r"data.root is not set: give --data-root"):
        train(short.with_overrides(["data.root=null"]), tmp_path / "run")


# --- several processes


def test_two_processes_write_one_whole_run(
    short: Recipe, tmp_path: Path, single_thread: dict[str, str]
) -> None:
    recipe = short.with_overrides(["train.devices=2", "train.steps=3", "train.validate_every=2"])
    recipe.save(tmp_path / "two.yaml")
    command = [sys.executable, "-m", "anomaly_u2net", "train", str(tmp_path / "two.yaml")]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "run"), "--json", "--max-minutes", "60"],
        env=single_thread, timeout=240, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 3
    assert [path for path in RUN_FILES if not (tmp_path / "run" / path).is_file()] == []
    assert [row["step"] for row in rows(tmp_path / "run")] == ["2", "3"]
    assert files(tmp_path / "run" / "samples") == ["step_000002.png", "step_000003.png"]


# --- does it learn from the masks?


@pytest.mark.usefixtures("quick_export")
def test_the_masks_decide_what_is_learnt(tmp_path: Path) -> None:
    """The same images with masks that lie half an image off teach something else."""
    right = write_demo(tmp_path / "right")
    wrong = Path(shutil.copytree(right, tmp_path / "wrong"))
    for path in (wrong / "brick" / "ground_truth").glob("*/train_*_mask.png"):
        mask = np.asarray(Pillow.open(path))
        height, width = mask.shape
        Pillow.fromarray(np.roll(mask, (height // 2, width // 2), axis=(0, 1))).save(path)
    auroc, ap = {}, {}
    for root in (right, wrong):
        recipe = Recipe.from_dict(
            {
                "name": root.name,
                "data": {"root": str(root), "categories": ["brick"]},
                "model": {"arch": "small", "width": 8, "depth": 3},
                "input": {"size": 64},
                "train": {
                    "steps": 90,
                    "validate_every": 90,
                    "lr": 0.01,
                    "ema": 0.95,
                    "accelerator": "cpu",
                    "sheet_every": 0,
                },
            }
        )
        folder = train(recipe, tmp_path / f"run_{root.name}").folder
        records = run_records(folder, "test", data_root=right)  # judged by the right masks
        measured = evaluate(Segmenter.load(folder, backend="torch", threads=1), records)
        auroc[root.name] = measured.mean["pixel_auroc"]
        ap[root.name] = measured.mean["pixel_ap"]
    assert auroc["right"] >= 0.95
    assert auroc["wrong"] < auroc["right"]
    assert ap["right"] >= 0.5
    assert ap["wrong"] < ap["right"] / 2
