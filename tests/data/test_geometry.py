from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_u2net.data.geometry import Fit, Geometry, normalise, plan
from anomaly_u2net.errors import ImageError

SIDES = st.integers(1, 150)
FITS: st.SearchStrategy[Fit] = st.sampled_from(["letterbox", "stretch", "native"])
SIZES = st.sampled_from([(64, 64), (64, 96), (128, 32)])


def noise(height: int, width: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# --- the plan -------------------------------------------------------------------------------


@pytest.mark.parametrize(("original", "size", "resized"), [
    ((100, 200), (64, 64), (32, 64)),
    ((200, 100), (64, 64), (64, 32)),
    ((10, 10), (64, 96), (64, 64)),  # enlarged to fill the shorter side
    ((1, 500), (64, 64), (1, 64)),  # never thinner than a pixel
    ((3, 40), (64, 64), (5, 64)),
    ((64, 96), (64, 96), (64, 96)),
    ((300, 299), (320, 320), (320, 319)),
])  # fmt: skip
def test_letterbox(
    original: tuple[int, int], size: tuple[int, int], resized: tuple[int, int]
) -> None:
    assert plan(original, "letterbox", size=size) == Geometry(original, resized, size)


def test_stretch_and_native() -> None:
    assert plan((7, 900), "stretch", size=(64, 96)) == Geometry((7, 900), (64, 96), (64, 96))
    assert plan((33, 64), "native") == Geometry((33, 64), (33, 64), (64, 64))
    assert plan((1, 1), "native", size=(640, 640)).canvas == (32, 32)


def test_native_has_a_limit() -> None:
    assert plan((2000, 2000), "native").canvas == (2016, 2016)
    with pytest.raises(ImageError, match=r"2000×2001 pixels is too large .* use letterbox"):
        plan((2000, 2001), "native")


@settings(deadline=None, max_examples=60)
@given(SIDES, SIDES, FITS, SIZES)
def test_everything_has_the_size_that_was_planned(
    height: int, width: int, fit: Fit, size: tuple[int, int]
) -> None:
    geometry = plan((height, width), fit, size=size)
    canvas = geometry.canvas
    assert all(0 < inner <= outer for inner, outer in zip(geometry.resized, canvas, strict=True))
    assert all(side % 32 == 0 for side in canvas)
    image, mask = noise(height, width), np.ones((height, width), bool)
    assert geometry.image(image).shape == (*canvas, 3)
    assert geometry.image(image).dtype == np.uint8
    assert geometry.mask(mask).dtype == bool
    # A mask of nothing but defect covers the image and never the padding.
    np.testing.assert_array_equal(geometry.mask(mask), geometry.weight() == 1)
    assert geometry.weight().shape == canvas
    assert geometry.weight().sum() == geometry.resized[0] * geometry.resized[1]
    back = geometry.back(np.zeros(canvas, np.float32))
    assert back.shape == (height, width)
    assert back.dtype == np.float32
    assert back.flags.c_contiguous


# --- there and back -------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(SIDES, SIDES)
def test_native_is_the_identity(height: int, width: int) -> None:
    geometry = plan((height, width), "native")
    image = noise(height, width)
    mask = image[..., 0] > 128
    np.testing.assert_array_equal(geometry.image(image)[:height, :width], image)
    np.testing.assert_array_equal(geometry.mask(mask)[:height, :width], mask)
    scores = np.random.default_rng(1).random(geometry.canvas, np.float32)
    np.testing.assert_array_equal(geometry.back(scores), scores[:height, :width])


@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
def test_an_image_of_the_right_size_is_left_alone(fit: Fit) -> None:
    geometry = plan((64, 96), fit, size=(64, 96))
    image = noise(64, 96)
    np.testing.assert_array_equal(geometry.image(image), image)
    np.testing.assert_array_equal(geometry.mask(image[..., 0] > 9), image[..., 0] > 9)
    scores = np.random.default_rng(1).random((64, 96), np.float32)
    np.testing.assert_array_equal(geometry.back(scores), scores)


@settings(deadline=None, max_examples=40)
@given(SIDES, SIDES, FITS, SIZES, st.floats(0, 1, width=32))
def test_a_constant_stays_that_constant(
    height: int, width: int, fit: Fit, size: tuple[int, int], value: float
) -> None:
    geometry = plan((height, width), fit, size=size)
    back = geometry.back(np.full(geometry.canvas, value, np.float32))
    np.testing.assert_allclose(back, value, rtol=1e-6, atol=0)
    level = int(value * 255)
    assert (geometry.image(np.full((height, width, 3), level, np.uint8)) == level).all()


@settings(deadline=None, max_examples=40)
@given(SIDES, SIDES, FITS, SIZES, st.integers(0, 99))
def test_scores_stay_within_their_range(
    height: int, width: int, fit: Fit, size: tuple[int, int], seed: int
) -> None:
    geometry = plan((height, width), fit, size=size)
    scores = np.random.default_rng(seed).random(geometry.canvas, np.float32)
    scores[scores > 0.7], scores[scores < 0.3] = 1, 0
    back = geometry.back(scores)
    assert back.min() >= 0
    assert back.max() <= 1


def test_the_padding_does_not_reach_the_score_map() -> None:
    geometry = plan((50, 100), "letterbox", size=(64, 64))
    scores = np.ones((64, 64), np.float32)
    scores[: geometry.resized[0]] = 0.25
    np.testing.assert_array_equal(geometry.back(scores), np.float32(0.25))


@settings(deadline=None, max_examples=60)
@given(st.integers(40, 150), st.integers(40, 150), FITS, st.integers(0, 10**6), st.integers(12, 25))
def test_a_region_comes_back_to_its_place(
    height: int, width: int, fit: Fit, seed: int, side: int
) -> None:
    """Through the mask's road and back: box edges within the coarser of the two pixels."""
    rng = np.random.default_rng(seed)
    top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    mask = np.zeros((height, width), bool)
    mask[top : top + side, left : left + side] = True
    geometry = plan((height, width), fit, size=(64, 96))
    again = geometry.back(geometry.mask(mask).astype(np.float32)) >= 0.5
    rows, columns = np.flatnonzero(again.any(1)), np.flatnonzero(again.any(0))
    pixel = [max(1, o / r) for o, r in zip(geometry.original, geometry.resized, strict=True)]
    assert abs(rows[0] - top) <= pixel[0]
    assert abs(rows[-1] + 1 - top - side) <= pixel[0]
    assert abs(columns[0] - left) <= pixel[1]
    assert abs(columns[-1] + 1 - left - side) <= pixel[1]


def test_halving_and_doubling_by_hand() -> None:
    geometry = Geometry((4, 4), (2, 2), (2, 2))
    image = np.zeros((4, 4, 3), np.uint8)
    image[:2, :2], image[2:, 2:] = 200, [[[0] * 3, [40] * 3], [[80] * 3, [120] * 3]]
    assert geometry.image(image)[..., 0].tolist() == [[200, 0], [0, 60]]  # means of 2 × 2
    mask = np.zeros((4, 4), bool)
    mask[0, :2] = mask[0, 2] = mask[2:, 2:] = True
    assert geometry.mask(mask).tolist() == [[True, False], [False, True]]  # 2/4, 1/4, 0, 4/4
    mask[:] = False
    mask[0, :2] = mask[:2, 2:] = mask[2, 2] = True  # one region, so nothing to rescue
    assert geometry.mask(mask).tolist() == [[True, True], [False, False]]  # 2/4, 4/4, 0, 1/4
    back = geometry.back(np.array([[0, 1], [0, 1]], np.float32))
    assert back.tolist() == [[0, 0.25, 0.75, 1]] * 4


# --- padding --------------------------------------------------------------------------------


def test_the_padding_mirrors_the_image() -> None:
    image = noise(40, 50)
    canvas = plan((40, 50), "native").image(image)
    np.testing.assert_array_equal(canvas[40:, :50], image[-2:-26:-1])
    np.testing.assert_array_equal(canvas[:40, 50:], image[:, -2:-16:-1])
    np.testing.assert_array_equal(canvas[41, 51], image[37, 47])


@pytest.mark.parametrize("shape", [(1, 500), (500, 1), (3, 40), (1, 1), (17, 31)])
@pytest.mark.parametrize("fit", ["letterbox", "native"])
def test_a_narrow_image_is_mirrored_until_the_canvas_is_full(
    shape: tuple[int, int], fit: Fit
) -> None:
    geometry = plan(shape, fit, size=(64, 64))
    image = noise(*shape)
    canvas = geometry.image(image)
    rows, columns = geometry.resized
    inside = canvas[:rows, :columns]
    # Nothing on the canvas that is not in the image, and no black.
    colours = {tuple(c) for c in inside.reshape(-1, 3)}
    assert {tuple(c) for c in canvas.reshape(-1, 3)} == colours
    if fit == "native":
        both = np.concatenate([image, image[::-1]]), np.concatenate([image, image[:, ::-1]], 1)
        if rows < canvas.shape[0] / 2:
            np.testing.assert_array_equal(canvas[: 2 * rows, :columns], both[0])
        if columns < canvas.shape[1] / 2:
            np.testing.assert_array_equal(canvas[:rows, : 2 * columns], both[1])
    back = geometry.back(np.full(geometry.canvas, 0.5, np.float32))
    assert back.shape == shape
    np.testing.assert_array_equal(back, np.float32(0.5))


def test_a_mask_has_no_defect_in_the_padding() -> None:
    mask = np.zeros((40, 50), bool)
    mask[-1], mask[:, -1] = True, True
    canvas = plan((40, 50), "native").mask(mask)
    assert canvas.shape == (64, 64)
    np.testing.assert_array_equal(canvas[:40, :50], mask)
    assert not canvas[40:].any()
    assert not canvas[:, 50:].any()


# --- thin defects ---------------------------------------------------------------------------


def regions(mask: np.ndarray) -> np.ndarray:
    return cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[1]


@settings(deadline=None, max_examples=60)
@given(
    st.integers(8, 200),
    st.integers(8, 200),
    st.sampled_from(["letterbox", "stretch"]),
    st.integers(0, 10**6),
)
def test_no_region_vanishes(height: int, width: int, fit: Fit, seed: int) -> None:
    """Every region of the original has a defect pixel where it was, to within a pixel."""
    rng = np.random.default_rng(seed)
    mask = rng.random((height, width)) < 0.004
    mask[rng.integers(height), : width // 2] = True  # a scratch of one pixel
    geometry = plan((height, width), fit, size=(32, 32))
    small = geometry.mask(mask)[: geometry.resized[0], : geometry.resized[1]]
    near = cv2.dilate(small.astype(np.uint8), np.ones((3, 3))).astype(bool)
    labels = regions(mask)
    for region in range(1, labels.max() + 1):
        y, x = np.nonzero(labels == region)
        ys, xs = y * small.shape[0] // height, x * small.shape[1] // width
        assert near[ys, xs].any()


def test_a_rescued_defect_is_one_pixel_where_it_was() -> None:
    geometry = plan((320, 320), "letterbox", size=(32, 32))
    mask = np.zeros((320, 320), bool)
    mask[205, 117] = True
    assert np.argwhere(geometry.mask(mask)).tolist() == [[20, 11]]
    mask[:] = False
    mask[101:104, 52:69] = True  # 3 of 10 rows; columns 52–59 cover 80 %, 60–68 90 %
    assert np.argwhere(geometry.mask(mask)).tolist() == [[10, 6]]


def test_a_wide_defect_gains_nothing() -> None:
    mask = np.zeros((320, 320), bool)
    mask[100:150, 100:153] = True
    expected = np.zeros((32, 32), bool)
    expected[10:15, 10:15] = True
    np.testing.assert_array_equal(plan((320, 320), "stretch", size=(32, 32)).mask(mask), expected)
    assert not plan((320, 320), "stretch", size=(32, 32)).mask(np.zeros((320, 320), bool)).any()


# --- normalising ----------------------------------------------------------------------------


def test_normalise_by_hand() -> None:
    image = np.array([[[0, 0, 0], [255, 255, 255]], [[124, 116, 104], [255, 0, 51]]], np.uint8)
    x = normalise(image)
    assert x.shape == (3, 2, 2)
    assert x.dtype == np.float32
    assert x.flags.c_contiguous
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    for row, column, channel in itertools.product(range(2), range(2), range(3)):
        expected = (int(image[row, column, channel]) / 255 - mean[channel]) / std[channel]
        assert x[channel, row, column] == pytest.approx(expected, abs=2e-6)


def test_normalise_is_not_relative_to_the_image() -> None:
    """Half the light is another input: no scaling by the image's own maximum."""
    image = noise(8, 8) // 2
    both = np.concatenate([image, np.full((1, 8, 3), 255, np.uint8)])
    np.testing.assert_array_equal(normalise(both)[:, :8], normalise(image))
