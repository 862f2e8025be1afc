from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_u2net.calibration import mean_sigma, pixel_false_share, pixel_mean_sigma
from anomaly_u2net.errors import CalibrationError, InputError, MapError


def brute_force(maps: list[np.ndarray], alpha: float) -> float:
    """The lowest pixel value at which the corrected mean share is small enough."""
    for value in np.unique(np.concatenate([plane.ravel() for plane in maps])):
        if (sum(np.mean(plane > value) for plane in maps) + 1) / (len(maps) + 1) <= alpha + 1e-9:
            return float(value)
    raise AssertionError("the highest pixel always does")


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    number=st.integers(3, 9),
    alpha=st.floats(0.26, 0.9),
    kind=st.sampled_from(["float32", "float64", "ties", "negative"]),
)
def test_it_is_the_definition(seed: int, number: int, alpha: float, kind: str) -> None:
    random = np.random.default_rng(seed)
    maps = [random.normal(size=(3 + i % 3, 4)) for i in range(number)]
    if kind == "ties":
        maps = [np.round(plane) for plane in maps]
    if kind == "negative":
        maps = [plane - 100 for plane in maps]
    if kind != "float64":
        maps = [plane.astype(np.float32) for plane in maps]
    assert pixel_false_share(maps, alpha=alpha) == brute_force(maps, alpha)


def test_known_by_hand() -> None:
    plane = np.arange(100, dtype=np.float32).reshape(10, 10) / 100
    # Σ shares may be 20 · 0.06 − 1 = 0.2 over 19 images: one pixel in each, as 19 · 0.01 ≤ 0.2.
    assert pixel_false_share([plane] * 19, alpha=0.06) == float(np.float32(0.98))
    assert pixel_false_share([plane] * 19, alpha=0.05) == float(np.float32(0.99))
    assert pixel_false_share([np.zeros((2, 2), np.float32)] * 19, alpha=0.05) == 0.0


def test_groups_share_one_part() -> None:
    calm, busy = np.zeros((1, 2)), np.array([[0.5, 1.0]])
    maps, parts = [calm, busy, busy, calm], ["a", "a", "b", "b"]
    # Each part's mean share is ¼ at 0.5 and ½ below; the sum may be 3 · alpha − 1.
    assert pixel_false_share(maps, alpha=0.5, groups=parts) == 0.5
    assert pixel_false_share(maps, alpha=0.49, groups=parts) == 1.0


def test_the_share_holds_over_redraws() -> None:
    random = np.random.default_rng(5)
    level = random.exponential(size=(300, 20, 1, 1))  # some images are far busier than others
    maps = (level * random.random((300, 20, 4, 4))).astype(np.float32)
    shares = [np.mean(row[19] > pixel_false_share(row[:19], alpha=0.1)) for row in maps]
    assert np.mean(shares) <= 0.1 + 3 * np.std(shares) / np.sqrt(300)


def test_bad_inputs() -> None:
    plane = np.zeros((2, 2), np.float32)
    with pytest.raises(CalibrationError, match=r"rate of 0.01 needs at least 99 .* got 3"):
        pixel_false_share([plane] * 3, alpha=0.01)
    with pytest.raises(CalibrationError, match="got 0"):
        pixel_false_share([], alpha=0.01)
    with pytest.raises(MapError, match="map 1: 4 of 4 pixels are NaN"):
        pixel_false_share([plane, plane * np.nan], alpha=0.5)


def test_mean_sigma() -> None:
    random = np.random.default_rng(0)
    maps = [random.random((3, 4)).astype(np.float32), random.random((5, 2)).astype(np.float32)]
    pixels = np.concatenate([plane.ravel() for plane in maps]).astype(np.float64)
    assert pixel_mean_sigma(maps) == pytest.approx(pixels.mean() + 3 * pixels.std(), rel=1e-6)
    assert mean_sigma(pixels, sigmas=2) == pytest.approx(pixels.mean() + 2 * pixels.std())
    with pytest.raises(CalibrationError, match="needs good scores"):
        mean_sigma([])
    with pytest.raises(CalibrationError, match="needs good maps"):
        pixel_mean_sigma([])
    with pytest.raises(InputError, match="finite number of standard deviations"):
        mean_sigma([1, 2], sigmas=np.inf)
