from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_u2net.errors import InputError, MapError
from anomaly_u2net.visual import heatmap, outline, overlay, scale_position
from anomaly_u2net.visual.overlay import PREDICTED, TRUE


def grey(height: int, width: int, level: int = 128) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def spot(height: int, width: int, *, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """A map that is low but for a square in the middle, and the square."""
    mask = np.zeros((height, width), bool)
    mask[height // 3 : 2 * height // 3, width // 3 : 2 * width // 3] = True
    return np.where(mask, high, low).astype(np.float32), mask


def has(image: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((image == np.array(colour, np.uint8)).all(axis=-1).any())


@settings(max_examples=60, deadline=None)
@given(
    scores=st.lists(st.floats(0, 1, width=32), min_size=2, max_size=12),
    threshold=st.floats(-0.5, 1.5),
)
def test_position_rises_and_crosses_the_middle_at_the_threshold(
    scores: list[float], threshold: float
) -> None:
    row = np.sort(np.array([scores], np.float32))
    position = scale_position(row, threshold=threshold)
    assert position.min() >= 0.0
    assert position.max() <= 1.0
    assert (np.diff(position) >= 0).all()
    np.testing.assert_array_equal(position > 0.5, row > threshold)


@pytest.mark.parametrize("threshold", [0.0, -1e-45, 1.0, 1.5])
def test_thresholds_at_the_ends(threshold: float) -> None:
    row = np.array([[0.0, 0.5, 1.0]], np.float32)
    np.testing.assert_array_equal(scale_position(row, threshold=threshold) > 0.5, row > threshold)


def test_colours_at_the_fixed_places() -> None:
    table = cv2.applyColorMap(np.arange(256, dtype=np.uint8), cv2.COLORMAP_INFERNO)
    table = table.reshape(256, 3)[:, ::-1]
    drawn = heatmap(np.array([[0.0, 0.25, 1.0]], np.float32), threshold=0.25)
    np.testing.assert_array_equal(drawn[0], table[[0, 128, 255]])


def test_one_score_has_one_colour_whatever_else_is_in_the_image() -> None:
    quiet = np.array([[0.0, 0.1, 0.2, 0.3]], np.float32)
    loud = np.array([[1.0, 0.1, 0.2, 0.3]], np.float32)
    first, second = heatmap(quiet, threshold=0.3), heatmap(loud, threshold=0.3)
    np.testing.assert_array_equal(first[0, 1:], second[0, 1:])
    base = grey(1, 4)
    first, second = overlay(base, quiet, threshold=0.5), overlay(base, loud, threshold=0.5)
    np.testing.assert_array_equal(first[0, 1:], second[0, 1:])


def test_a_good_image_stays_as_it_is() -> None:
    """A map with a clear maximum of its own, all of it far below the threshold."""
    score_map, _ = spot(60, 90, low=0.01, high=0.04)
    drawn = overlay(grey(60, 90), score_map, threshold=0.5)
    assert not has(drawn, PREDICTED)
    assert np.abs(drawn.astype(int) - 128).max() <= 1
    assert heatmap(score_map, threshold=0.5).max() < 30


def test_no_contour_at_the_threshold_itself() -> None:
    flat = np.full((30, 30), 0.5, np.float32)
    assert not has(overlay(grey(30, 30), flat, threshold=0.5), PREDICTED)
    assert has(overlay(grey(30, 30), flat, threshold=0.49), PREDICTED)


def test_contours_run_where_they_should() -> None:
    score_map, square = spot(90, 90, low=0.1, high=0.9)
    truth = np.roll(square, 20, axis=1)
    drawn = overlay(grey(90, 90), score_map, threshold=0.5, mask=truth)
    for region, colour in ((square, PREDICTED), (truth, TRUE)):
        edge = region & ~cv2.erode(region.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
        found = (drawn == np.array(colour, np.uint8)).all(axis=-1)
        assert found.sum() > 0.6 * edge.sum()
        assert not (found & ~edge).any()


def test_both_contours_show_where_they_agree() -> None:
    score_map, square = spot(256, 256, low=0.1, high=0.9)
    drawn = overlay(grey(256, 256), score_map, threshold=0.5, mask=square)
    assert has(drawn, PREDICTED)
    assert has(drawn, TRUE)


def test_a_single_pixel_and_a_hole_are_outlined() -> None:
    mask = np.zeros((60, 60), bool)
    mask[5, 5] = True
    mask[20:50, 20:50] = True
    mask[30:40, 30:40] = False
    drawn = outline(grey(60, 60, 0), [(mask, PREDICTED)])
    assert tuple(drawn[5, 5]) == PREDICTED
    assert has(drawn[28:42, 28:42], PREDICTED)


def test_lines_grow_with_the_image() -> None:
    def share(side: int) -> int:
        _, square = spot(side, side, low=0, high=1)
        drawn = outline(grey(side, side, 0), [(square, PREDICTED)])
        return int((drawn[side // 2] == 255).all(axis=-1).sum())

    assert share(90) == 2
    assert share(960) >= 6


def test_what_comes_in_is_not_changed() -> None:
    score_map, square = spot(40, 40, low=0.1, high=0.9)
    base = grey(40, 40)
    base.setflags(write=False)
    score_map.setflags(write=False)
    square.setflags(write=False)
    # Writing to any of them would raise; a mirrored view gives the mirrored picture.
    picture = overlay(base, score_map, threshold=0.5, mask=square)
    mirrored = overlay(base[:, ::-1], score_map[:, ::-1], threshold=0.5, mask=square[:, ::-1])
    assert picture.shape == mirrored.shape == base.shape


def test_alpha_zero_shows_no_heat() -> None:
    score_map, _ = spot(30, 30, low=0.1, high=0.9)
    drawn = overlay(grey(30, 30), score_map, threshold=0.5, alpha=0.0)
    assert tuple(drawn[15, 15]) == (128, 128, 128)
    with pytest.raises(InputError, match=r"alpha in 0\.\.1, got 1\.5"):
        overlay(grey(30, 30), score_map, threshold=0.5, alpha=1.5)


def test_bad_maps() -> None:
    base = grey(8, 8)
    with pytest.raises(MapError, match=r"the map is \(8, 9\) but the image is \(8, 8\)"):
        overlay(base, np.zeros((8, 9), np.float32), threshold=0.5)
    with pytest.raises(MapError, match=r"the mask is \(4, 4\) but the image is \(8, 8\)"):
        overlay(base, np.zeros((8, 8), np.float32), threshold=0.5, mask=np.zeros((4, 4), bool))
    with pytest.raises(MapError, match=r"scores in 0\.\.1, got -3\.\.2; these look like logits"):
        heatmap(np.array([[-3.0, 2.0]]), threshold=0.5)
    with pytest.raises(MapError, match="NaN or infinite"):
        heatmap(np.array([[0.1, np.nan]]), threshold=0.5)
    with pytest.raises(MapError, match="float32 or float64 scores, got uint8"):
        heatmap(np.zeros((4, 4), np.uint8), threshold=0.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3)), grey(0, 8)])
def test_bad_images(bad: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"expected uint8 RGB of shape \(H, W, 3\), got"):
        overlay(bad, np.zeros((8, 8), np.float32), threshold=0.5)


@pytest.mark.parametrize("threshold", [np.nan, np.inf])
def test_bad_thresholds(threshold: float) -> None:
    with pytest.raises(InputError, match="expected a finite threshold"):
        heatmap(np.zeros((4, 4)), threshold=threshold)
