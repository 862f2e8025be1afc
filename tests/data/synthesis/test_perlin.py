from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_u2net.data.synthesis.perlin import perlin_mask, perlin_noise
from anomaly_u2net.recipe import PerlinRecipe


def by_pixel(shape: tuple[int, int], cells: tuple[int, int], angles: np.ndarray) -> np.ndarray:
    """Perlin's noise as its definition says it: pixel by pixel, corner by corner."""
    noise = np.zeros(shape)
    for y in range(shape[0]):
        for x in range(shape[1]):
            v, u = y * cells[0] / shape[0], x * cells[1] / shape[1]
            row, column = int(v), int(u)
            corners = {}
            for down in (0, 1):
                for right in (0, 1):
                    angle = angles[row + down, column + right]
                    way = (v - row - down, u - column - right)
                    corners[down, right] = np.cos(angle) * way[1] + np.sin(angle) * way[0]
            fade_v, fade_u = (6 * t**5 - 15 * t**4 + 10 * t**3 for t in (v - row, u - column))
            top = corners[0, 0] + fade_u * (corners[0, 1] - corners[0, 0])
            bottom = corners[1, 0] + fade_u * (corners[1, 1] - corners[1, 0])
            noise[y, x] = np.sqrt(2) * (top + fade_v * (bottom - top))
    return noise


@pytest.mark.parametrize(
    ("shape", "cells"),
    [((16, 16), (2, 2)), ((12, 20), (4, 1)), ((9, 14), (2, 4)), ((8, 8), (8, 8))],
)
def test_two_products_of_matrices_are_the_noise_of_the_definition(
    shape: tuple[int, int], cells: tuple[int, int]
) -> None:
    noise = perlin_noise(shape, cells=cells, rng=np.random.default_rng(5))
    angles = np.random.default_rng(5).uniform(0, 2 * np.pi, (cells[0] + 1, cells[1] + 1))
    np.testing.assert_allclose(noise, by_pixel(shape, cells, angles), atol=2e-6)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32), st.integers(1, 90), st.integers(1, 90))
def test_noise_lies_in_its_range_and_is_zero_at_the_corners_of_cells(
    seed: int, height: int, width: int
) -> None:
    noise = perlin_noise((height, width), cells=(4, 8), rng=np.random.default_rng(seed))
    assert np.abs(noise).max() <= 1 + 1e-6
    assert noise[0, 0] == pytest.approx(0, abs=1e-6)


def test_masks_are_of_all_sizes_never_full_and_decided_by_the_generator() -> None:
    masks = [perlin_mask((96, 128), np.random.default_rng(seed)) for seed in range(120)]
    shares = np.array([mask.mean() for mask in masks])
    assert masks[0].shape == (96, 128)
    assert shares.max() < 0.5
    assert 0.01 < np.median(shares) < 0.15
    again = perlin_mask((96, 128), np.random.default_rng(7))
    np.testing.assert_array_equal(masks[7], again)
    assert not np.array_equal(masks[7], masks[8])


def test_cells_are_all_powers_of_two_up_to_the_published_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from anomaly_u2net.data.synthesis import perlin

    seen: set[int] = set()

    def spy(shape: tuple[int, int], *, cells: tuple[int, int], rng: np.random.Generator):
        seen.update(cells)
        return np.zeros(shape, np.float32)

    monkeypatch.setattr(perlin, "perlin_noise", spy)
    for seed in range(60):
        perlin.perlin_mask((32, 32), np.random.default_rng(seed))
    assert seen == {1, 2, 4, 8, 16, 32}
    seen.clear()
    for seed in range(30):
        perlin.perlin_mask((32, 32), np.random.default_rng(seed), recipe=PerlinRecipe(scale=(3, 4)))
    assert seen == {8, 16}


def test_a_higher_threshold_leaves_less_of_the_same_shapes() -> None:
    for seed in range(10):
        low, high = (
            perlin_mask(
                (64, 64), np.random.default_rng(seed), recipe=PerlinRecipe(threshold=threshold)
            )
            for threshold in (0.3, 0.6)
        )
        assert not (high & ~low).any()
        assert low.sum() > high.sum()
