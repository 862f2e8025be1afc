"""The cells of a grid: which there are, what they are called, what is refused."""

from __future__ import annotations

import pytest

from anomaly_u2net.benchmark import cells
from anomaly_u2net.errors import InputError, RecipeError
from anomaly_u2net.recipe import Recipe

RECIPE = Recipe.from_dict({"name": "mine", "seed": 7})


def test_the_cells_are_every_combination_one_seed_after_the_other() -> None:
    vary = {"model.arch": ["u2netp", "smp/unet-resnet18"], "train.lr": [0.001, 0.01]}
    grid = cells(RECIPE, vary=vary, seeds=[0, 3])
    assert [cell.name for cell in grid[:4]] == [
        "u2netp, train.lr=0.001, seed 0",
        "u2netp, train.lr=0.01, seed 0",
        "smp/unet-resnet18, train.lr=0.001, seed 0",
        "smp/unet-resnet18, train.lr=0.01, seed 0",
    ]
    assert [cell.seed for cell in grid] == [0] * 4 + [3] * 4
    assert [(c.recipe.model.arch, c.recipe.train.lr) for c in grid[4:]] == [
        (arch, lr) for arch in vary["model.arch"] for lr in vary["train.lr"]
    ]
    assert grid[7].folder == "smp-unet-resnet18-train.lr=0.01-seed3"


def test_a_cell_differs_from_the_recipe_in_nothing_else() -> None:
    (cell,) = cells(RECIPE, vary={"model.arch": ["u2net"]})
    assert cell.recipe == RECIPE.with_overrides(["model.arch=u2net"])
    assert (cell.seed, cell.folder) == (7, "u2net-seed7")


def test_values_of_every_kind() -> None:
    vary = {
        "loss.pixel": ["bce+dice"],
        "input.size": [[64, 96]],
        "train.clip": [None],
        "train.lr": [1e-5],
    }
    (cell,) = cells(RECIPE, vary=vary)
    recipe = cell.recipe
    assert (recipe.loss.pixel, recipe.input.size) == ("bce+dice", (64, 96))
    assert (recipe.train.clip, recipe.train.lr) == (None, 1e-5)
    assert (
        cell.design == "loss.pixel=bce+dice, input.size=[64, 96], train.clip=null, train.lr=1e-05"
    )
    assert (
        cell.folder == "loss.pixel=bce+dice-input.size=-64-96-train.clip=null-train.lr=1e-05-seed7"
    )


def test_whole_networks_one_with_weights_and_one_without() -> None:
    models = [{"arch": "u2net_fast", "init": "/w/u2netp.onnx"}, {"arch": "unet", "width": 8}]
    grid = cells(RECIPE, vary={"model": models, "train.lr": [0.1]})
    assert [cell.design for cell in grid] == [
        "u2net_fast, init=u2netp.onnx, train.lr=0.1",
        "unet, width=8, train.lr=0.1",
    ]
    assert [cell.recipe.model.init for cell in grid] == ["/w/u2netp.onnx", None]
    with pytest.raises(InputError, match="cells that differ"):  # one name for two folders
        cells(RECIPE, vary={"model": [models[0], {**models[0], "init": "/v/u2netp.onnx"}]})
    with pytest.raises(RecipeError, match="stem does not belong to arch unet"):
        cells(RECIPE, vary={"model": [{"arch": "unet", "stem": "unshuffle2"}]})


def test_seeds_alone_are_cells_too() -> None:
    names = [cell.name for cell in cells(RECIPE, vary={}, seeds=[0, 1])]
    assert names == ["u2netp, seed 0", "u2netp, seed 1"]


@pytest.mark.parametrize(
    ("vary", "seeds", "text"),
    [
        ({"model.arch": ["u2netp", "u3net"]}, None, "cell u3net: .*unknown architecture 'u3net'"),
        ({"loss.pixl": ["bce"]}, None, r"unknown key 'loss.pixl' \(did you mean 'pixel'\?\)"),
        ({"train.lr": [0.1, -1]}, None, "cell train.lr=-1: .*greater than 0"),
        ({"model.arch": ["small", "u2netp"], "model.width": [8]}, None, "width does not belong to"),
    ],
)
def test_what_is_no_recipe_is_refused_before_anything_is_done(
    vary: dict, seeds: list[int] | None, text: str
) -> None:
    with pytest.raises(RecipeError, match=text):
        cells(RECIPE, vary=vary, seeds=seeds)


@pytest.mark.parametrize(
    ("vary", "seeds", "text"),
    [
        ({"model.arch": []}, None, "at least one value of model.arch, got none"),
        ({"seed": [1, 2]}, None, r"the key seed is varied by seeds \(--seed 0 --seed 1\)"),
        ({"model.arch": ["u2net", "u2net"]}, None, "u2net, seed 7 and u2net, seed 7 for the one"),
        (
            {"train.lr": ["1e-3", 0.001]},
            None,
            "train.lr=0.001, seed 7 for the one recipe [0-9a-f]{12}",
        ),
        ({}, [1, 1], "name each value and each seed once"),
        ({}, [], "at least one seed, got none"),
    ],
)
def test_what_is_no_grid_is_refused(vary: dict, seeds: list[int] | None, text: str) -> None:
    with pytest.raises(InputError, match=text):
        cells(RECIPE, vary=vary, seeds=seeds)
