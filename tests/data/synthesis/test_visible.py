from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_u2net.data.demo import photograph
from anomaly_u2net.data.synthesis.visible import LEAST, roughness, settle
from anomaly_u2net.types import Image, Mask


def flat(gray: int = 100, side: int = 48) -> Image:
    return np.full((side, side, 3), gray, np.uint8)


def square(side: int = 48, low: int = 10, high: int = 30) -> Mask:
    mask = np.zeros((side, side), bool)
    mask[low:high, low:high] = True
    return mask


@pytest.mark.parametrize(
    ("step", "seen"), [(30, True), (-30, True), (9, True), (5, False), (0, False)]
)
def test_a_step_on_a_smooth_part_is_seen_from_eight_gray_levels_on(step: int, seen: bool) -> None:
    image, region = flat(), square()
    changed = np.where(region[..., None], np.uint8(100 + step), image)
    made, mask = settle(image, changed, region)
    np.testing.assert_array_equal(mask, region if seen else np.zeros_like(region))
    np.testing.assert_array_equal(made, changed if seen else image)


def test_what_is_outside_the_region_is_put_back() -> None:
    image, region = flat(), square()
    made, mask = settle(image, flat(200), region)
    np.testing.assert_array_equal(mask, region)
    np.testing.assert_array_equal(made, np.where(region[..., None], np.uint8(200), image))


def test_one_channel_is_enough() -> None:
    image, region = flat(), square()
    changed = image.copy()
    changed[region, 2] += 40
    assert (settle(image, changed, region)[1] == region).all()


def test_a_part_of_the_region_that_did_not_change_is_no_defect() -> None:
    image, region = flat(), square()
    changed = image.copy()
    changed[10:30, 10:18] = 180
    made, mask = settle(image, changed, region)
    assert mask[10:30, 10:18].all()
    assert not mask[:, 20:].any()  # the neighbourhood reaches two pixels
    np.testing.assert_array_equal(made, changed)


def test_specks_and_single_pixels_are_put_back() -> None:
    image = flat()
    region, changed = square(), image.copy()
    changed[20, 20], changed[26:28, 12:14] = 109, 112
    made, mask = settle(image, changed, region)
    assert not mask.any()
    assert made is image


@pytest.mark.parametrize("name", ["brick", "grass", "gravel"])
def test_a_texture_put_onto_itself_is_mostly_hidden_but_a_hole_is_seen(name: str) -> None:
    photo = np.repeat(photograph(name).astype(np.uint8)[..., None], 3, axis=2)
    rng, hidden = np.random.default_rng(0), []
    for _ in range(40):
        y, x, v, u = rng.integers(0, 512 - 64, 4)
        image, region = photo[y : y + 64, x : x + 64], square(64, 16, 48)
        other = np.ascontiguousarray(photo[v : v + 64, u : u + 64])
        hidden.append(not settle(np.ascontiguousarray(image), other, region)[1].any())
        hole = np.where(region[..., None], np.uint8(10), image)
        assert settle(np.ascontiguousarray(image), hole, region)[1].mean() > 0.9 * region.mean()
    if name != "brick":  # mortar on a brick is seen
        assert np.mean(hidden) >= 0.6


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(3, 60), st.integers(3, 60), st.floats(0, 1))
def test_whatever_comes_the_mask_tells_where_the_two_differ(
    seed: int, height: int, width: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    image, changed = rng.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    image.flags.writeable = changed.flags.writeable = False
    region = rng.random((height, width)) < share
    made, mask = settle(image, changed, region)
    np.testing.assert_array_equal(made, np.where(mask[..., None], changed, image))
    assert not (mask & ~region).any()
    assert mask.dtype == bool


def test_roughness_is_the_standard_deviation_around() -> None:
    rng = np.random.default_rng(1)
    image = rng.normal(120, 12, (80, 80, 3)).clip(0, 255).astype(np.uint8)
    window = image[40 - 4 : 40 + 5, 30 - 4 : 30 + 5, 1]
    assert roughness(image)[40, 30] == pytest.approx(window.std(), rel=1e-3)
    assert (roughness(flat()) == 0).all()
    assert LEAST == 8
