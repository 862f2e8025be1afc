"""Per-image histograms against the exact counts of rounded maps, the pooled histogram, exact intervals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_u2net.errors import MapError, NotComputable
from anomaly_u2net.metrics import (
    CurvesByImage,
    ImageHistograms,
    Interval,
    PixelHistogram,
    bootstrap_interval,
    paired_difference,
    pixel_curve,
    pixels_by_image,
)
from anomaly_u2net.metrics.keys import score_keys

KINDS = ("logits", "probabilities", "saturated", "levels", "float64", "negative")


def images(kind: str, *, count: int = 20, size: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """Maps (N, H, W) and masks; every other image has a stain and a spot, seen more or less."""
    rng = np.random.default_rng(3)
    maps = rng.normal(-3, 1.5, (count, size, size))
    masks = np.zeros(maps.shape, bool)
    for index in range(0, count, 2):
        top, left = rng.integers(0, size - 40, 2)
        masks[index, top : top + 20, left : left + 12] = True
        masks[index, top + 30 : top + 34, left + 30 : left + 34] = True
        maps[index][masks[index]] += rng.uniform(0, 5)
    if kind in ("probabilities", "saturated", "levels"):
        maps = 1 / (1 + np.exp(-(4 if kind == "saturated" else 1) * maps))
    if kind == "levels":
        maps = np.round(maps * 20) / 20
    if kind == "negative":
        maps -= 8
    return maps.astype(np.float64 if kind == "float64" else np.float32), masks


def counted(maps: np.ndarray, masks: np.ndarray) -> ImageHistograms:
    histograms = ImageHistograms()
    for score_map, mask in zip(maps, masks, strict=True):
        histograms.update(score_map, mask)
    return histograms


def intervals(
    curves: CurvesByImage,
    groups: list[str | None],
    *,
    values: dict[str, Interval] | None = None,
) -> dict[str, Interval]:
    """Of every number, around ``values`` where they are known better, as a streamed one is."""
    numbers = {
        "auroc": curves.auroc(),
        "ap": curves.ap(),
        "f1_max": curves.f1_max(),
        "aupro": curves.aupro(),
        "aupro_0.05": curves.aupro(fpr_limit=0.05),
    }
    found = {}
    for name, number in numbers.items():
        centred = replace(number, value=number.value if values is None else values[name].value)
        found[name] = bootstrap_interval(centred, groups=groups)
    return found


def test_by_hand() -> None:
    """Two regions, of 2 and 1 pixels; the lone one ties with a good pixel."""
    scores = np.array([[0.5, 0.25, 0.125, 0.25, 0.0]], np.float32)
    histograms = counted(scores[None], np.array([[[1, 1, 0, 0, 0]]]))
    histograms.update(scores, [[0, 0, 1, 0, 0]])
    curve = histograms.curve()
    assert (curve.positives, curve.negatives, curve.regions) == (3, 7, 2)
    assert curve.tp.tolist() == [1, 2, 3]  # at 0.5, 0.25, 0.125
    assert (curve.fp_above.tolist(), curve.fp.tolist()) == ([0, 1, 4], [1, 4, 5])
    assert curve.overlap.tolist() == [0.25, 0.25, 0.5]
    alone = histograms.curve([1])
    assert (alone.positives, alone.negatives, alone.regions) == (1, 4, 1)
    # Good: 3 bins and 4; defect: 2 and 1.
    assert histograms.nbytes == 6 * (3 + 3) + 14 * (2 + 1)
    counts = histograms.by_image().counts
    assert counts[:, :3].tolist() == [[2, 3, 1], [1, 4, 1]]


@pytest.mark.parametrize("kind", KINDS)
def test_they_are_the_exact_counts_of_the_rounded_maps(kind: str) -> None:
    maps, masks = images(kind, count=6, size=64)
    keys = score_keys(maps.astype(np.float32), bits=16).astype(np.float32)
    exact = pixel_curve(keys, masks)
    ours = counted(maps, masks)
    curve = ours.curve()
    for name in ("scores", "tp", "fp", "fp_above"):
        assert np.array_equal(getattr(curve, name), getattr(exact, name)), name
    assert curve.overlap == pytest.approx(exact.overlap, abs=1e-12)
    for corners in (64, 4096):
        theirs = pixels_by_image(keys, masks, corners=corners)
        found = ours.by_image(corners=corners)
        assert found.counts == pytest.approx(theirs.counts, abs=1e-9)
        assert np.array_equal(found.ties, theirs.ties)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.sampled_from([1e-6, 0.3, 1.0, 40.0]))
def test_images_add_up_to_the_pooled_histogram(seed: int, count: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    ours, pooled = ImageHistograms(), PixelHistogram(bits=16)
    for _ in range(count):
        scores = rng.normal(0, scale, rng.integers(1, 12, 2)).astype(np.float32)
        mask = rng.random(scores.shape) < rng.choice([0.0, 0.3, 1.0])
        ours.update(scores, mask)
        pooled.update(scores, mask)
    curve, arrays = ours.curve(), pooled.to_arrays()
    with_defects = arrays["positives"] > 0
    assert np.array_equal(curve.scores[::-1], arrays["keys"][with_defects])
    falling = {name: arrays[name][::-1] for name in ("negatives", "positives", "overlap")}
    at = with_defects[::-1]
    assert np.array_equal(curve.tp, np.cumsum(falling["positives"])[at])
    assert np.array_equal(curve.fp, np.cumsum(falling["negatives"])[at])
    assert curve.negatives == arrays["negatives"].sum()
    shares = falling["overlap"][at] / 2**40 / max(curve.regions, 1)
    assert curve.overlap == pytest.approx(shares, abs=1e-9)
    alone = [ours.curve([place]) for place in range(count)]
    assert sum(one.positives for one in alone) == curve.positives
    assert sum(one.negatives for one in alone) == curve.negatives
    assert sum(one.regions for one in alone) == curve.regions


@pytest.mark.parametrize("kind", KINDS)
def test_interval_ends_are_those_of_the_exact_engine(kind: str) -> None:
    """The same seed draws the same images; what differs is the rounding of the scores."""
    maps, masks = images(kind)
    parts = [None, *(f"part {index // 3}" for index in range(len(maps) - 1))]
    exact = intervals(pixels_by_image(maps, masks), parts)
    ours = intervals(counted(maps, masks).by_image(), parts, values=exact)
    for name, sure in exact.items():
        found = ours[name]
        assert sure.low < sure.value < sure.high
        assert (found.low, found.high) == pytest.approx((sure.low, sure.high), abs=1e-3), name
        assert (found.resamples, found.undefined) == (sure.resamples, sure.undefined)


def test_scores_that_share_bins_give_another_number() -> None:
    """Not for an interval then: `evaluation.pixels` compares the value with the certified one."""
    maps, masks = images("probabilities", count=12)
    close = (0.5 + 0.001 * maps).astype(np.float32)
    histograms = counted(close, masks)
    assert histograms.curve().scores.size < 4
    assert abs(histograms.curve().ap() - pixel_curve(close, masks).ap()) > 0.01


def test_differences_are_those_of_the_exact_engine() -> None:
    maps, masks = images("probabilities")
    worse = np.clip(maps + np.random.default_rng(1).normal(0, 0.1, maps.shape), 0, 1)
    worse = worse.astype(np.float32)
    sure = paired_difference(
        pixels_by_image(maps, masks).ap(), pixels_by_image(worse, masks).ap(), resamples=400
    )
    found = paired_difference(
        counted(maps, masks).by_image().ap(), counted(worse, masks).by_image().ap(), resamples=400
    )
    assert sure.low > 0
    assert (found.low, found.high) == pytest.approx((sure.low, sure.high), abs=1e-3)


def test_what_an_image_takes_is_what_its_arrays_take() -> None:
    maps, masks = images("probabilities", count=2)
    histograms = counted(maps, masks)
    arrays = ("good_keys", "good", "defect_keys", "defect", "overlap")
    held = sum(getattr(one, name).nbytes for one in histograms._images for name in arrays)
    assert histograms.nbytes == held
    assert held < 2 * (6 * 24_049 + 14 * 256)
    assert len(histograms) == 2


def test_nothing_to_count_and_bad_input() -> None:
    histograms = ImageHistograms()
    with pytest.raises(NotComputable, match="there are no images to measure on"):
        histograms.curve()
    histograms.update(np.zeros((2, 2), np.float32), np.zeros((2, 2), bool))
    with pytest.raises(NotComputable, match="all 4 pixels are good: there is nothing to resample"):
        histograms.by_image()
    with pytest.raises(MapError, match=r"map 1: 1 of 2 pixels are NaN or infinite"):
        histograms.update([[0.0, np.nan]], [[0, 1]])
    with pytest.raises(MapError, match=r"map 1 is \(1, 1\) but mask 1 is \(1, 2\)"):
        histograms.update([[0.0]], [[0, 1]])
    assert len(histograms) == 1
    histograms.update([[1e300, -1e300, 0.0]], [[1, 0, 0]])  # beyond float32: the last keys
    assert histograms.curve().auroc() == 1.0
