from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from anomaly_u2net.errors import InputError, MapError, RecipeError
from anomaly_u2net.metrics import (
    IMAGE_SCORES,
    area_above,
    image_score,
    inside,
    max_score,
    topk_mean,
)
from anomaly_u2net.recipe import Recipe


def test_the_scores_one_can_name() -> None:
    assert list(IMAGE_SCORES) == ["max", "topk_mean"]
    score_map = np.zeros((100, 100), np.float32)
    score_map[0, :5], score_map[0, 5:10] = 1.0, 0.5
    assert IMAGE_SCORES["max"](score_map) == 1.0
    assert IMAGE_SCORES["topk_mean"](score_map) == 0.75  # one in a thousand: the 10 highest


@pytest.mark.parametrize("fraction", [1e-9, 0.004, 0.33, 1.0])
def test_topk_mean_is_the_mean_of_the_k_highest(fraction: float) -> None:
    score_map = np.random.default_rng(0).random((13, 21)).astype(np.float32)
    k = max(1, int(np.ceil(fraction * score_map.size)))
    expected = np.sort(score_map.ravel().astype(np.float64))[::-1][:k].mean()
    assert topk_mean(score_map, fraction=fraction) == pytest.approx(expected, rel=1e-12)


def test_one_pixel() -> None:
    assert max_score(np.array([[0.25]])) == topk_mean(np.array([[0.25]])) == 0.25


def test_area_above() -> None:
    score_map = np.array([[0.9, 0.5], [0.7, 0.1]], np.float32)
    assert area_above(score_map, threshold=0.5) == 0.5  # at the threshold is not above it
    assert area_above(score_map, threshold=2.0) == 0.0
    assert image_score("area_above:0.5")(score_map) == 0.5
    assert image_score("area_above:0.05")(score_map) == 1.0
    with pytest.raises(InputError, match="threshold is NaN"):
        area_above(score_map, threshold=float("nan"))


def test_image_scores_by_name() -> None:
    assert image_score("max") is max_score
    assert image_score("topk_mean") is topk_mean
    with pytest.raises(InputError, match="one of max, topk_mean, area_above:LEVEL, got 'median'"):
        image_score("median")
    for name in ("area_above", "area_above:", "area_above:half", "area_above:0", "area_above:1"):
        with pytest.raises(InputError, match=f"level between 0 and 1, .* got '{name}'"):
            image_score(name)
    with pytest.raises(InputError, match=r"one of max, .* got 'max:0\.5'"):
        image_score("max:0.5")


def test_the_edge_of_an_image_can_be_left_out() -> None:
    score_map = np.zeros((7, 9), np.float32)
    score_map[0, 4] = score_map[6, 8] = score_map[3, 1] = 1.0
    score_map[2, 2], score_map[4, 6] = 0.25, 0.75
    assert image_score("max inside 1")(score_map) == 1.0  # (3, 1) is in the second column
    assert image_score("max inside 2")(score_map) == 0.75  # what is left is rows 2-4, columns 2-6
    assert image_score("topk_mean inside 2")(score_map) == 0.75
    assert image_score("area_above:0.5 inside 2")(score_map) == 1 / 15
    for margin in ("0", "-1", "1.5", "two", "", "1 inside 1"):
        with pytest.raises(
            InputError, match=f"margin in whole pixels, .* got 'max inside {margin}'"
        ):
            image_score(f"max inside {margin}")
    with pytest.raises(InputError, match=r"one of max, .* got 'median'"):
        image_score("median inside 2")
    with pytest.raises(
        MapError, match=r"twice the margin of 3 .* 6×9 pixels: set a smaller margin"
    ):
        image_score("max inside 3")(np.zeros((6, 9)))
    assert image_score("max inside 3")(score_map) == 0.0  # one row, three columns
    with pytest.raises(InputError, match="margin of 1 pixel or more, got 0"):
        inside(score_map, margin=0)


RULES = ["max", "topk_mean", "area_above:0.5", "area_above:.05"]


@pytest.mark.parametrize("name", [*RULES, *(f"{rule} inside 12" for rule in RULES)])
def test_what_a_recipe_may_name(name: str) -> None:
    recipe = Recipe.from_dict({"name": "mine", "score": {"image_score": name}})
    assert image_score(recipe.score.image_score)(np.full((25, 25), 0.75)) in (0.75, 1.0)


@pytest.mark.parametrize("name", ["max inside 0", "max inside", "max inside 1.5", "inside 3"])
def test_a_recipe_refuses_other_margins(name: str) -> None:
    with pytest.raises(RecipeError, match=f"as max inside 12, got '{name}'"):
        Recipe.from_dict({"name": "mine", "score": {"image_score": name}})


def test_bad_input() -> None:
    for score in IMAGE_SCORES.values():
        with pytest.raises(MapError, match="1 of 4 pixels are NaN or infinite"):
            score(np.array([[0.0, np.nan], [0.0, 0.0]]))
        with pytest.raises(MapError, match=r"shape \(0, 4\)"):
            score(np.zeros((0, 4)))
    for fraction in (0.0, 1.5, float("nan")):
        with pytest.raises(InputError, match=r"fraction of the pixels in \(0, 1\]"):
            topk_mean(np.zeros((2, 2)), fraction=fraction)


def test_the_metrics_load_no_torch() -> None:
    code = (
        "import sys, anomaly_u2net.metrics; "
        "print(sorted({'torch', 'scipy', 'sklearn', 'skimage'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
