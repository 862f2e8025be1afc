from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from anomaly_u2net.errors import InputError, MapError
from anomaly_u2net.visual import panel
from anomaly_u2net.visual.overlay import PREDICTED, TRUE


def has(image: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((image == np.array(colour, np.uint8)).all(axis=-1).any())


@pytest.mark.parametrize(
    ("height", "width"), [(32, 32), (1, 1), (300, 200), (40, 700), (700, 40), (1500, 1400)]
)
def test_any_size(height: int, width: int) -> None:
    image = np.full((height, width, 3), 90, np.uint8)
    score_map = np.zeros((height, width), np.float32)
    score_map[height // 2, width // 2] = 0.9
    mask = score_map > 0
    drawn = panel(image, score_map, threshold=0.3, mask=mask, title="cut/000.png")
    assert drawn.dtype == np.uint8
    assert drawn.ndim == 3
    assert 400 < max(drawn.shape) < 2600


def test_wide_images_are_stacked() -> None:
    wide = panel(np.zeros((100, 400, 3), np.uint8), np.zeros((100, 400)), threshold=0.5)
    square = panel(np.zeros((400, 400, 3), np.uint8), np.zeros((400, 400)), threshold=0.5)
    assert wide.shape[1] < 500
    assert square.shape[1] > 1200


def test_the_key_names_the_truth_only_where_it_is_known() -> None:
    image, score_map = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.float32)
    assert not has(panel(image, score_map, threshold=0.5), TRUE)
    known = panel(image, score_map, threshold=0.5, mask=np.zeros((64, 64), bool))
    assert has(known, TRUE)


def test_a_good_image_has_no_contour() -> None:
    """White is drawn in the legend only, which is the same for every map."""
    image = np.full((400, 400, 3), 60, np.uint8)
    quiet = np.full((400, 400), 0.05, np.float32)
    quiet[100, 100] = 0.3
    loud = quiet.copy()
    loud[100:200, 100:200] = 0.8
    pictures = [panel(image, made, threshold=0.5) for made in (quiet, loud)]
    views = [picture[60:420] for picture in pictures]
    assert [has(view, PREDICTED) for view in views] == [False, True]


def test_titles_take_a_line_and_are_cut() -> None:
    image, score_map = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.float32)
    bare = panel(image, score_map, threshold=0.5)
    titled = panel(image, score_map, threshold=0.5, title="Fräse µ \n" + "x" * 900)
    assert titled.shape[0] > bare.shape[0]
    assert titled.shape[1] == bare.shape[1]
    margin = titled[:, -8:]
    assert (margin == margin[0, 0]).all()
    question = panel(image, score_map, threshold=0.5, title="?")
    foreign = panel(image, score_map, threshold=0.5, title="é")
    np.testing.assert_array_equal(question, foreign)


def test_bad_input() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(MapError, match=r"the map is \(32, 32\) but the image is \(64, 64\)"):
        panel(image, np.zeros((32, 32)), threshold=0.5)
    with pytest.raises(MapError, match=r"the mask is \(32, 32\)"):
        panel(image, np.zeros((64, 64)), threshold=0.5, mask=np.zeros((32, 32), bool))
    with pytest.raises(InputError, match="uint8 RGB"):
        panel(image.astype(float), np.zeros((64, 64)), threshold=0.5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="finite threshold"):
        panel(image, np.zeros((64, 64)), threshold=float("nan"))


def test_a_real_part() -> None:
    root = os.environ.get("ANOMALY_U2NET_DATA")
    if not root:
        pytest.skip("ANOMALY_U2NET_DATA does not name the folder of data sets")
    folder = Path(root) / "mvtec_leather_mini"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    image = cv2.imread(str(sorted(folder.glob("test/glue/*.*"))[0]))[..., ::-1]
    mask = cv2.imread(str(sorted(folder.glob("ground_truth/glue/*.*"))[0]), 0) > 0
    score_map = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 6)
    drawn = panel(image, np.clip(score_map, 0, 1), threshold=0.4, mask=mask, title="glue")
    assert has(drawn, PREDICTED)
    assert has(drawn, TRUE)
