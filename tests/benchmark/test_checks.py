"""Faults that need no training are found before the first one; what is finished needs nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from anomaly_u2net.benchmark import cells, checks, compare_designs, run
from anomaly_u2net.benchmark.checks import check_cells, weights_where_they_fit
from anomaly_u2net.errors import InputError
from anomaly_u2net.models import build_model, save_weights
from anomaly_u2net.recipe import ModelRecipe

VARY = {"model.arch": ["small", "unet"]}


@pytest.fixture(autouse=True)
def _no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def begun(*_: Any, **__: Any) -> None:
        raise AssertionError("a training was begun")

    monkeypatch.setattr(run, "train", begun)


@pytest.mark.parametrize(
    ("changes", "minutes", "text"),
    [
        (["data.root=null"], None, "^data.root is not set: give --data-root"),
        (["data.root=/nowhere/at/all"], None, "^/nowhere/at/all: expected a data-set folder"),
        (["model.init=missing.onnx"], None, "^missing.onnx: no such weights file"),
        (["train.precision=fp16"], None, "^train.precision fp16 needs a GPU"),
        ([], 0.0, "^max_minutes must be positive, got 0.0"),
        (
            ["data.validation_fraction=0"],
            None,
            "^expected validation images with defects in every category, .* none of plate, sheet "
            "with data.validation_fraction 0.0: raise it",
        ),
    ],
)
def test_a_fault_of_all_cells_is_said_once(
    grid: Any, tmp_path: Path, changes: list[str], minutes: float | None, text: str
) -> None:
    recipe = grid.recipe.with_overrides(changes)
    with pytest.raises(InputError, match=text) as found:
        compare_designs(recipe, vary=VARY, out=tmp_path / "out", max_minutes=minutes)
    assert "cell " not in str(found.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("vary", "text"),
    [
        (
            {"model.arch": ["small", "smp/nothing-at-all"], "model.width": [None]},
            "^cell smp/nothing-at-all, model.width=null, seed 0: unknown model.arch 'smp/nothing-at",
        ),
        (
            {"model.init": [None, "missing.onnx"]},
            "^cell model.init=missing.onnx, seed 0: missing.onnx: no such weights file",
        ),
        (
            {"data.validation_fraction": [0.8, 0.0, 0.01]},
            "^cell data.validation_fraction=0.0, seed 0: expected validation images .* 0.0: raise "
            "it; cell data.validation_fraction=0.01, seed 0: ",
        ),
    ],
)
def test_a_fault_of_one_cell_names_it(
    grid: Any, tmp_path: Path, vary: dict[str, list[Any]], text: str
) -> None:
    recipe = grid.recipe.with_overrides(["model.depth=null"])
    with pytest.raises(InputError, match=text):
        compare_designs(recipe, vary=vary, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def small_weights(grid: Any, tmp_path: Path) -> str:
    save_weights(build_model(grid.recipe.model), tmp_path / "small.safetensors")
    return str(tmp_path / "small.safetensors")


def test_the_recipes_weights_go_where_they_fit(
    grid: Any, small_weights: str, tmp_path: Path
) -> None:
    recipe = grid.recipe.with_overrides([f"model.init={small_weights}"])
    before = cells(recipe, vary=VARY)
    small, unet = weights_where_they_fit(before, tmp_path)
    assert (small.name, small.recipe.model.init) == ("small, seed 0", small_weights)
    assert (unet.name, unet.recipe.model.init) == ("unet, from scratch, seed 0", None)
    assert unet.folder == "unet-from-scratch-seed0"
    shutil.copytree(grid.out / "unet-seed0", tmp_path / unet.folder)
    Path(small_weights).unlink()
    assert weights_where_they_fit(before, tmp_path) == (small, unet)  # it has finished so
    without = cells(grid.recipe, vary=VARY)
    assert weights_where_they_fit(without, tmp_path) == without


def test_weights_of_another_kind_leave_a_peer_alone(
    grid: Any, small_weights: str, tmp_path: Path
) -> None:
    pytest.importorskip("segmentation_models_pytorch", reason="extra smp is not installed")
    changes = [f"model.init={small_weights}", "model.width=null", "model.depth=null"]
    save_weights(build_model(ModelRecipe(arch="small")), Path(small_weights))
    recipe = grid.recipe.with_overrides(changes)
    vary = {"model.arch": ["small", "smp/unet-resnet18"]}
    names = [cell.design for cell in weights_where_they_fit(cells(recipe, vary=vary), tmp_path)]
    assert names == ["small", "smp/unet-resnet18, from scratch"]


def test_weights_that_fit_no_design(grid: Any, small_weights: str, tmp_path: Path) -> None:
    recipe = grid.recipe.with_overrides([f"model.init={small_weights}"])
    with pytest.raises(InputError, match=r"^cell unet, seed 0: .*small.safetensors: does not fit"):
        compare_designs(recipe, vary={"model.arch": ["unet", "hed"]}, out=tmp_path / "out")


def test_weights_that_a_design_names_have_to_fit(
    grid: Any, small_weights: str, tmp_path: Path
) -> None:
    own = grid.recipe.model.model_dump(exclude_defaults=True) | {"init": small_weights}
    vary = {"model": [own, own | {"arch": "unet"}]}
    with pytest.raises(InputError, match=r"^cell unet, .*, seed 0: .*small.safetensors: does not"):
        compare_designs(grid.recipe, vary=vary, out=tmp_path / "out")


def test_a_folder_that_is_no_run(grid: Any, tmp_path: Path) -> None:
    (tmp_path / "unet-seed0").mkdir()
    (tmp_path / "unet-seed0" / "letter.txt").write_text("mine")
    text = r"^cell unet, seed 0: .*unet-seed0 exists and is not a run: expected a new or empty"
    with pytest.raises(InputError, match=text):
        compare_designs(grid.recipe, vary=VARY, out=tmp_path)


def test_each_network_is_built_once(
    grid: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []
    monkeypatch.setattr(checks, "build_model", built.append)
    grid_cells = cells(grid.recipe, vary=VARY | {"train.lr": [0.1, 0.2]}, seeds=[0, 1])
    check_cells(grid_cells, tmp_path, max_minutes=None)
    assert [model.arch for model in built] == ["small", "unet"]


def test_finished_cells_need_nothing_but_their_folder(
    grid: Any, own_grid: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Any) -> None:
        raise InputError("not here")

    for name in ("check_settings", "split_data", "build_model"):
        monkeypatch.setattr(checks, name, missing)
    both = cells(grid.recipe, vary=VARY)
    check_cells(both, own_grid, max_minutes=None)
    shutil.rmtree(own_grid / "unet-seed0")
    with pytest.raises(InputError, match="not here"):
        check_cells(both, own_grid, max_minutes=None)
