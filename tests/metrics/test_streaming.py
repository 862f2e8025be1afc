"""The streaming engine: certificates against the exact engine, sums, and files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_u2net.errors import InputError, MapError, NotComputable
from anomaly_u2net.metrics import BinnedCurve, Certified, PixelHistogram, pixel_curve
from anomaly_u2net.metrics.certified import ROUNDING
from anomaly_u2net.metrics.streaming import _MAX_REGIONS, _share

Images = list[tuple[np.ndarray, np.ndarray]]
LIMITS = (0.01, 0.05, 0.3, 1.0)


def histogram(images: Images, *, bits: int = 16) -> PixelHistogram:
    result = PixelHistogram(bits=bits)
    for score_map, mask in images:
        result.update(score_map, mask)
    return result


def random_images(
    seed: int,
    *,
    transform: Callable[[np.ndarray], np.ndarray] = lambda scores: scores,
    dtype: type = np.float32,
    count: int = 4,
) -> Images:
    """Images of unequal sizes whose scores, normal around 0 or (defects) 1, are transformed.

    The first has a defect pixel and a good one.
    """
    rng = np.random.default_rng(seed)
    images = []
    for index in range(count):
        shape = tuple(rng.integers(5, 30, 2))
        mask = np.zeros(shape, np.uint8)
        mask[0, 0] = index == 0
        for _ in range(rng.integers(0, 4)):
            top, left = rng.integers(0, 12, 2)
            mask[top : top + rng.integers(1, 6), left : left + rng.integers(1, 6)] = 255
        mask[-1, -1] = 0
        images.append((transform(rng.normal(size=shape) + (mask > 0)).astype(dtype), mask))
    return images


def numbers(curve: BinnedCurve) -> list[Certified]:
    aupros = [curve.aupro(fpr_limit=limit) for limit in LIMITS]
    return [curve.auroc(), curve.ap(), curve.f1_max(), *aupros]


def exact(images: Images) -> list[float]:
    curve = pixel_curve([m for m, _ in images], [k for _, k in images])
    aupros = [curve.aupro(fpr_limit=limit) for limit in LIMITS]
    # float sums may end an ulp above 1, where certificates stop
    return [min(n, 1.0) for n in (curve.auroc(), curve.ap(), curve.f1_max(), *aupros)]


def assert_same(a: PixelHistogram, b: PixelHistogram) -> None:
    ours, theirs = a.to_arrays(), b.to_arrays()
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)


def crowded(width: float) -> Callable[[np.ndarray], np.ndarray]:
    """Scores so close together that most share a few bins."""
    return lambda scores: 0.3 + width * scores


TRANSFORMS = {
    "plain": lambda s: s,
    "crowded": crowded(1e-4),
    "one bin": crowded(1e-6),
    "levels": lambda s: np.round(3 * s) / 3,
    "levels and others": lambda s: np.where(s > 1, np.round(s), crowded(1e-3)(s)),
    "saturated": lambda s: 1 / (1 + np.exp(-12 * s)),
    "clipped": lambda s: np.clip(s, 0, 1),
    "exp": lambda s: np.exp(20 * np.clip(s, -4, 4)),
    "huge": lambda s: 1e300 * s,
    "negative": lambda s: -np.exp(-s) - 5,
}


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    name=st.sampled_from(sorted(TRANSFORMS)),
    wide=st.booleans(),
    bits=st.sampled_from([16, 18]),
)
def test_the_certificate_holds_the_exact_number(
    seed: int, name: str, wide: bool, bits: int
) -> None:
    dtype = np.float64 if wide or name == "huge" else np.float32
    images = random_images(seed, transform=TRANSFORMS[name], dtype=dtype)
    for ours, theirs in zip(
        numbers(histogram(images, bits=bits).curve()), exact(images), strict=True
    ):
        assert theirs in ours
        assert ours.value in ours
        assert 0 <= ours.low <= ours.high <= 1


@settings(max_examples=60, deadline=None)
@given(
    ranks=st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=12),
    levels=st.lists(st.booleans(), min_size=5, max_size=5),
)
def test_every_order_within_a_bin_is_covered(
    ranks: list[tuple[int, bool]], levels: list[bool]
) -> None:
    # Scores 0.3 + r·2**-24, all in one bin or, where ``levels`` says so, a bin higher.
    lift = np.cumsum([0.01 * up for up in levels])
    scores = np.array([[0.3 + lift[rank] + rank * 2.0**-24 for rank, _ in ranks]], np.float32)
    mask = np.array([[defect for _, defect in ranks]])
    if mask.all() or not mask.any():
        return
    curve = histogram([(scores, mask)]).curve()
    for ours, theirs in zip(numbers(curve), exact([(scores, mask)]), strict=True):
        assert theirs in ours


def test_the_bounds_of_one_bin_are_reached() -> None:
    # 1 bin, 1 defect pixel and 3 good ones: whatever the order, the same interval; both ends occur.
    best = np.array([[0.3 + 3e-7, 0.3, 0.3, 0.3]], np.float32)
    worst = np.array([[0.3 - 3e-7, 0.3, 0.3, 0.3]], np.float32)
    mask = np.array([[1, 0, 0, 0]])
    expected = {
        "auroc": (0.0, 0.5, 1.0),
        "f1_max": (0.4, 0.4, 1.0),  # 2·1 / (2 + 3) at the edge; at best 2 / 2
        "aupro": (0.0, 0.15, 1.0),  # a straight line cut at 0.3
    }
    for scores, place in ((best, 2), (worst, 0)):
        curve = histogram([(scores, mask)]).curve()
        plain = pixel_curve([scores], [mask])
        for name, ends in expected.items():
            ours = getattr(curve, name)()
            assert (ours.low, ours.value, ours.high) == pytest.approx(ends, abs=2 * ROUNDING)
            assert getattr(plain, name)() == pytest.approx(ends[place], abs=1e-12)
        # at worst the only defect pixel is the fourth: 1/4, here as 1 - 3·ln(4.5 / 3.5)
        ap = curve.ap()
        assert ap.low == pytest.approx(1 - 3 * np.log(4.5 / 3.5), abs=2 * ROUNDING)
        assert 0.24 < ap.low < plain.ap() + ROUNDING
        assert ap.high == pytest.approx(1.0, abs=2 * ROUNDING)


def test_defect_pixels_may_tie_above_the_good_ones_of_their_bin() -> None:
    # two good pixels higher up, then one bin with three tied defect pixels above a good one
    scores = np.array([[0.9, 0.8, 0.3 + 3e-7, 0.3 + 3e-7, 0.3 + 3e-7, 0.3]], np.float32)
    mask = np.array([[0, 0, 1, 1, 1, 0]])
    assert exact([(scores, mask)])[1] == pytest.approx(3 / 5, abs=1e-12)
    ap = histogram([(scores, mask)]).curve().ap()
    assert ap.high == pytest.approx(3 / 5, abs=2 * ROUNDING)
    # worst: one by one below all three good pixels, at 1/4, 2/5 and 3/6
    worst = (1 / 4 + 2 / 5 + 3 / 6) / 3
    assert worst - 0.003 < ap.low < worst


def test_overlap_of_each_region_adds_up_to_the_unit_exactly() -> None:
    # regions of 3 and of 7 pixels, every pixel in a bin of its own, the scores interleaved
    scores = np.array([[9, 5, 2, 0, 10, 8, 7, 6, 4, 3, 1]], np.float32)
    mask = np.array([[1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1]])
    arrays = histogram([(scores, mask)]).to_arrays()
    whole = 2**40
    thirds = [whole * k // 3 for k in range(4)]
    sevenths = [whole * k // 7 for k in range(8)]
    three, seven = np.diff(thirds).tolist(), np.diff(sevenths).tolist()
    falling = [seven[0], three[0], *seven[1:4], three[1], *seven[4:6], three[2], seven[6], 0]
    assert arrays["overlap"].tolist() == falling[::-1]
    assert arrays["overlap"].sum() == 2 * whole


@pytest.mark.parametrize("name", ["levels", "constant"])
def test_known_ties_leave_nothing_uncertain(name: str) -> None:
    transform = TRANSFORMS["levels"] if name == "levels" else np.zeros_like
    for seed in range(5):
        images = random_images(seed, transform=transform)
        for ours, theirs in zip(numbers(histogram(images).curve()), exact(images), strict=True):
            assert ours.width <= 3 * ROUNDING
            assert ours.value == pytest.approx(theirs, abs=1e-11)


def test_a_tie_that_rounding_made_is_not_taken_for_one() -> None:
    scores, mask = np.array([[0.5 + 1e-12, 0.5]]), np.array([[1, 0]])
    auroc = histogram([(scores, mask)]).curve().auroc()
    assert (auroc.value, 1.0 in auroc, 0.0 in auroc) == (0.5, True, True)
    tied = histogram([(scores.astype(np.float32), mask)]).curve().auroc()
    assert tied.width <= 3 * ROUNDING
    signed = histogram([(np.array([[0.0, -0.0]]), mask)]).curve().auroc()
    assert (signed.value, signed.width <= 3 * ROUNDING) == (0.5, True)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), data=st.data())
def test_sums_are_the_same_in_any_order_and_grouping(seed: int, data: st.DataObject) -> None:
    kinds = st.lists(st.sampled_from(["plain", "levels", "one bin"]), min_size=3, max_size=3)
    images = [
        random_images(seed, transform=TRANSFORMS[kind], count=count)
        for count, kind in enumerate(data.draw(kinds), start=1)
    ]
    whole = histogram([pair for part in images for pair in part])
    a, b, c = (histogram(part) for part in images)
    for other in ((a + b) + c, a + (b + c), (c + a) + b, c + (b + a)):
        assert_same(whole, other)
    order = data.draw(st.permutations([a, b, c, PixelHistogram(bits=16)]))
    assert_same(whole, reduce(add, order))
    assert_same(whole, sum(order, PixelHistogram(bits=16)))


def test_order_of_images_does_not_matter_and_parts_stay_untouched() -> None:
    images = random_images(3, count=6)
    there, back = histogram(images), histogram(images[::-1])
    assert_same(there, back)
    first, second = histogram(images[:2]), histogram(images[2:])
    kept = first.to_arrays(), second.to_arrays()
    _ = first + second
    for before, part in zip(kept, (first, second), strict=True):
        for name, array in part.to_arrays().items():
            np.testing.assert_array_equal(array, before[name])
    first += second
    assert_same(first, there)


@pytest.mark.parametrize("name", ["exp", "saturated", "negative"])
def test_a_monotone_rescaling_stays_within_the_certificate(name: str) -> None:
    images = random_images(11, dtype=np.float64, count=12)
    moved = [(TRANSFORMS[name](scores), mask) for scores, mask in images]
    before = numbers(histogram(images, bits=20).curve())
    after = numbers(histogram(moved, bits=20).curve())
    for plain, scaled in zip(before, after, strict=True):
        assert plain.low <= scaled.high
        assert scaled.low <= plain.high
        assert scaled.value == pytest.approx(plain.value, abs=plain.width + scaled.width)


def test_more_bits_narrow_the_certificate() -> None:
    images = random_images(2, transform=crowded(1e-2), count=40)
    widths = [
        [number.width for number in numbers(histogram(images, bits=bits).curve())]
        for bits in (16, 19, 22)
    ]
    for coarse, middle, fine in zip(*widths, strict=True):
        assert fine <= middle <= coarse
        assert fine < coarse


def test_best_threshold_reaches_its_f1_with_strictly_greater() -> None:
    for seed in range(5):
        images = random_images(seed, transform=crowded(1e-3))
        best = histogram(images).curve().best_f1()
        scores = np.concatenate([m.ravel() for m, _ in images])
        truth = np.concatenate([k.ravel() > 0 for _, k in images])
        found = scores > np.float32(best.threshold)
        assert best.value == 2 * np.sum(found & truth) / (np.sum(found) + np.sum(truth))


@settings(max_examples=100, deadline=None)
@given(whole=st.integers(1, 2**40), share=st.floats(0, 1))
def test_overlap_in_integers_is_the_floor_of_the_fraction(whole: int, share: float) -> None:
    part = int(share * whole)
    if part < 2**43:
        assert _share(np.array([part]), np.array([whole]))[0] == (part << 40) // whole


def test_state_is_bounded_and_masks_of_any_kind_count_alike() -> None:
    default = PixelHistogram()
    assert default.nbytes <= 32e6
    images = random_images(4)
    for scores, mask in images:
        default.update(np.asfortranarray(scores), mask.astype(np.int64))
    assert default.nbytes <= 32e6
    assert_same(default, histogram([(s[:], k > 0) for s, k in images], bits=20))
    swapped = [(s.astype(s.dtype.newbyteorder()), k) for s, k in images]
    assert_same(default, histogram(swapped, bits=20))
    assert repr(default).startswith("PixelHistogram(bits=20, images=4, regions=")


def test_arrays_and_files_bring_the_state_back(tmp_path: Path) -> None:
    images = random_images(9, transform=TRANSFORMS["levels and others"])
    first, second = histogram(images[:2]), histogram(images[2:])
    assert_same(first, PixelHistogram.from_arrays(first.to_arrays()))
    for number, part in enumerate((first, second)):
        part.save(tmp_path / f"{number}.npz")
    loaded = [PixelHistogram.load(tmp_path / f"{number}.npz") for number in (0, 1)]
    assert_same(loaded[0] + loaded[1], histogram(images))
    empty = PixelHistogram.from_arrays(PixelHistogram(bits=17).to_arrays())
    assert (empty.bits, empty.images) == (17, 0)


def test_damaged_states_are_refused(tmp_path: Path) -> None:
    arrays = histogram(random_images(9)).to_arrays()
    with pytest.raises(InputError, match=r"\['keys', 'only'\] missing"):
        PixelHistogram.from_arrays({k: v for k, v in arrays.items() if k not in ("keys", "only")})
    with pytest.raises(InputError, match=r"format 1, got .*write it again"):
        PixelHistogram.from_arrays({**arrays, "header": np.array([2, 16, 1, 1])})
    for name, value in (
        ("keys", arrays["keys"][::-1]),
        ("keys", arrays["keys"] + (1 << 16)),
        ("negatives", arrays["negatives"][1:]),
        ("positives", -1 - arrays["positives"]),
        ("overlap", arrays["overlap"] + 1),
        ("negatives", arrays["negatives"].astype(float)),
    ):
        with pytest.raises(InputError, match="contradict each other"):
            PixelHistogram.from_arrays({**arrays, name: value})
    (tmp_path / "text.npz").write_text("no histogram")
    np.save(tmp_path / "single.npy", np.zeros(3))
    for name in ("text.npz", "single.npy"):
        with pytest.raises(InputError, match=rf"{name}: expected a file written by PixelHistogram"):
            PixelHistogram.load(tmp_path / name)


def test_what_cannot_be_added() -> None:
    with pytest.raises(InputError, match="a histogram of 17 bits to one of 16"):
        PixelHistogram(bits=16) + PixelHistogram(bits=17)
    full = PixelHistogram(bits=16)
    full.regions = _MAX_REGIONS
    with pytest.raises(InputError, match="more than a histogram can hold"):
        full.update(np.eye(3), np.eye(3, dtype=bool))
    assert full.images == 0


def test_bad_images_are_named_and_not_counted() -> None:
    part = histogram(random_images(1))
    before = part.to_arrays()
    ok, mask = np.zeros((4, 4), np.float32), np.eye(4, dtype=bool)
    for bad in (np.nan, np.inf, -np.inf):
        broken = ok.copy()
        broken[2, 2] = bad
        with pytest.raises(MapError, match="map 4: 1 of 16 pixels are NaN or infinite"):
            part.update(broken, mask)
    with pytest.raises(MapError, match=r"map 4 is \(4, 4\) but mask 4 is \(4, 5\)"):
        part.update(ok, np.zeros((4, 5), bool))
    with pytest.raises(MapError, match=r"map 4: expected float16, float32 or float64 .* int64"):
        part.update(np.zeros((4, 4), np.int64), mask)
    for name, array in part.to_arrays().items():
        np.testing.assert_array_equal(array, before[name])


def test_undefined_numbers_say_why() -> None:
    with pytest.raises(NotComputable, match="no images"):
        PixelHistogram(bits=16).curve()
    plane = np.zeros((3, 3), np.float32)
    good = histogram([(plane, plane > 0)]).curve()
    for number in (good.auroc, good.ap, good.f1_max, good.aupro):
        with pytest.raises(NotComputable, match="without a defective pixel: all 9 pixels are good"):
            number()
    bad = histogram([(plane, plane == 0)]).curve()
    for number in (bad.auroc, bad.aupro):
        with pytest.raises(NotComputable, match="without a good pixel: all 9 pixels are defect"):
            number()
    assert bad.ap().value == bad.f1_max().value == 1.0
    for limit in (0.0, 1.01, float("nan")):
        with pytest.raises(InputError, match=r"fpr_limit in \(0, 1\]"):
            bad.aupro(fpr_limit=limit)


@pytest.mark.parametrize("kind", ["smooth", "levels16", "noise", "saturated"])
def test_reference_values(kind: str) -> None:
    data = os.environ.get("ANOMALY_U2NET_DATA")
    folder = Path(data).parent / "reference" if data else None
    if folder is None or not (folder / "values.json").is_file():
        pytest.skip("no reference maps: ANOMALY_U2NET_DATA is unset or has none beside it")
    with np.load(folder / "maps_30x128.npz") as arrays:
        masks = arrays["masks"]
        maps = np.floor(arrays["smooth"] * 16) / 16 if kind == "levels16" else arrays[kind]
    expected = json.loads((folder / "values.json").read_text())["values"][kind]
    curve = histogram(list(zip(maps, masks, strict=True)), bits=20).curve()
    for ours, name in (
        (curve.auroc(), "pixel_auroc"),
        (curve.ap(), "pixel_ap"),
        (curve.f1_max(), "pixel_f1_max"),
        (curve.aupro(), "aupro@0.3"),
        (curve.aupro(fpr_limit=0.05), "aupro@0.05"),
    ):
        assert ours.low - 1e-8 <= expected[name] <= ours.high + 1e-8
        assert ours.width < 5e-4
