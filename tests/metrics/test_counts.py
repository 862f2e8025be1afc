from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score

from anomaly_u2net.errors import InputError, MapError, NotComputable
from anomaly_u2net.metrics import (
    SegmentationCounts,
    f1,
    iou,
    mean_f1,
    mean_iou,
    segmentation_counts,
)
from anomaly_u2net.metrics.counts import class_mean_iou


def test_by_hand_and_the_threshold_itself_is_good() -> None:
    score_map = np.array([[0.9, 0.5], [0.7, 0.1]], np.float32)
    mask = np.array([[255, 255], [0, 0]], np.uint8)
    counts = segmentation_counts(score_map, mask, threshold=0.5)
    assert counts == SegmentationCounts(tp=1, fp=1, fn=1)
    assert f1(counts) == 0.5
    assert iou(counts) == 1 / 3


def test_counts_add_up_to_the_pooled_images() -> None:
    rng = np.random.default_rng(0)
    maps = [rng.random(shape) for shape in ((7, 9), (4, 5), (12, 3))]
    masks = [rng.random(m.shape) > 0.7 for m in maps]
    each = [segmentation_counts(m, k, threshold=0.6) for m, k in zip(maps, masks, strict=True)]
    pooled = sum(each, SegmentationCounts())
    truth = np.concatenate([k.ravel() for k in masks])
    found = np.concatenate([m.ravel() for m in maps]) > 0.6
    assert f1(pooled) == pytest.approx(f1_score(truth, found), rel=1e-12)
    assert iou(pooled) == pytest.approx(jaccard_score(truth, found), rel=1e-12)


def test_found_nothing_is_zero_but_no_defect_is_undefined() -> None:
    assert f1(SegmentationCounts(fn=5)) == iou(SegmentationCounts(fn=5)) == 0.0
    with pytest.raises(NotComputable, match="F1 is undefined without a defect pixel"):
        f1(SegmentationCounts())
    with pytest.raises(NotComputable, match=r"IoU is undefined .* \(3 good pixels"):
        iou(SegmentationCounts(fp=3))


def test_class_mean_iou() -> None:
    """By hand, and by scikit-learn over pixels of both classes."""
    counts = SegmentationCounts(tp=3, fp=1, fn=2)
    assert class_mean_iou(counts, pixels=10) == pytest.approx((3 / 6 + 4 / 7) / 2)
    assert class_mean_iou(SegmentationCounts(tp=2), pixels=9) == 1.0
    assert class_mean_iou(SegmentationCounts(fn=2), pixels=8) == (0 + 6 / 8) / 2  # finds nothing
    assert class_mean_iou(SegmentationCounts(tp=2, fp=6), pixels=8) == (2 / 8 + 0) / 2
    rng = np.random.default_rng(2)
    scores, mask = rng.random((12, 15)), rng.random((12, 15)) > 0.8
    pooled = segmentation_counts(scores, mask, threshold=0.7)
    expected = jaccard_score(mask.ravel(), scores.ravel() > 0.7, average="macro")
    assert class_mean_iou(pooled, pixels=mask.size) == pytest.approx(expected, rel=1e-12)
    with pytest.raises(NotComputable, match="mIoU is undefined without a defect pixel"):
        class_mean_iou(SegmentationCounts(fp=1), pixels=4)
    with pytest.raises(NotComputable, match="mIoU is undefined without a good pixel: all 4 are"):
        class_mean_iou(SegmentationCounts(tp=3, fn=1), pixels=4)


def test_means_over_defective_images() -> None:
    rng = np.random.default_rng(1)
    maps = [rng.random((9, 9)) for _ in range(4)]
    masks = [rng.random((9, 9)) > limit for limit in (0.5, 0.9, 2.0, 0.7)]
    each = [segmentation_counts(m, k, threshold=0.6) for m, k in zip(maps, masks, strict=True)]
    pairs = [((k).ravel(), (m > 0.6).ravel()) for m, k in zip(maps, masks, strict=True) if k.any()]
    assert len(pairs) == 3  # the good image has no overlap to speak of
    assert mean_f1(each) == pytest.approx(np.mean([f1_score(*pair) for pair in pairs]), rel=1e-12)
    expected = np.mean([jaccard_score(*pair) for pair in pairs])
    assert mean_iou(iter(each)) == pytest.approx(expected, rel=1e-12)
    with pytest.raises(NotComputable, match="the mean F1 of images is undefined: no image has"):
        mean_f1([SegmentationCounts(fp=1)])
    with pytest.raises(NotComputable, match="the mean IoU of images is undefined"):
        mean_iou([])


def test_bad_input() -> None:
    with pytest.raises(MapError, match=r"map is \(2, 2\) but mask is \(2, 3\)"):
        segmentation_counts(np.zeros((2, 2)), np.zeros((2, 3), bool), threshold=0.5)
    with pytest.raises(InputError, match="threshold is NaN"):
        segmentation_counts(np.zeros((2, 2)), np.zeros((2, 2), bool), threshold=float("nan"))
