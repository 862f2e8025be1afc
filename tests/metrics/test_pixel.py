"""Pixel metrics against hand counts, scikit-learn, a brute-force AUPRO and the reference values."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label as scipy_label
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from anomaly_u2net.errors import InputError, MapError, NotComputable
from anomaly_u2net.metrics import (
    aupro,
    pixel_ap,
    pixel_auroc,
    pixel_best_f1,
    pixel_curve,
    pixel_f1_max,
)

RTOL = 1e-12

Images = tuple[list[np.ndarray], list[np.ndarray]]


def brute_aupro(maps: list[np.ndarray], masks: list[np.ndarray], limit: float) -> float:
    """AUPRO by its definition: every threshold of every pixel, region by region, in float64."""
    regions = []
    for score_map, mask in zip(maps, masks, strict=True):
        labels, number = scipy_label(mask != 0, structure=np.ones((3, 3)))
        regions += [score_map[labels == k] for k in range(1, number + 1)]
    good = np.concatenate([m[k == 0] for m, k in zip(maps, masks, strict=True)])
    thresholds = np.unique(np.concatenate([m.ravel() for m in maps]))[::-1]
    points = [(0.0, 0.0)]
    for threshold in thresholds:
        overlaps = [np.mean(region >= threshold, dtype=np.float64) for region in regions]
        points.append((float(np.mean(good >= threshold)), float(np.mean(overlaps))))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 >= limit:
            break
        if x1 > limit:
            x1, y1 = limit, y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


def sklearn_numbers(maps: list[np.ndarray], masks: list[np.ndarray]) -> tuple[float, float, float]:
    """AUROC, AP and F1-max of the pooled pixels."""
    scores = np.concatenate([m.ravel() for m in maps])
    truth = np.concatenate([k.ravel() != 0 for k in masks])
    precision, recall, _ = precision_recall_curve(truth, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    return roc_auc_score(truth, scores), average_precision_score(truth, scores), f1.max()


def random_images(
    seed: int, *, levels: int | None = None, dtype: type = np.float32, count: int = 4
) -> Images:
    """Images of unequal sizes with rectangles as defects; few ``levels`` of score make many ties.

    The first has a defect pixel and a good one, the last has no defect.
    """
    rng = np.random.default_rng(seed)
    maps, masks = [], []
    for index in range(count):
        height, width = rng.integers(5, 14, 2)
        mask = np.zeros((height, width), np.uint8)
        mask[0, 0] = index == 0
        for _ in range(rng.integers(1, 4) if index < count - 1 else 0):
            y, x = rng.integers(0, height - 1), rng.integers(0, width - 1)
            mask[y : y + rng.integers(1, 5), x : x + rng.integers(1, 5)] = 255
        mask[-1, -1] = 0
        scores = rng.random((height, width)) + 0.4 * (mask > 0)
        maps.append((scores if levels is None else np.floor(scores * levels)).astype(dtype))
        masks.append(mask)
    return maps, masks


def test_four_pixels_by_hand() -> None:
    # Scores falling: defect .9, good .8, defect .7 tied with good .7, good .1, good 0. N=4, P=2.
    maps = [np.array([[0.9, 0.8, 0.7, 0.7, 0.1, 0.0]])]
    masks = [np.array([[1, 0, 1, 0, 0, 0]], bool)]
    curve = pixel_curve(maps, masks)
    assert curve.scores.tolist() == [0.9, 0.7]
    assert curve.tp.tolist() == [1, 2]
    assert curve.fp_above.tolist() == [0, 1]
    assert curve.fp.tolist() == [0, 2]
    assert curve.overlap.tolist() == [0.5, 0.5]
    assert (curve.negatives, curve.positives, curve.regions) == (4, 2, 2)
    # .9 beats 4 of 4; .7 beats 2 and ties 1 of 4: (4 + 2.5) / 8
    assert curve.auroc() == 6.5 / 8
    # recall 1/2 at precision 1, then 1/2 at precision 2/4
    assert curve.ap() == 0.75
    # at .9: 2/(2+0+1) = 2/3; at .7: 4/(4+2+0) = 2/3; the highest threshold of equal ones is given
    assert curve.f1_max() == pytest.approx(2 / 3, rel=RTOL)
    assert 0.8 < curve.best_f1().threshold < 0.9
    # PRO is 1/2 up to FPR 1/4, climbs to 1 at 1/2: area up to .5 = .125 + .1875
    assert curve.aupro(fpr_limit=0.5) == pytest.approx(0.3125 / 0.5, rel=RTOL)
    # cut inside the tie at FPR 3/8, where PRO is 3/4: area = .125 + .125 * .625
    assert curve.aupro(fpr_limit=0.375) == pytest.approx((0.125 + 0.078125) / 0.375, rel=RTOL)


def test_regions_count_alike_whatever_their_size() -> None:
    # A found region of 1 pixel and a missed one of 9: PRO 1/2, while AUROC sees one pixel in ten.
    score_map, mask = np.full((6, 6), 0.5), np.zeros((6, 6), bool)
    mask[0, 0] = mask[3:6, 3:6] = True
    score_map[3:6, 3:6], score_map[0, 0] = 0.1, 0.9
    assert aupro([score_map], [mask]) == pytest.approx(0.5, rel=RTOL)
    assert pixel_auroc([score_map], [mask]) == pytest.approx(0.1, rel=RTOL)


def test_pixels_touching_at_a_corner_are_one_region() -> None:
    assert pixel_curve([np.eye(3)], [np.eye(3, dtype=bool)]).regions == 1


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("levels", [None, 1, 7])
def test_agrees_with_sklearn_and_with_the_definition(dtype: type, levels: int | None) -> None:
    for seed in range(5):
        maps, masks = random_images(seed, levels=levels, dtype=dtype)
        auroc, ap, f1 = sklearn_numbers(maps, masks)
        assert pixel_auroc(maps, masks) == pytest.approx(auroc, rel=RTOL)
        assert pixel_ap(maps, masks) == pytest.approx(ap, rel=RTOL)
        assert pixel_f1_max(maps, masks) == pytest.approx(f1, rel=RTOL)
        for limit in (0.01, 0.3, 1.0):
            expected = brute_aupro(maps, masks, limit)
            assert aupro(maps, masks, fpr_limit=limit) == pytest.approx(expected, rel=RTOL)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    levels=st.sampled_from([1, 2, 3, 16, None]),
    count=st.integers(1, 3),
    limit=st.floats(1e-3, 1.0),
)
def test_any_images_with_ties(seed: int, levels: int | None, count: int, limit: float) -> None:
    maps, masks = random_images(seed, levels=levels, count=count + 1)
    curve = pixel_curve(maps, masks)
    ours = (curve.auroc(), curve.ap(), curve.f1_max())
    assert ours == pytest.approx(sklearn_numbers(maps, masks), rel=RTOL)
    assert curve.aupro(fpr_limit=limit) == pytest.approx(brute_aupro(maps, masks, limit), rel=1e-11)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), levels=st.sampled_from([3, None]))
def test_only_the_order_of_scores_matters(seed: int, levels: int | None) -> None:
    maps, masks = random_images(seed, levels=levels, dtype=np.float64)
    plain, moved = (
        pixel_curve(maps, masks),
        pixel_curve([np.exp(5 * m) - 1e3 for m in maps], masks),
    )
    assert plain.auroc() == moved.auroc()
    assert plain.ap() == moved.ap()
    assert plain.f1_max() == moved.f1_max()
    assert plain.aupro() == moved.aupro()


def test_order_of_images_does_not_matter() -> None:
    maps, masks = random_images(3, levels=9)
    there, back = pixel_curve(maps, masks), pixel_curve(maps[::-1], masks[::-1])
    assert there.auroc() == back.auroc()
    assert there.aupro() == pytest.approx(back.aupro(), rel=RTOL)


def test_a_good_image_without_alarm_dilutes_the_false_positive_rate_only() -> None:
    maps, masks = random_images(1)
    more_maps = [*maps, np.full((40, 40), -1.0, np.float32)]
    more_masks = [*masks, np.zeros((40, 40), bool)]
    before, after = pixel_curve(maps, masks), pixel_curve(more_maps, more_masks)
    assert after.regions == before.regions
    assert after.negatives == before.negatives + 1600
    assert after.ap() == before.ap()
    assert after.auroc() > before.auroc()
    # the false positive rate shrinks by one factor, so the limit that shrinks with it sees the same
    shrunk = 0.3 * before.negatives / after.negatives
    assert after.aupro(fpr_limit=shrunk) == pytest.approx(before.aupro(fpr_limit=0.3), rel=1e-11)


def test_perfect_and_constant_maps() -> None:
    masks = random_images(5)[1]
    perfect = pixel_curve([(k > 0).astype(np.float32) for k in masks], masks)
    assert (perfect.auroc(), perfect.ap(), perfect.f1_max()) == (1.0, 1.0, 1.0)
    assert perfect.aupro() == pytest.approx(1.0, rel=RTOL)
    constant = pixel_curve([np.zeros(k.shape, np.float32) for k in masks], masks)
    share = constant.positives / (constant.positives + constant.negatives)
    assert constant.auroc() == 0.5
    assert constant.ap() == pytest.approx(share, rel=RTOL)
    # one straight line from (0, 0) to (1, 1): its area up to L is L² / 2
    assert constant.aupro(fpr_limit=0.3) == pytest.approx(0.15, rel=RTOL)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_best_threshold_reaches_its_f1_with_strictly_greater(dtype: type) -> None:
    for levels in (None, 6):
        maps, masks = random_images(8, levels=levels, dtype=dtype)
        best = pixel_best_f1(maps, masks)
        scores = np.concatenate([m.ravel() for m in maps])
        truth = np.concatenate([k.ravel() > 0 for k in masks])
        found = scores > best.threshold
        f1 = 2 * np.sum(found & truth) / (np.sum(found) + np.sum(truth))
        assert f1 == pytest.approx(best.value, rel=RTOL)
        assert best.value == pixel_f1_max(maps, masks)


def test_float64_scores_are_not_rounded_to_float32() -> None:
    mask = np.array([[1, 0]], bool)
    close = np.array([[0.5 + 1e-12, 0.5]])
    assert pixel_auroc([close], [mask]) == 1.0
    assert pixel_auroc([close.astype(np.float32)], [mask]) == 0.5
    # beside a float64 map, a float32 map is compared as float64
    tied = np.array([[0.5, 0.5]], np.float32)
    assert pixel_auroc([close, tied], [mask, mask]) == (1 + 1 + 0.5 + 0.5) / 4


def test_negative_zero_ties_with_zero() -> None:
    assert pixel_auroc([np.array([[0.0, -0.0]])], [np.array([[1, 0]])]) == 0.5


def test_stacked_and_listed_maps_are_the_same_and_stay_untouched() -> None:
    rng = np.random.default_rng(0)
    maps, masks = rng.random((3, 8, 9), np.float32), rng.random((3, 8, 9)) > 0.8
    kept = maps.copy()
    stacked = pixel_curve(maps, masks)
    listed = pixel_curve(list(maps), [255 * k.astype(np.int64) for k in masks])
    assert stacked.aupro() == listed.aupro()
    assert stacked.ap() == listed.ap()
    strided = pixel_curve(np.asfortranarray(maps), masks)
    assert strided.aupro() == stacked.aupro()
    np.testing.assert_array_equal(maps, kept)


def test_undefined_numbers_say_why() -> None:
    maps = np.zeros((2, 3, 3), np.float32)
    good = pixel_curve(maps, np.zeros((2, 3, 3), bool))
    for number in (good.auroc, good.ap, good.f1_max, good.aupro):
        with pytest.raises(
            NotComputable, match="without a defective pixel: all 18 pixels are good"
        ):
            number()
    bad = pixel_curve(maps, np.ones((2, 3, 3), bool))
    for number in (bad.auroc, bad.aupro):
        with pytest.raises(NotComputable, match="without a good pixel: all 18 pixels are defect"):
            number()
    assert bad.ap() == bad.f1_max() == 1.0
    with pytest.raises(NotComputable, match="no images"):
        pixel_auroc([], [])


@pytest.mark.parametrize("limit", [0.0, -0.1, 1.01, float("nan")])
def test_fpr_limit_outside_its_range(limit: float) -> None:
    with pytest.raises(InputError, match=r"fpr_limit in \(0, 1\]"):
        aupro([np.eye(3)], [np.eye(3, dtype=bool)], fpr_limit=limit)


def test_bad_images_are_named() -> None:
    ok, mask = np.zeros((4, 4), np.float32), np.eye(4, dtype=bool)
    broken = ok.copy()
    broken[0, :3] = np.nan, np.inf, -np.inf
    with pytest.raises(MapError, match="map 1: 3 of 16 pixels are NaN or infinite"):
        pixel_curve([ok, broken], [mask, mask])
    with pytest.raises(MapError, match=r"map 0 is \(4, 4\) but mask 0 is \(4, 5\)"):
        pixel_curve([ok], [np.zeros((4, 5), bool)])
    with pytest.raises(MapError, match="got 2 maps and 1 masks"):
        pixel_curve([ok, ok], [mask])
    with pytest.raises(MapError, match=r"map 0: expected float16, float32 or float64 .* int64"):
        pixel_curve([np.zeros((4, 4), np.int64)], [mask])
    with pytest.raises(MapError, match=r"map 0: expected a plane .* shape \(1, 4, 4\)"):
        pixel_curve([ok[None]], [mask])
    with pytest.raises(MapError, match=r"mask 0: expected a bool or integer mask .* float64"):
        pixel_curve([ok], [mask.astype(float)])


@pytest.fixture(scope="module")
def reference() -> Path:
    data = os.environ.get("ANOMALY_U2NET_DATA")
    folder = Path(data).parent / "reference" if data else None
    if folder is None or not (folder / "values.json").is_file():
        pytest.skip("no reference maps: ANOMALY_U2NET_DATA is unset or has none beside it")
    return folder


@pytest.mark.parametrize("kind", ["smooth", "levels16", "noise", "saturated"])
def test_reference_values(reference: Path, kind: str) -> None:
    with np.load(reference / "maps_30x128.npz") as arrays:
        masks = arrays["masks"]
        maps = np.floor(arrays["smooth"] * 16) / 16 if kind == "levels16" else arrays[kind]
    expected = json.loads((reference / "values.json").read_text())["values"][kind]
    curve = pixel_curve(maps, masks)
    assert curve.auroc() == pytest.approx(expected["pixel_auroc"], rel=RTOL)
    assert curve.ap() == pytest.approx(expected["pixel_ap"], rel=RTOL)
    assert curve.f1_max() == pytest.approx(expected["pixel_f1_max"], rel=RTOL)
    assert curve.aupro() == pytest.approx(expected["aupro@0.3"], abs=1e-8)
    assert curve.aupro(fpr_limit=0.05) == pytest.approx(expected["aupro@0.05"], abs=1e-8)
