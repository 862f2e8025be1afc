"""AUPIMO against hand counts, its definition written out, and anomalib."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_u2net.errors import InputError, MapError, NotComputable
from anomaly_u2net.metrics import aupimo, fpr_per_image, pimo_curve

Images = tuple[list[np.ndarray], list[np.ndarray]]


def brute_aupimo(maps: list, masks: list, lower: float, upper: float) -> list[float]:
    """Piece by piece between all the rates there are, the threshold looked up for each."""
    good = [m for m, k in zip(maps, masks, strict=True) if not k.any()]
    candidates = np.unique(np.concatenate([m.ravel() for m in good]))
    rates = np.array([np.mean([np.mean(m > t) for m in good]) for t in candidates])
    ends = sorted({lower, upper, *(r for r in rates if lower < r < upper)})
    found = []
    for score_map, mask in zip(maps, masks, strict=True):
        if mask.any():
            area = 0.0
            for start, end in pairwise(ends):
                threshold = candidates[rates <= np.sqrt(start * end)].min()
                area += np.mean(score_map[mask > 0] > threshold) * np.log(end / start)
            found.append(area / np.log(upper / lower))
    return found


def random_images(seed: int, *, levels: int | None = None, dtype: type = np.float32) -> Images:
    """Images of unequal sizes, every other one with a defect."""
    rng = np.random.default_rng(seed)
    maps, masks = [], []
    for index in range(6):
        mask = np.zeros(rng.integers(6, 14, 2), np.uint8)
        if index % 2:
            mask[1:4, 2:5] = 255
        score_map = rng.random(mask.shape) + 0.6 * rng.random() * (mask > 0)
        maps.append((np.floor(score_map * levels) if levels else score_map).astype(dtype))
        masks.append(mask)
    return maps, masks


def test_by_hand() -> None:
    good = np.arange(100.0).reshape(10, 10)
    bad = np.array([[98.5, 97.5, 96.5, 0.0]])
    masks = [np.zeros((10, 10), bool), np.array([[1, 1, 1, 1]])]
    # at a rate of 1 % the threshold is 98, at 2 % 97, at 3 % 96: overlaps 1/4, 2/4, 3/4
    curve = pimo_curve([good, bad], masks, fpr_limits=(0.01, 0.04))
    assert curve.thresholds.tolist() == [98, 97, 96]
    assert curve.fpr.tolist() == pytest.approx([0.01, 0.02, 0.03])
    assert curve.overlap.tolist() == [[0.25, 0.5, 0.75]]
    assert curve.images.tolist() == [1]
    log = np.log([0.01, 0.02, 0.03, 0.04])
    expected = np.dot([0.25, 0.5, 0.75], np.diff(log)) / (log[-1] - log[0])
    assert curve.mean() == pytest.approx(expected, rel=1e-12)
    # rates that no threshold has: below 1 % only the maximum is safe, and no pixel beats it
    assert aupimo([good, bad], masks, fpr_limits=(1e-5, 1e-4)) == 0.0
    # every good image counts alike: one that is always silent halves all rates
    three = [good, bad, np.full((50, 50), -1.0)], [*masks, np.zeros((50, 50), bool)]
    assert aupimo(*three, fpr_limits=(0.005, 0.02)) == pytest.approx(expected, rel=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    levels=st.sampled_from([None, 2, 9]),
    lower=st.sampled_from([1e-5, 0.002, 0.05]),
    upper=st.sampled_from([0.1, 0.5, 1.0]),
)
def test_agrees_with_the_definition(
    seed: int, levels: int | None, lower: float, upper: float
) -> None:
    maps, masks = random_images(seed, levels=levels)
    curve = pimo_curve(maps, masks, fpr_limits=(lower, upper))
    assert curve.per_image() == pytest.approx(brute_aupimo(maps, masks, lower, upper), abs=1e-12)
    assert curve.images.tolist() == [1, 3, 5]
    moved = [np.exp(m.astype(np.float64)) - 7 for m in maps]
    assert aupimo(moved, masks, fpr_limits=(lower, upper)) == pytest.approx(curve.mean(), abs=1e-12)


def test_agrees_with_anomalib() -> None:
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("anomalib.metrics.pimo.functional")
    rng = np.random.default_rng(0)
    maps = rng.standard_normal((16, 256, 256)).astype(np.float32)
    masks = np.zeros(maps.shape, bool)
    for index in range(8):
        masks[index, 40:90, 30:60] = True
        maps[index][masks[index]] += rng.uniform(2, 6)
    *_, theirs, points = functional.aupimo_scores(
        torch.from_numpy(maps),
        torch.from_numpy(masks),
        num_thresholds=20_000,
        fpr_bounds=(1e-4, 1e-2),
    )
    assert points > 300
    ours = pimo_curve(maps, masks, fpr_limits=(1e-4, 1e-2)).per_image()
    # they take evenly spaced thresholds and the nearest rates to the limits, joined by lines
    assert 0.05 < ours.min() < ours.max() < 1.0
    assert ours == pytest.approx(theirs[:8].numpy(), abs=2e-3)


def test_perfect_constant_and_float64_maps() -> None:
    masks = random_images(0)[1]
    assert aupimo([(k > 0).astype(np.float32) for k in masks], masks) == 1.0
    assert aupimo([np.zeros(k.shape) for k in masks], masks) == 0.0
    close = [np.full((9, 9), 0.5), np.full((2, 2), 0.5 + 1e-12)]
    assert aupimo(close, [np.zeros((9, 9), bool), np.ones((2, 2), bool)]) == 1.0


def test_fpr_of_each_good_image() -> None:
    maps, masks = random_images(1)
    thresholds = [0.9, -1.0, 0.3]
    found = fpr_per_image(maps, masks, thresholds=thresholds)
    assert found.shape == (3, 3)
    for row, index in zip(found, (0, 2, 4), strict=True):
        assert row.tolist() == [np.mean(maps[index].astype(np.float64) > t) for t in thresholds]
    curve = pimo_curve(maps, masks, fpr_limits=(0.01, 0.3))
    shared = fpr_per_image(maps, masks, thresholds=curve.thresholds).mean(axis=0)
    assert shared == pytest.approx(curve.fpr, abs=1e-12)
    assert fpr_per_image(maps[:1], masks[:1], thresholds=[2.0]).tolist() == [[0.0]]


def test_undefined_and_bad_input() -> None:
    plane, none, full = np.zeros((3, 3)), np.zeros((3, 3), bool), np.ones((3, 3), bool)
    with pytest.raises(NotComputable, match="all 2 images are defective: there is no shared FPR"):
        aupimo([plane, plane], [full, full])
    with pytest.raises(NotComputable, match="all 2 images are good: AUPIMO is undefined"):
        aupimo([plane, plane], [none, none])
    with pytest.raises(NotComputable, match="no images"):
        aupimo([], [])
    for limits in ((0.0, 0.1), (0.1, 0.1), (0.1, 1.1), (float("nan"), 0.1)):
        with pytest.raises(InputError, match="0 < lower < upper <= 1"):
            aupimo([plane, plane], [none, full], fpr_limits=limits)
    with pytest.raises(MapError, match="map 1: 9 of 9 pixels are NaN"):
        aupimo([plane, plane * np.nan], [none, full])
    with pytest.raises(InputError, match=r"thresholds \(T,\) without NaN, got shape \(1, 2\)"):
        fpr_per_image([plane], [none], thresholds=[[0.0, 1.0]])
