"""Intervals against resamples made pixel by pixel, scikit-learn's weights and binomial limits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta, binom
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from anomaly_u2net.errors import InputError, MapError, NotComputable
from anomaly_u2net.metrics import (
    CurvesByImage,
    SegmentationCounts,
    bootstrap_interval,
    f1,
    f1_by_image,
    iou,
    iou_by_image,
    paired_difference,
    pixel_curve,
    pixels_by_image,
    ratio_by_image,
    scores_by_image,
    segmentation_counts,
    share_by_image,
)
from anomaly_u2net.metrics.intervals import _weights

KINDS = ("smooth", "noise", "levels", "saturated", "float64")


def images(kind: str, *, count: int = 12, size: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """Maps (N, H, W) and masks; every other image has two discs, seen more or less."""
    rng = np.random.default_rng(5)
    rows, columns = np.mgrid[0:size, 0:size] / size
    maps = np.repeat(
        np.repeat(rng.normal(0.3, 0.08, (count, 10, 10)), size // 10, 1), size // 10, 2
    )
    maps += rng.normal(0, 0.03, maps.shape)
    masks = np.zeros(maps.shape, bool)
    for index in range(0, count, 2):
        for x, y in rng.uniform(0.1, 0.9, (2, 2)):
            far = (columns - x) ** 2 + (rows - y) ** 2
            masks[index] |= far < 0.07**2
            maps[index] += rng.uniform(0, 0.5) * np.exp(-far / (2 * 0.06**2))
    if kind == "noise":
        maps = rng.random(maps.shape)
    if kind == "levels":
        maps = np.floor(maps * 12)
    if kind == "saturated":
        maps = np.clip(maps * 2, 0, 1)
    return maps.astype(np.float64 if kind == "float64" else np.float32), masks


def numbers(curves: CurvesByImage) -> dict[str, tuple]:
    """By name: the number by image, and how an exact curve gives it."""
    return {
        "auroc": (curves.auroc(), lambda c: c.auroc()),
        "ap": (curves.ap(), lambda c: c.ap()),
        "f1_max": (curves.f1_max(), lambda c: c.f1_max()),
        "aupro": (curves.aupro(), lambda c: c.aupro()),
        "aupro_0.05": (curves.aupro(fpr_limit=0.05), lambda c: c.aupro(fpr_limit=0.05)),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_resample_is_the_exact_number_of_the_drawn_images(kind: str) -> None:
    maps, masks = images(kind)
    whole = numbers(pixels_by_image(maps, masks, corners=10**6))
    thinned = numbers(pixels_by_image(maps, masks, corners=1024))
    weights = next(_weights(len(maps), 4, 0))
    for row in weights:
        drawn = np.repeat(np.arange(len(maps)), row.astype(int))
        curve = pixel_curve(maps[drawn], masks[drawn])
        for name, (number, exact) in whole.items():
            found = number.number(row[None] @ number.counts)[0]
            assert found == pytest.approx(exact(curve), abs=1e-12), name
            number, _ = thinned[name]
            found = number.number(row[None] @ number.counts)[0]
            assert found == pytest.approx(exact(curve), abs=3e-3 if name == "f1_max" else 5e-4), (
                name
            )


@pytest.mark.parametrize("kind", KINDS)
def test_the_default_corners_are_as_near_as_the_docs_say(kind: str) -> None:
    maps, masks = images(kind, count=16, size=160)
    curves = pixels_by_image(maps, masks)
    for row in next(_weights(len(maps), 3, 1)):
        drawn = np.repeat(np.arange(len(maps)), row.astype(int))
        curve = pixel_curve(maps[drawn], masks[drawn])
        for name, (number, exact) in numbers(curves).items():
            shift = number.value - number.number(number.counts.sum(0, keepdims=True))[0]
            found = number.number(row[None] @ number.counts)[0] + shift
            assert found == pytest.approx(exact(curve), abs=5e-4 if name == "f1_max" else 1e-4)


def test_image_scores_agree_with_weighted_sklearn() -> None:
    rng = np.random.default_rng(2)
    labels = np.arange(30) % 3 == 0
    scores = np.round(rng.random(30) + 0.3 * labels, 1)  # ties
    curves = scores_by_image(scores, labels)
    for row in next(_weights(30, 20, 0)):
        ours = [
            n.number(row[None] @ n.counts)[0]
            for n in (curves.auroc(), curves.ap(), curves.f1_max())
        ]
        precision, recall, _ = precision_recall_curve(labels, scores, sample_weight=row)
        f1_max = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-300))
        theirs = [
            roc_auc_score(labels, scores, sample_weight=row),
            average_precision_score(labels, scores, sample_weight=row),
            f1_max,
        ]
        assert ours == pytest.approx(theirs, abs=1e-12)


def test_the_value_is_the_exact_one_and_lies_inside() -> None:
    maps, masks = images("smooth", count=20)
    curve = pixel_curve(maps, masks)
    for number, exact in numbers(pixels_by_image(maps, masks, curve=curve)).values():
        found = bootstrap_interval(number, resamples=300)
        assert found.value == exact(curve)
        assert found.low < found.value < found.high
        assert (found.level, found.resamples, found.undefined) == (0.95, 300, 0)
        assert found == bootstrap_interval(number, resamples=300)
        assert found != bootstrap_interval(number, resamples=300, seed=1)
        wider = bootstrap_interval(number, resamples=300, level=0.99)
        assert wider.low <= found.low
        assert wider.high >= found.high


def test_a_share_has_the_binomial_interval() -> None:
    events = np.arange(100) < 20
    found = bootstrap_interval(share_by_image(events, np.ones(100, bool)), resamples=20_000)
    assert found.value == 0.2
    assert found.low == pytest.approx(binom.ppf(0.025, 100, 0.2) / 100, abs=0.011)
    assert found.high == pytest.approx(binom.ppf(0.975, 100, 0.2) / 100, abs=0.011)


def test_a_share_of_none_or_all_has_the_exact_binomial_limit() -> None:
    among = np.arange(60) < 40
    none = bootstrap_interval(share_by_image(np.zeros(60, bool), among))
    assert (none.value, none.low) == (0.0, 0.0)
    assert none.high == pytest.approx(beta.ppf(0.975, 1, 40), rel=1e-9)
    every = bootstrap_interval(share_by_image(among, among), groups=np.arange(60) // 2)
    assert (every.value, every.high) == (1.0, 1.0)
    assert every.low == pytest.approx(beta.ppf(0.025, 20, 1), rel=1e-9)  # 20 groups, not 40 images


def test_groups_are_drawn_whole() -> None:
    rng = np.random.default_rng(3)
    labels = np.arange(40) % 2
    scores = labels + rng.normal(size=40)
    once = bootstrap_interval(scores_by_image(scores, labels).auroc())
    four = scores_by_image(np.tile(scores, 4), np.tile(labels, 4)).auroc()
    grouped = bootstrap_interval(four, groups=[f"part {i % 40}" for i in range(160)])
    assert (grouped.low, grouped.high) == pytest.approx((once.low, once.high), abs=1e-12)
    alone = bootstrap_interval(four, groups=[None] * 160)
    assert alone == bootstrap_interval(four) == bootstrap_interval(four, groups=[""] * 160)
    assert (alone.high - alone.low) < 0.65 * (once.high - once.low)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(11)
    truth, held = 0.7602, 0  # P(X + 1 > Y) of standard normals: Phi(1 / sqrt 2)
    for trial in range(120):
        labels = np.arange(80) % 2
        number = scores_by_image(labels + rng.normal(size=80), labels).auroc()
        found = bootstrap_interval(number, resamples=200, seed=trial)
        held += found.low <= truth <= found.high
    assert binom.ppf(0.001, 120, 0.92) <= held <= 120


def test_pooled_f1_and_iou() -> None:
    maps, masks = images("smooth")
    each = [segmentation_counts(m, k, threshold=0.5) for m, k in zip(maps, masks, strict=True)]
    total = sum(each, SegmentationCounts())
    for number, exact in ((f1_by_image(each), f1), (iou_by_image(each), iou)):
        assert number.value == exact(total)
        for row in next(_weights(len(maps), 4, 0)):
            drawn = [each[i] for i in np.repeat(np.arange(len(maps)), row.astype(int))]
            expected = exact(sum(drawn, SegmentationCounts()))
            assert number.number(row[None] @ number.counts)[0] == pytest.approx(expected)
    with pytest.raises(NotComputable, match="F1 is undefined without a defect pixel"):
        f1_by_image([SegmentationCounts(fp=2)] * 9)


def test_resamples_without_a_defect_are_left_out_and_counted() -> None:
    labels = np.arange(100) < 5
    number = scores_by_image(np.arange(100.0), labels).auroc()
    found = bootstrap_interval(number, resamples=4000)
    assert found.resamples + found.undefined == 4000
    assert found.undefined == pytest.approx(4000 * 0.95**100, abs=30)
    # F1 of good images alone would be 0: it is left out as well
    counts = [SegmentationCounts(tp=3, fp=1)] * 5 + [SegmentationCounts(fp=1)] * 95
    assert bootstrap_interval(f1_by_image(counts), resamples=4000).undefined == found.undefined


def test_paired_difference() -> None:
    rng = np.random.default_rng(4)
    labels = np.arange(60) % 2
    part = rng.normal(size=60)  # what makes an image hard for both
    a = scores_by_image(labels + part, labels).auroc()
    b = scores_by_image(0.7 * labels + part + 0.05 * rng.normal(size=60), labels).auroc()
    same = paired_difference(a, a)
    assert (same.value, same.low, same.high, same.p) == (0.0, 0.0, 0.0, 1.0)
    there, back = paired_difference(a, b), paired_difference(b, a)
    assert there.value == a.value - b.value == -back.value
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=1e-12)
    assert there.p == back.p
    assert 0 < there.low < there.value < there.high
    assert there.p < 0.05
    apart = bootstrap_interval(a), bootstrap_interval(b)
    assert apart[0].low < apart[1].value  # the two intervals alone would not have told
    assert there.p >= 2 / 1001


def test_p_is_the_level_whose_interval_ends_at_zero() -> None:
    rng = np.random.default_rng(7)
    labels = np.arange(50) % 2
    a = scores_by_image(labels + rng.normal(size=50), labels).auroc()
    b = scores_by_image(0.8 * labels + rng.normal(size=50), labels).auroc()
    found = paired_difference(a, b, resamples=2000)
    inside = paired_difference(a, b, resamples=2000, level=1 - 0.9 * found.p)
    outside = paired_difference(a, b, resamples=2000, level=1 - min(1.1 * found.p, 0.999))
    assert inside.low <= 0 <= inside.high
    assert found.p > 0.99 or outside.low >= 0 or outside.high <= 0


def test_too_few_images_and_undefined_numbers() -> None:
    labels = np.arange(30) < 4
    number = scores_by_image(np.arange(30.0), labels).auroc()
    with pytest.raises(NotComputable, match=r"needs 5 or more images .* of 30 only 4 are"):
        bootstrap_interval(number)
    enough = scores_by_image(np.arange(30.0), np.arange(30) < 8).auroc()
    with pytest.raises(NotComputable, match="of 15 only 4 are"):
        bootstrap_interval(enough, groups=np.arange(30) // 2)
    with pytest.raises(NotComputable, match="without a good image"):
        scores_by_image(np.arange(9.0), np.ones(9, bool)).auroc()
    with pytest.raises(NotComputable, match="nothing to resample"):
        pixels_by_image(np.zeros((2, 3, 3)), np.zeros((2, 3, 3), bool))
    with pytest.raises(NotComputable, match="none of 3 images has anything to measure"):
        share_by_image(np.ones(3, bool), np.zeros(3, bool))


def test_bad_input() -> None:
    maps, masks = images("smooth", count=6)
    with pytest.raises(InputError, match="counted on other images"):
        pixels_by_image(maps, masks, curve=pixel_curve(maps[1:], masks[1:]))
    with pytest.raises(InputError, match="16 or more corners"):
        pixels_by_image(maps, masks, corners=4)
    with pytest.raises(MapError, match="got 6 maps and 5 masks"):
        pixels_by_image(maps, masks[1:])
    ten = share_by_image(np.arange(10) < 3, np.ones(10, bool))
    with pytest.raises(InputError, match="one group per image, got 9 groups for 10 images"):
        bootstrap_interval(ten, groups=["a"] * 9)
    with pytest.raises(InputError, match=r"9 resamples cannot show the tails of a 0\.95"):
        bootstrap_interval(ten, resamples=9)
    with pytest.raises(InputError, match=r"a level in \(0, 1\), got 1.5"):
        bootstrap_interval(ten, level=1.5)
    with pytest.raises(InputError, match=r"same images for both, .* got 10 and 9"):
        paired_difference(ten, share_by_image(np.arange(9) < 3, np.ones(9, bool)))
    with pytest.raises(InputError, match="AUPRO is a number of pixels"):
        scores_by_image(np.arange(9.0), np.arange(9) < 4).aupro()
    with pytest.raises(InputError, match="0 <= over <= under"):
        ratio_by_image([2.0], [1.0])
    with pytest.raises(InputError, match=r"one number per image, each \(N,\)"):
        ratio_by_image([1.0], [1.0, 2.0])
    with pytest.raises(InputError, match=r"two bools per image, .* got int64 \(2,\)"):
        share_by_image([0, 1], [True, True])
