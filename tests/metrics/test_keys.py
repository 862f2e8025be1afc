"""Keys: that they keep the order of all floats, fit their bits, and part what they should."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from anomaly_u2net.errors import InputError
from anomaly_u2net.metrics.keys import (
    check_bits,
    lowest_ranks,
    lowest_score,
    ranked_scores,
    score_keys,
    score_ranks,
)

LARGEST = float(np.finfo(np.float32).max)
BITS = st.sampled_from([16, 19, 20, 22])
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def key(score: float, *, bits: int = 20) -> int:
    return int(score_keys(np.array([score], np.float32), bits=bits)[0])


def neighbours(score: float, *, count: int) -> np.ndarray:
    """The ``count`` float32 numbers on each side of a score, and itself, rising."""
    pattern = int(np.float32(score).view(np.int32))
    return np.arange(pattern - count, pattern + count + 1, dtype=np.int32).view(np.float32)


@settings(max_examples=200, deadline=None)
@given(scores=st.lists(FLOATS, min_size=1, max_size=50), bits=BITS)
def test_the_order_of_any_scores_is_kept(scores: list[float], bits: int) -> None:
    rising = np.sort(np.array(scores, np.float32))
    keys = score_keys(rising, bits=bits)
    assert np.all(np.diff(keys) >= 0)
    assert keys.min() >= 0
    assert keys.max() < 2**bits


@pytest.mark.parametrize("bits", [16, 20, 22])
def test_the_order_is_kept_over_the_seams_of_the_staircases(bits: int) -> None:
    for seam in (2.0**-126, 2.0**-20, 0.25, 0.5, 1 - 2.0**-20, 1.0, 2.0, 512.0):
        rising = neighbours(seam, count=40_000)
        for scores in (rising, -rising[::-1]):
            assert np.all(np.diff(score_keys(scores, bits=bits)) >= 0)
    extremes = [key(score, bits=bits) for score in (-LARGEST, -1e-45, -0.0, 0.0, 1e-45, LARGEST)]
    assert extremes == sorted(extremes)
    assert extremes[0] >= 0
    assert extremes[-1] < 2**bits
    assert extremes[1] < extremes[2] == extremes[3]


def test_resolution_by_hand() -> None:
    # 2**13 steps in each binade from 2**-20 to 2**9 at 20 bits, and on both sides of zero
    for low in (2.0**-20, 0.001, 0.25, 3.0, 300.0):
        for sign in (1, -1):
            assert key(sign * low) != key(sign * low * (1 + 2.0**-12))
    # as many in each binade of 1 - score
    for gap in (0.25, 0.01, 2.0**-10):
        assert key(1 - gap) != key(1 - gap * (1 + 2.0**-12))
    # every float32 number next to 1 has its own
    last = neighbours(1.0, count=16)[:17]
    assert np.unique(score_keys(last, bits=16)).size == 17
    # far outside: 2**9 steps a binade
    assert key(1e30) != key(1.003e30)
    assert key(1e-30) != key(1.003e-30)


@settings(max_examples=100, deadline=None)
@given(score=FLOATS, bits=BITS)
@example(score=-LARGEST, bits=16)
def test_the_lowest_score_of_a_key(score: float, bits: int) -> None:
    wanted = key(score, bits=bits)
    lowest = lowest_score(wanted, bits=bits)
    assert lowest <= score
    assert key(lowest, bits=bits) == wanted
    with np.errstate(over="ignore"):  # below the lowest number is -inf
        below = np.nextafter(np.float32(lowest), np.float32(-np.inf))
    assert below < -LARGEST or key(float(below), bits=bits) < wanted


@pytest.mark.parametrize("bits", [0, 15, 23])
def test_bits_outside_their_range(bits: int) -> None:
    with pytest.raises(InputError, match=f"expected 16 to 22 bits of key, got {bits}"):
        check_bits(bits)


@settings(max_examples=100, deadline=None)
@given(scores=st.lists(FLOATS, min_size=1, max_size=20), bits=BITS)
@example(scores=[LARGEST, -LARGEST, -0.0], bits=16)
def test_ranks_count_the_numbers_between(scores: list[float], bits: int) -> None:
    array = np.array(scores, np.float32)
    ranks = score_ranks(array)
    np.testing.assert_array_equal(ranked_scores(ranks), array)
    with np.errstate(over="ignore"):  # above the largest number is inf
        above = np.nextafter(array, np.float32(np.inf))
    np.testing.assert_array_equal(ranked_scores(ranks + 1), above)
    lowest = lowest_ranks(score_keys(array, bits=bits), bits=bits)
    one_by_one = [lowest_score(key(score, bits=bits), bits=bits) for score in scores]
    np.testing.assert_array_equal(ranked_scores(lowest), np.array(one_by_one, np.float32))


def test_no_score_has_the_highest_key() -> None:
    assert lowest_score(key(LARGEST) + 1, bits=20) == np.inf
