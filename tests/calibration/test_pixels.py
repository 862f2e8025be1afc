"""Pixels kept or counted in bins: the same thresholds, within one bin and never below."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_u2net.calibration import HeldOutImages, Terms, pixel_false_share
from anomaly_u2net.errors import CalibrationError, InputError
from anomaly_u2net.metrics import pixel_best_f1
from anomaly_u2net.metrics.counts import segmentation_counts
from anomaly_u2net.metrics.keys import score_keys

Data = tuple[list[np.ndarray], list[np.ndarray], list[str | None]]


def images(seed: int, kind: str, *, good: int = 12, defective: int = 4) -> Data:
    """Maps of two sizes, the first pair of good images of one part."""
    random = np.random.default_rng(seed)
    maps, masks = [], []
    for index in range(good + defective):
        plane = random.normal(size=(5 + index % 2, 6))
        mask = np.zeros(plane.shape, bool)
        if index >= good:
            mask[1:4, 2:4] = True
            plane[mask] += 2
        plane = {
            "plain": plane,
            "ties": np.round(plane),
            "sure": 1 / (1 + np.exp(-8 * plane)),
            "low": plane - 1000,
        }[kind]
        maps.append(plane.astype(np.float32))
        masks.append(mask)
    return maps, masks, ["a", "a", *[None] * (good + defective - 2)]


def held(data: Data, terms: Terms, memory: int | None) -> HeldOutImages:
    found = HeldOutImages(terms, memory=memory)
    for plane, mask, group in zip(*data, strict=True):
        found.add(float(plane.max()), plane, mask, group=group)
    return found


def key(value: float) -> int:
    return int(score_keys(np.array([value], np.float32), bits=20)[0])


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 1000),
    kind=st.sampled_from(["plain", "ties", "sure", "low"]),
    alpha=st.floats(0.1, 0.8),
    memory=st.sampled_from([1, 1500]),  # from the first image, and in the middle
)
def test_streamed_is_the_exact_one_rounded_up_within_its_bin(
    seed: int, kind: str, alpha: float, memory: int
) -> None:
    data = images(seed, kind)
    terms = Terms(false_reject=alpha, pixel_rule="pixel_false_share")
    exact, streamed = held(data, terms, None), held(data, terms, memory)
    assert (exact.streamed, streamed.streamed) == (False, True)
    at, binned = exact.thresholds().pixel, streamed.thresholds().pixel
    assert at is not None
    assert binned is not None
    assert at.value == pixel_false_share(data[0][:12], alpha=alpha, groups=data[2][:12])
    assert binned.value >= at.value
    assert key(binned.value) == key(at.value)
    assert key(np.nextafter(np.float32(binned.value), np.float32(np.inf))) > key(at.value)
    # The promise side: no more is marked than risk control allows, image by image.
    shares = [float(np.mean(plane > np.float32(binned.value))) for plane in data[0][:12]]
    marked = (shares[0] + shares[1]) / 2 + sum(shares[2:])
    assert (marked + 1) / 12 <= alpha + 1e-9
    assert binned.promise == f"{at.promise} Streamed: " + binned.promise.split(" Streamed: ")[1]
    assert "rounded up to the edge" in binned.promise


@pytest.mark.parametrize("kind", ["plain", "ties", "sure", "low"])
def test_the_highest_f1(kind: str) -> None:
    data, terms = images(1, kind), Terms(false_reject=0.5)
    best, binned = (held(data, terms, memory).thresholds().pixel_best_f1 for memory in (None, 1))
    assert best is not None
    assert binned is not None
    assert best.value == pixel_best_f1(data[0], data[1]).threshold
    assert "Streamed: the highest at the edges of 2²⁰ bins" in binned.promise
    assert f1_at(data, binned.value) <= f1_at(data, best.value)
    assert f"({f1_at(data, binned.value):.4f})" in binned.promise
    high = float(binned.promise.rsplit("at most ", 1)[1].rstrip("."))
    assert f1_at(data, best.value) <= high  # as printed
    if kind == "plain":
        assert f1_at(data, binned.value) == f1_at(data, best.value)


def f1_at(data: Data, threshold: float) -> float:
    counts = [
        segmentation_counts(plane, mask, threshold=threshold)
        for plane, mask in zip(data[0], data[1], strict=True)
    ]
    tp, fp, fn = (sum(getattr(one, name) for one in counts) for name in ("tp", "fp", "fn"))
    return 2 * tp / (2 * tp + fp + fn)


@pytest.mark.parametrize("rule", ["false_reject", "missed_defects", "any_missed", "mean_sigma"])
def test_all_other_thresholds_are_the_same(rule: str) -> None:
    data = images(2, "plain", good=20, defective=19)
    terms = Terms(pixel_rule=rule)
    kept, binned = (held(data, terms, memory).thresholds() for memory in (None, 1))
    assert replace(binned, pixel_best_f1=None) == replace(kept, pixel_best_f1=None)


def test_what_is_held() -> None:
    data = images(3, "plain")
    size = sum(plane.nbytes for plane in data[0])
    terms = Terms(false_reject=0.5)
    assert not held(data, terms, 2 * size).streamed
    assert held(data, terms, 2 * size - 1).streamed


def test_bad_inputs() -> None:
    terms = Terms(false_reject=0.5, pixel_rule="pixel_false_share")
    with pytest.raises(InputError, match="expected 1 byte of memory or more, got 0"):
        HeldOutImages(terms, memory=0)
    plane, mask = np.zeros((2, 2), np.float32), np.zeros((2, 2), bool)
    found = HeldOutImages(terms, memory=1)
    for part in ("a", "b"):
        found.add(0.0, plane, mask, group=part)
    with pytest.raises(InputError, match=r"the part 'a' came apart: .* one after another"):
        found.add(0.0, plane, mask, group="a")
    with pytest.raises(InputError, match="take float32 maps, got float64"):
        HeldOutImages(terms, memory=1).add(0.0, plane.astype(np.float64), mask)
    few = HeldOutImages(replace(terms, false_reject=0.05), memory=1)
    few.add(0.0, plane, mask)
    with pytest.raises(CalibrationError, match="needs at least 19 held-out good images, got 1"):
        few.thresholds()
    with pytest.raises(CalibrationError, match="no held-out images to calibrate on"):
        HeldOutImages(terms).thresholds()


def test_asking_changes_nothing() -> None:
    """Three parts of three images, asked after each image, within a part and after all."""
    random = np.random.default_rng(5)
    maps = list(random.random((9, 4, 4)).astype(np.float32))
    terms = Terms(false_reject=0.25, pixel_rule="pixel_false_share", allow_weaker=True)
    asked, quiet = HeldOutImages(terms, memory=1), HeldOutImages(terms, memory=1)
    for index, plane in enumerate(maps):
        for found in (asked, quiet):
            found.add(0.0, plane, np.zeros((4, 4), bool), group=f"part {index // 3}")
        so_far = asked.thresholds().pixel
        assert so_far is not None
        assert so_far.n == index // 3 + 1
        groups = [f"part {i // 3}" for i in range(index + 1)]
        rate = max(0.25, 1 / (so_far.n + 1))
        exact = pixel_false_share(maps[: index + 1], alpha=rate, groups=groups)
        assert key(so_far.value) == key(exact)
    assert asked.thresholds() == asked.thresholds() == quiet.thresholds()


@pytest.mark.parametrize("memory", [1, 150])
def test_an_image_that_is_refused_leaves_no_trace(memory: int) -> None:
    """At 150 bytes the pixels are counted in bins from the third image on."""
    terms = Terms(false_reject=0.5, pixel_rule="pixel_false_share")
    random = np.random.default_rng(6)
    maps = list(random.random((6, 4, 4)).astype(np.float32))
    mask = np.zeros((4, 4), bool)
    mask[1, 1] = True

    def take(refused: bool) -> HeldOutImages:
        found = HeldOutImages(terms, memory=memory)
        for plane, part in zip(maps[:4], ["a", "b", "b", "c"], strict=True):
            found.add(0.0, plane, np.zeros((4, 4), bool), group=part)
        if refused:
            with pytest.raises(InputError, match="the part 'a' came apart"):
                found.add(9.0, np.ones((4, 4), np.float32), np.zeros((4, 4), bool), group="a")
            with pytest.raises(InputError, match="take float32 maps"):
                found.add(9.0, np.ones((4, 4)), mask)
        found.add(0.0, maps[4], np.zeros((4, 4), bool), group="c")
        found.add(1.0, maps[5], mask)
        return found

    assert take(True).thresholds() == take(False).thresholds()


def test_parts_that_came_apart_before_the_memory_was_full() -> None:
    terms = Terms(false_reject=0.5, pixel_rule="pixel_false_share")
    found = HeldOutImages(terms, memory=400)
    maps = list(np.random.default_rng(7).random((5, 4, 4)).astype(np.float32))
    good = np.zeros((4, 4), bool)
    for plane, part in zip(maps[:3], ["a", "b", "a"], strict=True):
        found.add(0.0, plane, good, group=part)
    before = found.thresholds()
    for _ in range(2):
        with pytest.raises(InputError, match="the part 'a' came apart"):
            found.add(0.0, maps[3], good, group="c")
    assert found.thresholds() == before
