from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label as skimage_label
from skimage.measure import regionprops

from anomaly_u2net.errors import InputError, MapError
from anomaly_u2net.metrics import defect_regions, label_regions
from anomaly_u2net.types import Region


def test_two_regions_by_hand() -> None:
    score_map = np.zeros((5, 6), np.float32)
    score_map[0, 0] = 0.75
    score_map[2:4, 3:6] = 0.625
    score_map[3, 4] = 1.0
    assert defect_regions(score_map, threshold=0.5) == (
        Region(area=6, box=(3, 2, 3, 2), centroid=(4.0, 2.5), peak=1.0),
        Region(area=1, box=(0, 0, 1, 1), centroid=(0.0, 0.0), peak=0.75),
    )
    assert [r.area for r in defect_regions(score_map, threshold=0.5, min_area=2)] == [6]
    assert defect_regions(score_map, threshold=0.625)[0].area == 1
    assert defect_regions(score_map, threshold=1.0) == ()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), threshold=st.floats(0.3, 0.9))
def test_agrees_with_skimage(seed: int, threshold: float) -> None:
    score_map = np.random.default_rng(seed).random((17, 23))
    labels, number = label_regions(score_map > threshold)
    expected = skimage_label(score_map > threshold, connectivity=2)
    assert number == expected.max()
    # the same partition: labels pair one to one
    pairs = {(int(a), int(b)) for a, b in zip(labels.ravel(), expected.ravel(), strict=True)}
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})

    found = defect_regions(score_map, threshold=threshold)
    assert [r.area for r in found] == sorted((r.area for r in found), reverse=True)
    theirs = {
        (float(p.area), p.bbox[1], p.bbox[0], float(p.intensity_max)): p
        for p in regionprops(expected, score_map)
    }
    assert len(found) == len(theirs) == number
    for region in found:
        x, y, width, height = region.box
        other = theirs[float(region.area), x, y, region.peak]
        assert (y + height, x + width) == other.bbox[2:]
        assert region.centroid == pytest.approx(other.centroid[::-1], rel=1e-9, abs=1e-9)


def test_labels_of_an_empty_and_of_a_strided_mask() -> None:
    labels, number = label_regions(np.zeros((3, 4), np.uint8))
    assert number == 0
    assert labels.dtype == np.int32
    assert not labels.any()
    assert label_regions(np.ones((4, 8), bool)[:, ::2])[1] == 1
    assert label_regions(np.array([[256, 0, 512]]))[1] == 2


def test_bad_input() -> None:
    with pytest.raises(MapError, match=r"expected a plane .* got shape \(3,\)"):
        label_regions(np.zeros(3, bool))
    with pytest.raises(InputError, match="min_area of 1 pixel or more, got 0"):
        defect_regions(np.zeros((3, 3)), threshold=0.5, min_area=0)
    with pytest.raises(InputError, match="threshold is NaN"):
        defect_regions(np.zeros((3, 3)), threshold=float("nan"))
    with pytest.raises(MapError, match="9 of 9 pixels are NaN"):
        defect_regions(np.full((3, 3), np.nan), threshold=0.5)
