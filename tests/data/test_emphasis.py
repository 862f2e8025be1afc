from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_u2net.data.emphasis import emphasis
from anomaly_u2net.errors import RecipeError
from anomaly_u2net.recipe import LossRecipe, Recipe


def masks_with(*boxes: tuple[int, int, int]) -> np.ndarray:
    """A 64 × 64 mask with squares, each (top, left, side)."""
    mask = np.zeros((64, 64), bool)
    for top, left, side in boxes:
        mask[top : top + side, left : left + side] = True
    return mask


def test_small_regions_count_more_each_by_its_own_area() -> None:
    mask = masks_with((0, 0, 2), (10, 10, 16), (30, 30, 33))
    weight = emphasis(mask, recipe=LossRecipe(small_regions=0.5))
    assert weight.dtype == np.float32
    assert weight[0, 0] == 10.0  # √(1024 / 4) is 16: capped
    assert weight[12, 12] == 2.0  # √(1024 / 256)
    assert weight[40, 40] == 1.0  # 1089 pixels are not small
    assert (weight[~mask] == 1.0).all()


def test_with_an_exponent_of_one_small_regions_weigh_the_same() -> None:
    mask = masks_with((0, 0, 16), (30, 30, 24))
    weight = emphasis(mask, recipe=LossRecipe(small_regions=1.0))
    assert weight[:20][mask[:20]].sum() == pytest.approx(weight[30:][mask[30:]].sum(), rel=1e-5)


def test_the_band_lies_on_both_sides_of_the_edge() -> None:
    recipe = LossRecipe(edge_band=2, edge_weight=0.5)
    row = emphasis(masks_with((20, 20, 11)), recipe=recipe)[25]
    assert row[16:24].tolist() == [1, 1, 0.5, 0.5, 0.5, 0.5, 1, 1]
    assert row[27:35].tolist() == [1, 1, 0.5, 0.5, 0.5, 0.5, 1, 1]


def test_a_region_that_is_all_edge_keeps_its_own_pixels() -> None:
    mask = masks_with((20, 20, 3), (40, 40, 12))
    weight = emphasis(mask, recipe=LossRecipe(edge_band=2, edge_weight=0.0))
    assert (weight[20:23, 20:23] == 1.0).all()
    assert (weight[18:20, 21] == 0.0).all()
    assert weight[40, 45] == 0.0


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 3))
def test_good_pixels_never_count_more_and_none_less_than_asked(
    seed: int, power: float, band: int
) -> None:
    mask = np.random.default_rng(seed).random((24, 24)) < 0.1
    recipe = LossRecipe(small_regions=power, edge_band=band, edge_weight=0.25)
    weight = emphasis(mask, recipe=recipe)
    assert weight.shape == mask.shape
    assert set(np.unique(weight[~mask])) <= {np.float32(0.25), np.float32(1.0)}
    assert weight[mask].max(initial=1.0) <= 10.0
    assert weight[mask].min(initial=1.0) >= 0.25


@pytest.mark.parametrize("recipe", [LossRecipe(), LossRecipe(small_regions=1.0, edge_band=5)])
def test_a_good_image_counts_evenly(recipe: LossRecipe) -> None:
    assert (emphasis(np.zeros((5, 7), bool), recipe=recipe) == 1.0).all()


def test_by_default_every_pixel_counts_the_same() -> None:
    assert (emphasis(masks_with((3, 3, 2)), recipe=LossRecipe()) == 1.0).all()


def test_an_exponent_above_one_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"loss\.small_regions: .*less than or equal to 1"):
        Recipe.from_dict({"name": "a", "loss": {"small_regions": 1.5}})
