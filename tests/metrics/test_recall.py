from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label, regionprops

from anomaly_u2net.errors import InputError, MapError, NotComputable
from anomaly_u2net.metrics import (
    RegionCounts,
    mean_region_overlap,
    pixel_curve,
    ratio_by_image,
    region_counts,
    region_recall,
)
from anomaly_u2net.metrics.recall import AREA_EDGES


def test_by_hand_and_the_edges_belong_to_the_larger_bucket() -> None:
    mask, score_map = np.zeros((20, 30), np.uint8), np.zeros((20, 30), np.float32)
    mask[0, 0] = 255  # 1 pixel, found
    mask[3:10, 0:9] = 1  # 63 pixels, missed: at the threshold is not above it
    mask[3:11, 15:23] = 1  # 64 pixels, 2 of them found
    score_map[0, 0], score_map[3:10, 0:9] = 0.75, 0.5
    score_map[3, 15:17] = score_map[18:, :] = 0.625  # and a false alarm, which counts for nothing
    counts = region_counts(score_map, mask, threshold=0.5)
    assert counts == RegionCounts(AREA_EDGES, (2, 1, 0, 0), (1, 1, 0, 0), (1.0, 2 / 64, 0.0, 0.0))
    assert region_recall(counts, bucket=0) == 0.5
    assert region_recall(counts) == 2 / 3
    assert mean_region_overlap(counts, bucket=1) == 2 / 64
    assert mean_region_overlap(counts) == pytest.approx((1 + 2 / 64) / 3)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), threshold=st.floats(0.1, 0.99))
def test_agrees_with_skimage_and_adds_up(seed: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    edges = (2, 5, 30)
    maps = rng.random((3, 25, 25))
    masks = rng.random((3, 25, 25)) > np.array([0.8, 0.6, 2.0])[:, None, None]
    total = RegionCounts.none(edges)
    expected = np.zeros((3, 4))
    for score_map, mask in zip(maps, masks, strict=True):
        total += region_counts(score_map, mask, threshold=threshold, edges=edges)
        for region in regionprops(label(mask, connectivity=2), score_map):
            share = np.mean(score_map[tuple(region.coords.T)] > threshold)
            bucket = sum(region.area >= edge for edge in edges)
            expected[:, bucket] += 1, share > 0, share
    assert np.array([total.regions, total.found, total.overlap]) == pytest.approx(expected)
    # the mean overlap of all regions is a point of the PRO curve
    points = pixel_curve(maps, masks).points(10**5)
    assert points.pro is not None
    place = int(np.searchsorted(-points.thresholds, -threshold, side="right")) - 1
    assert mean_region_overlap(total) == pytest.approx(points.pro[place])


def test_recall_gets_an_interval_as_a_ratio_over_images() -> None:
    counts = [RegionCounts((9,), (n, 1), (n // 2, 1), (0.0, 0.0)) for n in range(8)]
    number = ratio_by_image([sum(c.found) for c in counts], [sum(c.regions) for c in counts])
    assert number.value == region_recall(sum(counts, RegionCounts.none((9,))))


def test_nothing_to_find_is_undefined() -> None:
    none = region_counts(np.zeros((4, 4)), np.zeros((4, 4), bool), threshold=0.0)
    assert none == RegionCounts.none()
    with pytest.raises(NotComputable, match="there is no defect region to find"):
        region_recall(none)
    with pytest.raises(NotComputable, match="no defect region of 64-1023 px to find"):
        mean_region_overlap(none, bucket=1)


def test_bad_input() -> None:
    plane, mask = np.zeros((4, 4)), np.eye(4, dtype=bool)
    for edges in ((), (1, 5), (9, 9), (30, 9)):
        with pytest.raises(InputError, match="areas in pixels that rise, the first 2 or more"):
            region_counts(plane, mask, threshold=0.5, edges=edges)
    with pytest.raises(InputError, match=r"unlike buckets do not add up: edges \(9,\) and"):
        RegionCounts.none((9,)) + RegionCounts.none()
    for bucket in (-1, 4):
        with pytest.raises(InputError, match=f"a bucket from 0 to 3, got {bucket}"):
            region_recall(RegionCounts.none(), bucket=bucket)
    with pytest.raises(InputError, match="threshold is NaN"):
        region_counts(plane, mask, threshold=float("nan"))
    with pytest.raises(MapError, match=r"map is \(4, 4\) but mask is \(2, 2\)"):
        region_counts(plane, mask[:2, :2], threshold=0.5)
