"""A grid from the recipe to the table: complete, resumed, failed; on validation images only."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from anomaly_u2net.benchmark import compare_designs, run
from anomaly_u2net.benchmark.measure import DIFFERENCES, NUMBERS
from anomaly_u2net.benchmark.table import COLUMNS
from anomaly_u2net.errors import ImageError, InputError, RecipeError
from anomaly_u2net.evaluation.runs import run_records
from anomaly_u2net.files import sha256_file
from anomaly_u2net.inference.segmenter import Segmenter
from anomaly_u2net.models import build_model
from anomaly_u2net.training import run as training

VARY = {"model.arch": ["small", "unet"]}
SMALL, UNET = "small-seed0", "unet-seed0"


class Killed(BaseException):
    """Stands for a kill: nothing in the package catches it."""


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def copied_export(grid: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Take the ONNX of a cell of the grid instead of exporting, which takes longer than to train."""

    def take(cell: str) -> None:
        exported = (grid.out / cell / "model.onnx").read_bytes()
        monkeypatch.setattr(training, "export_onnx", lambda _, path: path.write_bytes(exported))

    return take


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """The trainings that are begun: (folder, resumed)."""
    begun: list[tuple[str, bool]] = []
    train = run.train

    def spy(recipe: Any, out: Path, *, resume: bool, **options: Any) -> Any:
        begun.append((out.name, resume))
        return train(recipe, out, resume=resume, **options)

    monkeypatch.setattr(run, "train", spy)
    return begun


def test_a_grid_ends_in_a_row_per_cell(grid: Any) -> None:
    first, second = grid.table.rows
    assert [row.cell.design for row in grid.table.rows] == ["small", "unet"]
    assert [row.error for row in grid.table.rows] == [None, None]
    assert grid.table.images == 2 * (8 + 5)
    assert (grid.table.recipe_hash, grid.table.first) == (grid.recipe.digest, "small")
    undefined = {name for name in COLUMNS if first.numbers[name] is None}
    assert undefined == {f"{name}_difference" for name in DIFFERENCES}
    assert all(second.numbers[name] is not None for name in COLUMNS)


def test_numbers_are_those_of_evaluate_on_the_validation_part(grid: Any) -> None:
    for row in grid.table.rows:
        path = grid.out / row.cell.folder / "evaluation" / "validation" / "evaluation.json"
        saved = json.loads(path.read_text())
        assert saved["split"] == "validation"
        for name in NUMBERS:
            assert row.numbers[name].to_dict() == saved["mean"][name]
            assert row.numbers[name].low <= row.numbers[name].value <= row.numbers[name].high
        miou = row.numbers["pixel_miou"]
        assert miou.to_dict() == saved["mean_miou"]
        assert miou.low <= miou.value <= miou.high


def test_differences_are_to_the_first_design(grid: Any) -> None:
    first, second = (row.numbers for row in grid.table.rows)
    for name in DIFFERENCES:
        difference = second[f"{name}_difference"]
        assert difference.value == pytest.approx(second[name].value - first[name].value)
        assert difference.low <= difference.value <= difference.high


def test_costs(grid: Any) -> None:
    for row in grid.table.rows:
        network = build_model(row.cell.recipe.model)
        parameters = sum(p.numel() for p in network.parameters() if p.requires_grad)
        assert row.numbers["parameters"].value == parameters
        assert row.numbers["steps"].value == 2
        assert row.numbers["gmac"].value > 0
        assert row.numbers["milliseconds"].value > 0
        last = json.loads((grid.out / row.cell.folder / "checkpoints/last.json").read_text())
        assert row.numbers["minutes"].value == last["seconds"] / 60


def test_the_test_images_of_the_grid_cannot_be_read(grid: Any) -> None:
    """So that the grid was made proves that it read none."""
    records = run_records(grid.out / SMALL, "test")
    assert len(records) == 2 * (3 + 3)
    segmenter = Segmenter.load(grid.out / SMALL)
    for record in records:
        with pytest.raises(ImageError):
            segmenter.predict(record.path)


def test_a_second_call_trains_nothing(
    grid: Any, trainings: list[tuple[str, bool]], own_grid: Path
) -> None:
    again = compare_designs(grid.recipe, vary=VARY, out=own_grid)
    assert trainings == []
    for before, after in zip(grid.table.rows, again.rows, strict=True):
        assert after.error is None
        same = set(COLUMNS) - {"milliseconds"}
        assert {n: before.numbers[n] for n in same} == {n: after.numbers[n] for n in same}


def test_a_killed_cell_is_resumed(
    grid: Any,
    trainings: list[tuple[str, bool]],
    copied_export: Callable[[str], None],
    own_grid: Path,
) -> None:
    copied_export(UNET)
    shutil.rmtree(own_grid / UNET)

    def kill(what: str, done: int, total: int) -> None:
        if what == "training unet, seed 0" and done == 2:
            raise Killed

    with pytest.raises(Killed):
        compare_designs(grid.recipe, vary=VARY, out=own_grid, on_work=kill)
    assert not (own_grid / UNET / "model.json").exists()
    table = compare_designs(grid.recipe, vary=VARY, out=own_grid)
    assert trainings == [(UNET, False), (UNET, True)]
    assert [row.error for row in table.rows] == [None, None]
    weights = [sha256_file(out / UNET / "model.safetensors") for out in (grid.out, own_grid)]
    assert weights[0] == weights[1]


def test_a_first_design_that_fails_in_training(
    grid: Any, copied_export: Callable[[str], None], tmp_path: Path
) -> None:
    copied_export(SMALL)
    recipe = grid.recipe.with_overrides(["train.clip=null"])
    failed, done = compare_designs(
        recipe, vary={"train.lr": [1e30, 0.02]}, out=tmp_path / "out"
    ).rows
    assert not failed.finished
    assert set(failed.numbers.values()) == {None}
    assert "the network's output is not finite" in str(failed.error)
    assert done.finished
    assert done.error == "no difference: the first design failed with this seed"
    assert done.numbers["pixel_ap"] is not None
    assert done.numbers["pixel_ap_difference"] is None


def test_a_folder_of_another_recipe_is_left_alone(
    grid: Any, trainings: list[tuple[str, bool]], own_grid: Path
) -> None:
    changed = grid.recipe.with_overrides(["train.lr=0.5"])
    (own_grid / UNET / "model.json").unlink()  # an unfinished one is nobody else's either
    before = {path: path.stat().st_mtime_ns for path in own_grid.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="give another --out, or remove that folder") as found:
        compare_designs(changed, vary=VARY, out=own_grid)
    for folder in (SMALL, UNET):
        assert f"{own_grid / folder} holds a run of another recipe" in str(found.value)
    after = {path: path.stat().st_mtime_ns for path in own_grid.rglob("*") if path.is_file()}
    assert (before, trainings) == (after, [])


def test_other_validation_images_have_no_difference(grid: Any, own_grid: Path) -> None:
    split = own_grid / UNET / "split.csv"
    lines = split.read_text().splitlines(keepends=True)
    lines.remove(next(line for line in lines if ",validation,good," in line))
    split.write_text("".join(lines))
    row = compare_designs(grid.recipe, vary=VARY, out=own_grid).rows[1]
    assert "two models are compared on the same images" in str(row.error)
    assert row.numbers["pixel_ap"] is not None
    assert row.numbers["pixel_ap_difference"] is None


def test_work_is_reported(grid: Any, own_grid: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    compare_designs(grid.recipe, vary=VARY, out=own_grid, on_work=lambda *call: calls.append(call))
    ends = {what: (done, total) for what, done, total in calls}
    done, total = ends.pop("timing")
    assert 5 <= done == total <= 100
    assert ends == {
        "measuring small, seed 0": (26, 26),
        "measuring unet, seed 0": (26, 26),
        "comparing unet, seed 0": (52, 52),
    }


def test_refused_before_anything_is_trained(grid: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to compare: expected two designs or seeds"):
        compare_designs(grid.recipe, vary={"model.arch": ["small"]}, out=tmp_path / "out")
    with pytest.raises(RecipeError, match="unknown architecture 'resunet'"):
        compare_designs(
            grid.recipe, vary={"model.arch": ["small", "resunet"]}, out=tmp_path / "out"
        )
    assert not (tmp_path / "out").exists()
