from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_u2net.data.augment import augment, crop_corner
from anomaly_u2net.recipe import AugmentRecipe

STILL = {"flip": False, "brightness": 0, "contrast": 0}


def recipe(**changes: Any) -> AugmentRecipe:
    return AugmentRecipe.model_validate({**STILL, **changes})


def marked(height: int = 80, width: int = 80) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A dim image with a bright oblong, the same oblong as mask, and a full weight."""
    image = np.full((height, width, 3), 60, np.uint8)
    mask = np.zeros((height, width), bool)
    mask[height // 4 : height // 2, width // 5 : width // 5 + 12] = True
    image[mask] = 250
    return image, mask, np.ones((height, width), np.float32)


def run(
    parts: tuple[np.ndarray, np.ndarray, np.ndarray], recipe: AugmentRecipe, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    image, mask, weight = parts
    return augment(image, mask, weight=weight, recipe=recipe, seed=seed)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


def test_nothing_asked_for_changes_nothing() -> None:
    parts = marked(40, 70)
    for before, after in zip(parts, run(parts, recipe(), 3), strict=True):
        np.testing.assert_array_equal(after, before)
        assert after.dtype == before.dtype


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**62),
    flip=st.booleans(),
    quarter_turns=st.booleans(),
    rotate=st.sampled_from([0, 10, 180]),
    scale=st.sampled_from([(1.0, 1.0), (0.7, 1.4)]),
    crop=st.sampled_from([None, 64]),
)
def test_image_and_mask_move_together(seed: int, crop: int | None, **changes: Any) -> None:
    """The bright oblong and the mask still lie on each other, wherever they went."""
    chosen = recipe(crop=crop, **({"crop_on_defect": 1} if crop else {}), **changes)
    image, mask, weight = run(marked(), chosen, seed)
    side = crop or 80
    assert image.shape == (side, side, 3)
    assert mask.shape == weight.shape == (side, side)
    assert (image.dtype, mask.dtype, weight.dtype) == (np.uint8, bool, np.float32)
    bright = image[..., 0] > 155
    if max(bright.sum(), mask.sum()) > 60:
        # Bilinear against nearest: the border of a small oblong may differ.
        exact = not changes["rotate"] and changes["scale"] == (1.0, 1.0)
        assert iou(bright, mask) >= (1 if exact else 0.8)
    else:
        assert abs(int(bright.sum()) - int(mask.sum())) < 25
    assert set(np.unique(weight)) <= {0, 1}


@pytest.mark.parametrize("changes", [{"flip": True}, {"quarter_turns": True}])
def test_flips_and_turns_are_exact_and_all_occur(changes: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    mask, weight = image[..., 0] > 200, (image[..., 1] > 30).astype(np.float32)
    if "flip" in changes:
        ways = [lambda a: a, lambda a: a[:, ::-1], lambda a: a[::-1], lambda a: a[::-1, ::-1]]
    else:
        ways = [lambda a, k=k: np.rot90(a, k) for k in range(4)]
    seen = set()
    for seed in range(24):
        result = run((image, mask, weight), recipe(**changes), seed)
        which = [np.array_equal(way(image), result[0]) for way in ways].index(True)
        np.testing.assert_array_equal(result[1], ways[which](mask))
        np.testing.assert_array_equal(result[2], ways[which](weight))
        seen.add(which)
    assert seen == {0, 1, 2, 3}


@pytest.mark.parametrize("changes", [{"rotate": 45}, {"scale": (0.5, 0.6)}])
def test_pixels_from_outside_the_image_have_weight_0(changes: dict[str, Any]) -> None:
    white = np.full((64, 64, 3), 255, np.uint8)
    everything = np.ones((64, 64), bool)
    for seed in range(6):
        image, mask, weight = run(
            (white, everything, np.ones((64, 64), np.float32)), recipe(**changes), seed
        )
        assert (weight == 0).any()
        assert not (image[weight == 0] == 255).all()
        np.testing.assert_array_equal(mask, weight == 1)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**9), crop=st.sampled_from([32, 33, 64]))
def test_a_crop_with_room_around_it_holds_real_pixels_only(seed: int, crop: int) -> None:
    """The margin is cut along, so turning and zooming out bring no black corners."""
    white = np.full((400, 400, 3), 255, np.uint8)
    parts = white, np.zeros((400, 400), bool), np.ones((400, 400), np.float32)
    chosen = recipe(crop=crop, rotate=180, scale=(0.7, 1.4))
    image, _, _ = run(parts, chosen, seed)
    assert image.shape == (crop, crop, 3)
    assert (image == 255).all()
    plain = run(parts, recipe(crop=crop), seed)
    assert (plain[0] == 255).all()
    assert plain[2].all()


def test_a_crop_larger_than_the_image_is_mirrored_and_not_counted() -> None:
    image, mask, weight = run(marked(20, 50), recipe(crop=64, crop_on_defect=1), 0)
    assert image.shape == (64, 64, 3)
    assert weight.sum() == 20 * 50
    rows, columns = np.flatnonzero(weight.any(1)), np.flatnonzero(weight.any(0))
    assert (rows[0], len(rows), columns[0], len(columns)) == (22, 20, 7, 50)
    np.testing.assert_array_equal(image[..., 0] == 250, mask)
    assert set(np.unique(image)) == {60, 250}


@settings(deadline=None, max_examples=60)
@given(st.integers(5, 120), st.integers(5, 120), st.integers(0, 40), st.integers(0, 10**9))
def test_a_window_on_a_defect_holds_a_defect_pixel(
    height: int, width: int, padding: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((height + padding, width), bool)
    mask[rng.integers(height), rng.integers(width)] = True
    top, left = crop_corner(mask, 32, real=(height, width), rng=rng, on_defect=True)
    assert mask[max(top, 0) : top + 32, max(left, 0) : left + 32].any()
    for corner, length in ((top, height + padding), (left, width)):
        assert corner == (length - 32) // 2 if length <= 32 else 0 <= corner <= length - 32
    assert top <= max(0, height - 16)


def test_every_window_is_reached() -> None:
    rng = np.random.default_rng(0)
    nothing, corner = np.zeros((5, 4), bool), np.zeros((5, 4), bool)
    corner[0, 0] = True

    def windows(mask: np.ndarray, on_defect: bool) -> set[tuple[int, int]]:
        return {crop_corner(mask, 2, real=(5, 4), rng=rng, on_defect=on_defect) for _ in range(400)}

    every = {(y, x) for y in range(4) for x in range(3)}
    assert windows(nothing, True) == windows(nothing, False) == windows(corner, False) == every
    assert windows(corner, True) == {(0, 0)}


def test_borders_are_seen_half_as_often_as_the_middle_and_padding_with_them() -> None:
    """Windows drawn evenly among all that fit hold the outermost pixel once in 69 times here."""
    rng, canvas, tops = np.random.default_rng(0), np.zeros((120, 120), bool), []
    for _ in range(2000):
        top, _ = crop_corner(canvas, 32, real=(100, 120), rng=rng, on_defect=False)
        tops.append(top)
    seen = np.array([[top <= row < top + 32 for top in tops] for row in (0, 50, 99)]).mean(axis=1)
    assert seen[0] == pytest.approx(0.16, abs=0.03)  # 32 / (2 · 100)
    assert seen[1] == pytest.approx(0.32, abs=0.04)
    assert seen[2] > 0.16
    assert max(tops) == 100 - 16  # half a window of padding at most


def test_the_share_of_crops_on_a_defect() -> None:
    mask = np.zeros((300, 300), bool)
    mask[40:42, 40:42] = True
    parts = np.zeros((300, 300, 3), np.uint8), mask, np.ones((300, 300), np.float32)
    always, half, never = (
        sum(run(parts, recipe(crop=32, crop_on_defect=share), seed)[1].any() for seed in range(200))
        for share in (1, 0.5, 0)
    )
    assert always == 200
    assert 80 <= half <= 130
    assert never < 15


def test_light_changes_the_image_alone_within_its_factors() -> None:
    parts = marked()
    parts[0][:] = 100
    chosen = recipe(brightness=0.2)
    values = set()
    for seed in range(20):
        image, mask, weight = run(parts, chosen, seed)
        assert len(np.unique(image)) == 1
        values.add(int(image[0, 0, 0]))
        np.testing.assert_array_equal(mask, parts[1])
        np.testing.assert_array_equal(weight, parts[2])
    assert len(values) > 8
    assert min(values) >= 79
    assert max(values) <= 120


def test_contrast_spreads_gray_levels_about_their_mean() -> None:
    parts = marked()
    parts[0][:40], parts[0][40:] = 90, 110
    spreads = set()
    for seed in range(20):
        image = run(parts, recipe(contrast=0.5), seed)[0].astype(int)
        assert image.mean() == pytest.approx(100, abs=1)
        spreads.add(int(image.max() - image.min()))
    assert 10 <= min(spreads) < 14
    assert 26 < max(spreads) <= 30


def test_turns_go_both_ways_and_zooms_in_and_out() -> None:
    image, mask, weight = marked(81, 81)
    image[:], mask[:] = 60, False
    mask[38:43, 10:71] = True  # a bar across the middle
    slopes, lengths = [], []
    for seed in range(40):
        turned = run((image, mask, weight), recipe(rotate=20), seed)[1]
        rows, columns = np.nonzero(turned)
        slopes.append(np.polyfit(columns, rows, 1)[0])
        zoomed = run((image, mask, weight), recipe(scale=(0.5, 1.2)), seed)[1]
        lengths.append(int(zoomed.any(axis=0).sum()))
        assert np.argwhere(turned).mean(axis=0) == pytest.approx([40, 40], abs=0.3)
    assert min(slopes) < -0.2
    assert max(slopes) > 0.2
    assert 29 <= min(lengths) < 40
    assert 66 < max(lengths) <= 75


def test_the_smallest_blur_is_none() -> None:
    parts = marked()
    np.testing.assert_array_equal(run(parts, recipe(blur=0.005), 0)[0], parts[0])


ALL = recipe(
    crop=64, flip=True, quarter_turns=True, rotate=30, scale=(0.8, 1.2), brightness=0.2, contrast=1
)


def test_the_seed_decides_everything() -> None:
    first, again, other = (run(marked(), ALL, seed) for seed in (7, 7, 8))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0], other[0])


def test_randomness_elsewhere_is_neither_used_nor_touched() -> None:
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = run(marked(), ALL, 7)[0]
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    torch.manual_seed(99)
    np.testing.assert_array_equal(run(marked(), ALL, 7)[0], first)


def test_what_is_handed_in_is_left_alone() -> None:
    parts = marked()
    for part in parts:
        part.flags.writeable = False
    results = [part for seed in range(4) for part in run(parts, ALL, seed)]
    results += run(parts, recipe(), 0)
    assert not any(np.shares_memory(part, result) for part in parts for result in results)


def test_crops_of_a_letterboxed_image_are_at_least_half_image() -> None:
    image, mask = np.zeros((320, 320, 3), np.uint8), np.zeros((320, 320), bool)
    weight = np.zeros((320, 320), np.float32)
    weight[:80] = 1  # an image of 80 x 320 on a square canvas
    shares = [run((image, mask, weight), recipe(crop=64), seed)[2].mean() for seed in range(40)]
    assert min(shares) >= 0.5
    assert max(shares) == 1
    # Smaller than the crop in one direction: most of that direction is in it.
    rows = [
        run((image, mask, weight), recipe(crop=128), seed)[2].any(axis=1).sum()
        for seed in range(20)
    ]
    assert min(rows) >= 64
    assert max(rows) == 80


def test_gamma_bends_the_middle_grays_and_leaves_black_and_white() -> None:
    ramp = np.repeat(np.linspace(0, 255, 64).round().astype(np.uint8)[None], 64, axis=0)
    parts = np.dstack([ramp] * 3), np.zeros((64, 64), bool), np.ones((64, 64), np.float32)
    middles = set()
    for seed in range(30):
        image = run(parts, recipe(gamma=1.0), seed)[0][0, :, 0]
        assert (image[0], image[-1]) == (0, 255)
        assert (np.diff(image.astype(int)) >= 0).all()
        middles.add(int(image[32]))  # 130 of 255, to a power between 0.5 and 2
    assert 66 <= min(middles) < 90
    assert 150 < max(middles) <= 182


def test_blur_spreads_a_point_and_keeps_its_sum() -> None:
    parts = marked()
    parts[0][:] = 0
    parts[0][40, 40] = 255
    peaks = [run(parts, recipe(blur=2), seed)[0] for seed in range(20)]
    assert min(int(peak.max()) for peak in peaks) < 60
    assert max(int(peak.max()) for peak in peaks) > 200
    for peak in peaks:  # each pixel is rounded to whole gray levels
        assert 200 <= int(peak[..., 0].astype(int).sum()) <= 310


def test_noise_is_gray_and_no_stronger_than_asked() -> None:
    parts = marked(200, 200)
    parts[0][:] = 128
    strengths = []
    for seed in range(20):
        image = run(parts, recipe(noise=0.1), seed)[0].astype(float)
        np.testing.assert_array_equal(image[..., 0], image[..., 2])
        assert image.mean() == pytest.approx(128, abs=1)
        strengths.append(image[..., 0].std() / 255)
    assert max(strengths) <= 0.101
    assert max(strengths) - min(strengths) > 0.05
