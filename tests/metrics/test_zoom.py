"""The second pass: F1-max of the exact engine to the bit, sums of parts, and what it refuses."""

from __future__ import annotations

import json
import os
import pickle
from functools import reduce
from operator import iadd
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_u2net.errors import InputError, MapError, NotComputable
from anomaly_u2net.metrics import F1Zoom, PixelHistogram, pixel_curve, zoom
from anomaly_u2net.metrics.certified import ROUNDING
from anomaly_u2net.metrics.keys import lowest_ranks, ranked_scores, score_keys

Images = list[tuple[np.ndarray, np.ndarray]]

#: Of scores around 0 for good pixels, around 1 for defect pixels.
SCORES = {
    "plain": lambda s: s,
    "logits": lambda s: 1e-3 * (s - 0.5),
    "crowded": lambda s: 0.3 + 1e-4 * s,
    "one bin": lambda s: 0.3 + 1e-6 * s,
    "tied": lambda s: np.round(3 * s) / 3,
    "tied and crowded": lambda s: np.where(s > 1, np.round(s), 0.3 + 1e-3 * s),
    "saturated": lambda s: 1 / (1 + np.exp(-12 * s)),
    "clipped": lambda s: np.clip(s, 0, 1),
    "negative": lambda s: -5 - np.exp(-s),
    "exp": lambda s: np.exp(20 * np.clip(s, -4, 4)),
    "tiny": lambda s: 1e-40 * s,
}


def random_images(
    seed: int, *, kind: str = "crowded", dtype: type = np.float32, count: int = 4
) -> Images:
    """Images (H, W) of unequal sizes; the first has defect pixels and good ones."""
    rng = np.random.default_rng(seed)
    images = []
    for index in range(count):
        mask = np.zeros(rng.integers(6, 40, 2), bool)
        rows, columns = rng.integers(0 if index else 1, 6, 2)
        mask[:rows, : columns + 1] = True
        scores = rng.normal(size=mask.shape) + mask
        images.append((SCORES[kind](scores).astype(dtype), mask))
    return images


def counted(images: Images, *, bits: int = 16) -> PixelHistogram:
    histogram = PixelHistogram(bits=bits)
    for score_map, mask in images:
        histogram.update(score_map, mask)
    return histogram


def zoomed(histogram: PixelHistogram, images: Images) -> F1Zoom:
    result = histogram.zoom()
    for score_map, mask in images:
        result.update(score_map, mask)
    return result


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(sorted(SCORES)),
    bits=st.sampled_from([16, 20]),
)
def test_f1_max_and_its_threshold_are_those_of_the_exact_engine(
    seed: int, kind: str, bits: int
) -> None:
    images = random_images(seed, kind=kind)
    ours = zoomed(counted(images, bits=bits), images)
    assert ours.best_f1() == pixel_curve(*zip(*images, strict=True)).best_f1()
    number = ours.f1_max()
    assert number.value == ours.best_f1().value
    assert number.width <= 3 * ROUNDING


@settings(max_examples=60, deadline=None)
@given(
    ranks=st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=14),
    start=st.sampled_from([0.3, -0.3, 0.0, -3e-45, 1.0, 1e30]),
)
def test_neighbouring_numbers_are_told_apart(ranks: list[tuple[int, bool]], start: float) -> None:
    numbers = [np.float32(start)]
    for _ in range(6):
        numbers.append(np.nextafter(numbers[-1], np.float32(np.inf)))
    scores = np.array([[numbers[rank] for rank, _ in ranks]])
    mask = np.array([[defect for _, defect in ranks]])
    if mask.any():
        images = [(scores, mask)]
        best = zoomed(counted(images), images).best_f1()
        assert best == pixel_curve([scores], [mask]).best_f1()


def test_by_hand() -> None:
    # Four neighbouring numbers of one bin, defect pixels first and third. F1 after each pixel:
    # 2·1/(1 + 2), 2·1/(2 + 2), 2·2/(3 + 2), 2·2/(4 + 2); the counts of the bin only know the last.
    scores = np.array([[0.3, 0.3, 0.3, 0.3]], np.float32)
    scores += np.array([3, 2, 1, 0], np.float32) * np.float32(2.0**-25)
    assert np.unique(scores).size == 4
    images = [(scores, np.array([[1, 0, 1, 0]]))]
    histogram = counted(images)
    before, after = histogram.curve().f1_max(), zoomed(histogram, images)
    assert (before.value, before.high) == pytest.approx((4 / 6, 1.0), abs=2 * ROUNDING)
    assert after.f1_max().value == 4 / 5
    assert after.best_f1() == (4 / 5, scores[0, 3])  # the threshold lets in all above 0.3


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(sorted(SCORES)))
def test_float64_scores_keep_a_valid_certificate(seed: int, kind: str) -> None:
    images = random_images(seed, kind=kind, dtype=np.float64)
    histogram = counted(images)
    before, after = histogram.curve().f1_max(), zoomed(histogram, images).f1_max()
    assert pixel_curve(*zip(*images, strict=True)).f1_max() in after
    assert before.low <= after.low <= after.value <= after.high <= before.high
    narrowed = [(score_map.astype(np.float32), mask) for score_map, mask in images]
    assert after.value == pixel_curve(*zip(*narrowed, strict=True)).f1_max()


def test_a_tie_that_rounding_made_stays_uncertain() -> None:
    images = [(np.array([[0.5 + 1e-12, 0.5]]), np.array([[1, 0]]))]
    number = zoomed(counted(images), images).f1_max()
    assert (number.low, number.value, number.high) == pytest.approx(
        (2 / 3, 2 / 3, 1.0), abs=2 * ROUNDING
    )


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["plain", "crowded", "one bin", "exp"]),
    cells=st.sampled_from([1, 1 << 6, 1 << 12]),
    bins=st.sampled_from([1, 3, 1 << 17]),
)
def test_with_too_little_room_the_certificate_is_wider_and_holds(
    seed: int, kind: str, cells: int, bins: int
) -> None:
    images = random_images(seed, kind=kind)
    histogram = counted(images)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zoom, "MAX_CELLS", cells)
        patch.setattr(zoom, "MAX_BINS", bins)
        ours = zoomed(histogram, images)
    exact, before, after = (
        pixel_curve(*zip(*images, strict=True)).f1_max(),
        histogram.curve().f1_max(),
        ours.f1_max(),
    )
    assert exact in after
    assert before.low <= after.low <= after.value <= after.high <= before.high
    best = ours.best_f1()
    found = np.concatenate([m[k] for m, k in images]) > np.float32(best.threshold)
    wrong = np.concatenate([m[~k] for m, k in images]) > np.float32(best.threshold)
    assert best.value == 2 * found.sum() / (found.sum() + wrong.sum() + found.size)


def test_the_threshold_of_an_unknown_order_is_the_bottom_of_its_bin() -> None:
    # One cell for the bin next below 0, which lacks one number to a power of two: its two ends, of
    # defect pixels, and a good pixel at the number below it.
    keys = score_keys(np.array([-1e-45, 0.0], np.float32), bits=16)
    bottom, above = lowest_ranks(keys, bits=16).tolist()
    assert (above, (above - bottom + 1).bit_count()) == (0, 1)
    scores = ranked_scores(np.array([[above - 1, bottom, bottom - 1]]))
    images = [(scores, np.array([[1, 1, 0]]))]
    histogram = counted(images)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zoom, "MAX_CELLS", 1)
        best = zoomed(histogram, images).best_f1()
    assert best == (1.0, scores[0, 2])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), data=st.data())
def test_zooms_of_parts_add_up_in_any_order_and_grouping(seed: int, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["crowded", "one bin", "tied"]))
    parts = [random_images(seed + part, kind=kind, count=part) for part in (1, 2, 3)]
    together = [pair for part in parts for pair in part]
    histogram = counted(together)
    whole = zoomed(histogram, together)

    def parted() -> list[F1Zoom]:
        # as if each part had been made by another process that added up the histograms itself
        return [zoomed(sum(map(counted, parts), PixelHistogram(bits=16)), part) for part in parts]

    a, b, c = parted()
    a += b
    a += c
    d, e, f = parted()
    e += f
    d += e
    g = reduce(iadd, data.draw(st.permutations(parted())), histogram.zoom())
    for ours in (a, d, g):
        assert (ours.best_f1(), ours.f1_max()) == (whole.best_f1(), whole.f1_max())
        np.testing.assert_array_equal(ours._ties.only, whole._ties.only)
        np.testing.assert_array_equal(ours._negatives, whole._negatives)


def test_a_zoom_travels_between_processes() -> None:
    images = random_images(5)
    ours = zoomed(counted(images), images)
    assert pickle.loads(pickle.dumps(ours)).best_f1() == ours.best_f1()


def test_the_state_is_bounded() -> None:
    images = random_images(5, kind="plain")
    ours = zoomed(counted(images, bits=20), images)
    assert ours.nbytes < 32e6
    assert zoom.MAX_CELLS * 20 + zoom.MAX_BINS * 60 < 32e6
    assert repr(ours).startswith("F1Zoom(bins=")
    assert repr(ours).endswith("images=4 of 4)")


def test_other_images_than_the_histograms_are_refused() -> None:
    images = random_images(7)
    histogram = counted(images)
    ours = zoomed(histogram, images[:3])
    for number in (ours.f1_max, ours.best_f1):
        with pytest.raises(InputError, match="the zoom saw 3 images, its histogram 4; update it"):
            number()
    score_map, mask = images[3]
    for bad in ((score_map + 1, mask), (score_map, ~mask)):
        other = zoomed(histogram, [*images[:3], bad])
        with pytest.raises(InputError, match="saw other pixels than its histogram; give both"):
            other.f1_max()


def test_zooms_of_different_histograms_are_not_added() -> None:
    images = random_images(7)
    ours = zoomed(counted(images), images)
    others = [
        counted(images, bits=17),
        counted(images[:3]),
        counted([*images, (np.full((3, 3), -9.0, np.float32), np.zeros((3, 3), bool))]),
        counted([(score_map + np.float32(0.1), mask) for score_map, mask in images]),
    ]
    for other in others:
        with pytest.raises(InputError, match=r"cannot add F1Zoom\(.* of different histograms; add"):
            ours += other.zoom()
    assert ours.images == 4


def test_bad_images_are_named_and_not_counted() -> None:
    images = random_images(1)
    ours = zoomed(counted(images), images[:2])
    with pytest.raises(MapError, match="map 2: 1 of 4 pixels are NaN or infinite"):
        ours.update(np.array([[0.3, np.nan], [0.3, 0.3]]), np.eye(2, dtype=bool))
    with pytest.raises(MapError, match=r"map 2 is \(2, 2\) but mask 2 is \(2, 3\)"):
        ours.update(np.full((2, 2), 0.3), np.ones((2, 3), bool))
    assert ours.images == 2
    for score_map, mask in images[2:]:
        ours.update(score_map, mask)
    assert ours.best_f1() == pixel_curve(*zip(*images, strict=True)).best_f1()


def test_undefined_numbers_say_why() -> None:
    with pytest.raises(NotComputable, match="there are no images to measure on"):
        PixelHistogram(bits=16).zoom()
    plane = np.zeros((3, 3), np.float32)
    with pytest.raises(NotComputable, match="F1 is undefined without a defective pixel: all 9"):
        counted([(plane, plane > 0)]).zoom()
    bad = [(plane, plane == 0)]
    assert zoomed(counted(bad), bad).f1_max().value == 1.0


@pytest.mark.parametrize("kind", ["smooth", "levels16", "noise", "saturated"])
def test_reference_values(kind: str) -> None:
    data = os.environ.get("ANOMALY_U2NET_DATA")
    folder = Path(data).parent / "reference" if data else None
    if folder is None or not (folder / "values.json").is_file():
        pytest.skip("no reference maps: ANOMALY_U2NET_DATA is unset or has none beside it")
    with np.load(folder / "maps_30x128.npz") as arrays:
        maps = np.floor(arrays["smooth"] * 16) / 16 if kind == "levels16" else arrays[kind]
        images = list(zip(maps, arrays["masks"], strict=True))
    expected = json.loads((folder / "values.json").read_text())["values"][kind]["pixel_f1_max"]
    assert zoomed(counted(images), images).f1_max().value == pytest.approx(expected, abs=1e-12)
