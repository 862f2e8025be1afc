"""A grid of two tiny networks, trained for real on data whose test images nobody can read."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from anomaly_u2net.benchmark import DesignTable, compare_designs
from anomaly_u2net.recipe import Recipe

VARY = {"model.arch": ["small", "unet"]}


@dataclass(frozen=True)
class Grid:
    """What was asked for, where it lies, and what came of it."""

    recipe: Recipe
    out: Path
    table: DesignTable


@pytest.fixture(scope="session")
def unreadable_test(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny data set with a test split that raises an error when it is read."""
    root = Path(shutil.copytree(tiny_data, tmp_path_factory.mktemp("unreadable") / "data"))
    spoilt = [*root.glob("*/test/*/*.png"), *root.glob("*/ground_truth/*/test_*.png")]
    assert len(spoilt) == 2 * (3 + 3 + 3)
    for number, path in enumerate(spoilt):
        path.write_bytes(b"no image %d" % number)
    return root


@pytest.fixture(scope="session")
def grid(
    tiny_recipe: Recipe, unreadable_test: Path, tmp_path_factory: pytest.TempPathFactory
) -> Grid:
    """Two designs after two steps each; not to be changed (see ``own_grid``)."""
    import torch

    torch.set_num_threads(1)
    recipe = tiny_recipe.with_overrides(
        [
            f"data.root={unreadable_test}",
            "data.validation_fraction=0.8",  # enough images for intervals
            "data.calibration_fraction=0",
            "train.steps=2",
            "train.validate_every=1",
            "train.warmup=0",
        ]
    )
    out = tmp_path_factory.mktemp("grid") / "out"
    made = Grid(recipe, out, compare_designs(recipe, vary=VARY, out=out))
    assert [row.error for row in made.table.rows] == [None, None]
    return made


@pytest.fixture
def own_grid(grid: Grid, tmp_path: Path) -> Path:
    """A copy of the grid's folder that a test may spoil."""
    return Path(shutil.copytree(grid.out, tmp_path / "own_grid"))
