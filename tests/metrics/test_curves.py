"""The points for plots: the whole curve, or one that is off by no more than it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import auc, precision_recall_curve, roc_curve

from anomaly_u2net.errors import InputError, NotComputable
from anomaly_u2net.metrics import CurvePoints, PixelCurve, image_curve, pixel_curve


def random_curve(seed: int, *, size: int = 30, levels: int | None = None) -> PixelCurve:
    rng = np.random.default_rng(seed)
    masks = np.zeros((3, size, size), bool)
    masks[0, : size // 3, : size // 3] = masks[1, -3:, -5:] = masks[1, 0, 0] = True
    maps = rng.random(masks.shape) + rng.uniform(0, 1) * masks
    return pixel_curve(np.floor(maps * levels) if levels else maps, masks)


def distance(full: CurvePoints, thin: CurvePoints, name: str) -> float:
    """The largest of the smallest distances, max of x and y, from the full curve to the thin one.

    The thin polyline is sampled densely, which can only overstate the distance.
    """
    along = np.linspace(0, 1, 400)[:, None]
    corners = np.stack([thin.fpr, getattr(thin, name)], axis=1)
    line = (corners[:-1] + along[..., None] * np.diff(corners, axis=0)).reshape(-1, 2)
    points = np.stack([full.fpr, getattr(full, name)], axis=1)
    return max(float(np.abs(line - p).max(axis=1).min()) for p in points)


def test_all_corners_by_hand() -> None:
    # scores .9 defective, .5 defective and good, .2 good
    points = image_curve([0.9, 0.5, 0.5, 0.2], [1, 1, 0, 0]).points()
    assert points.tpr.tolist() == [0, 0, 0.5, 0.5, 1, 1]
    assert points.fpr.tolist() == [0, 0, 0, 0, 0.5, 1]
    assert points.precision.tolist() == [1, 1, 1, 1, 2 / 3, 0.5]
    assert points.thresholds.tolist() == [
        np.inf, 0.9, np.nextafter(0.9, 0), 0.5, np.nextafter(0.5, 0), -np.inf,
    ]  # fmt: skip
    assert points.pro is None
    assert points.error == 0.0


def test_the_full_curve_is_that_of_sklearn_and_has_its_area() -> None:
    rng = np.random.default_rng(0)
    labels, scores = rng.random(200) > 0.6, np.round(rng.random(200), 2)
    curve = image_curve(scores, labels)
    points = curve.points()
    assert points.error == 0.0
    assert auc(points.fpr, points.tpr) == pytest.approx(curve.auroc(), abs=1e-12)
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    pairs = set(zip(points.fpr.round(9), points.tpr.round(9), strict=True))
    ours = {(f, t) for f, t in pairs}
    on_curve = [pair for pair in zip(fpr.round(9), tpr.round(9), strict=True) if pair in ours]
    assert len(on_curve) >= len(np.unique(scores[labels]))
    precision, recall, _ = precision_recall_curve(labels, scores)
    theirs = set(zip(recall.round(9), precision.round(9), strict=True))
    assert theirs >= {
        (r, p)
        for r, p in zip(points.tpr.round(9)[2:-1:2], points.precision.round(9)[2:-1:2], strict=True)
    }


def test_points_count_what_their_threshold_says() -> None:
    for levels in (None, 5):
        rng = np.random.default_rng(1)
        labels = rng.random(300) > 0.5
        scores = rng.random(300) if levels is None else np.floor(rng.random(300) * levels)
        points = image_curve(scores, labels).points(40)
        for threshold, fpr, tpr in zip(points.thresholds, points.fpr, points.tpr, strict=True):
            assert np.mean(scores[~labels] > threshold) == pytest.approx(fpr)
            assert np.mean(scores[labels] > threshold) == pytest.approx(tpr)


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    levels=st.sampled_from([None, 3, 30]),
    most=st.integers(10, 300),
)
def test_thinned_curves_are_within_their_stated_error(
    seed: int, levels: int | None, most: int
) -> None:
    curve = random_curve(seed, levels=levels)
    full, thin = curve.points(10**6), curve.points(most)
    assert full.error == 0.0
    assert len(thin.fpr) <= most
    for values in (thin.fpr, thin.tpr, thin.pro):
        assert values is not None
        assert values[0] == 0.0
        assert values[-1] == 1.0
        assert (np.diff(values) >= 0).all()
    assert (np.diff(thin.thresholds) < 0).all()
    sampled = 1 / 400
    assert distance(full, thin, "tpr") <= thin.error + sampled
    assert distance(full, thin, "pro") <= thin.error + sampled
    # precision, against recall, between the two kept neighbours of each corner
    place = np.searchsorted(-thin.thresholds, -full.thresholds, side="right") - 1
    place = np.minimum(place, len(thin.fpr) - 2)
    wide = thin.tpr[place + 1] - thin.tpr[place]
    part = np.divide(full.tpr - thin.tpr[place], wide, out=np.zeros(len(wide)), where=wide > 0)
    line = thin.precision[place] + part * (thin.precision[place + 1] - thin.precision[place])
    inside = ~np.isin(full.thresholds, thin.thresholds)
    off = np.abs(line - full.precision)[inside]
    assert off.max(initial=0.0) <= thin.error + 1e-12
    changed = 5 + np.log(curve.negatives + curve.positives)
    assert thin.error <= max(changed / ((most - 2) // 2 - 1), 0) + 1e-9


def test_aupro_of_a_perfect_map_is_not_above_one() -> None:
    """The shares of these nine regions add up to 1 + 2e-16."""
    mask = np.zeros((36, 30), bool)
    for region in range(9):
        mask[4 * region, : region + 3] = True
    scores = np.where(mask, 1.0 + np.arange(mask.size).reshape(mask.shape), 0.0)
    assert pixel_curve([scores], [mask]).aupro() == 1.0


def test_a_thousand_points_are_enough_for_a_plot() -> None:
    assert random_curve(0, size=120).points().error < 0.01


def test_errors() -> None:
    with pytest.raises(InputError, match="10 or more points for a curve, got max_points 9"):
        random_curve(0).points(9)
    with pytest.raises(NotComputable, match="the curve is undefined without a good image"):
        image_curve([1.0], [1]).points()
    with pytest.raises(NotComputable, match="the curve is undefined without a defective image"):
        image_curve([1.0], [0]).points()
