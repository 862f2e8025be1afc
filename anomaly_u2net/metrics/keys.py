"""Order-preserving keys: every float32 score falls into one of ``2**bits`` bins, no range needed.

The bit pattern of a float32, read as an integer, rises with its magnitude, so its top bits are a
key of constant relative resolution. Few of the 255 binades are ever used, so a key here is the sum
of rising staircases of the magnitude m (a sum of rising functions rises, and parts two scores
wherever one of its terms does); B is ``bits``:

- coarse: all binades, ``2**(B - 11)`` steps each;
- fine: the 29 binades from 2⁻²⁰ to 2⁹, ``2**(B - 7)`` steps each;
- mirror: the 19 binades of 1 − m from 1/2 down to 2⁻²⁰, ``2**(B - 7)`` steps each, because the
  scores of a sure network crowd below 1 as they crowd above 0;
- last: the 16 float32 numbers from there to 1, one step each.

Their sum is below ``1023 * 2**(B - 11) + 16``, so both signs fit into ``2**B`` keys. All of it is
exact (1 − m too, for m in [1/2, 1]: Sterbenz), so every machine gives the same keys.

What no key can part are scores that vary by less than ``2**(7 - B)`` of their size (0.0001 at 20
bits), as 1000.01 and 1000.02 do: the certificates are then wide; subtract the offset first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_u2net.errors import InputError

MIN_BITS, MAX_BITS = 16, 22


def _pattern(score: float) -> int:
    return int(np.float32(score).view(np.int32))


_LARGEST = _pattern(float(np.finfo(np.float32).max))
_HALF = _pattern(0.5)
_FINE = _pattern(2.0**-20), _pattern(2.0**9)
_MIRROR = _pattern(2.0**-20), _HALF
_LAST = np.float32(2.0**-20)  # 16 steps of 2**-24, which is how float32 numbers lie below 1


def check_bits(bits: int) -> int:
    """Return ``bits``; raises InputError outside 16..22."""
    if not MIN_BITS <= bits <= MAX_BITS:
        raise InputError(
            f"expected {MIN_BITS} to {MAX_BITS} bits of key, got {bits}; "
            "each bit more halves the width of the bins and doubles the memory"
        )
    return int(bits)


def score_keys(scores: NDArray[np.float32], *, bits: int) -> NDArray[np.int32]:
    """The key of each score, int32 in 0..2**bits − 1: a <= b implies key(a) <= key(b).

    scores: float32, any shape, finite. 0.0 and -0.0 have one key. bits: 16 to 22.

    >>> score_keys(np.array([-1.5, -0.0, 0.0, 0.25, 0.5, 2e30], np.float32), bits=16).tolist()
    [8447, 32768, 32768, 45984, 46528, 64642]
    """
    magnitude = np.abs(scores)
    pattern = magnitude.view(np.int32)
    fine = np.clip(pattern, *_FINE)
    fine -= _FINE[0]
    fine >>= 30 - bits
    keys = pattern >> (34 - bits)
    keys += fine
    if magnitude.size and magnitude.max() > 0.5:
        gap = np.float32(1.0) - np.clip(magnitude, np.float32(0.5), np.float32(1.0))
        keys += (_HALF - np.clip(gap.view(np.int32), *_MIRROR)) >> (30 - bits)
        keys += 16 - (np.minimum(gap, _LAST) * np.float32(2.0**24)).astype(np.int32)
    negative = scores < 0
    if negative.any():
        np.invert(keys, out=keys, where=negative)  # ~k is -1 - k: the order turned round
    keys += 1 << (bits - 1)
    return keys


def score_ranks(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """How many float32 numbers each score is from 0, negative below it: neighbours differ by 1.

    >>> score_ranks(np.array([-1e-45, -0.0, 0.0, 1e-45, 1.0], np.float32)).tolist()
    [-1, 0, 0, 1, 1065353216]
    """
    ranks = np.abs(scores).view(np.int32).astype(np.int64)
    return np.where(scores < 0, -ranks, ranks)


def ranked_scores(ranks: NDArray[np.int64]) -> NDArray[np.float32]:
    """The scores that have these ranks; 2139095040 is inf.

    >>> ranked_scores(np.array([-1065353216, 0, 1065353217])).tolist()
    [-1.0, 0.0, 1.0000001192092896]
    """
    magnitude = np.abs(ranks).astype(np.int32).view(np.float32)
    return np.where(ranks < 0, -magnitude, magnitude)


def lowest_ranks(keys: NDArray[np.integer[Any]], *, bits: int) -> NDArray[np.int64]:
    """The rank of the lowest float32 score whose key is ``keys`` or higher, found by bisection.

    keys and the ranks: (K,). Where no score has so high a key, the rank is that of inf.
    """
    low = np.full(keys.shape, -_LARGEST, np.int64)
    high = np.full(keys.shape, _LARGEST + 1, np.int64)
    while np.any(low < high):
        middle = np.minimum((low + high) // 2, _LARGEST)
        reached = score_keys(ranked_scores(middle), bits=bits) >= keys
        high = np.where(reached, np.minimum(middle, high), high)
        low = np.where(reached, low, np.minimum(middle + 1, high))
    return low


def lowest_score(key: int, *, bits: int) -> float:
    """The lowest float32 score whose key is ``key`` or higher; inf when there is none.

    >>> lowest_score(46528, bits=16), lowest_score(65535, bits=16)
    (0.5, inf)
    """
    return float(ranked_scores(lowest_ranks(np.array([key]), bits=bits))[0])
