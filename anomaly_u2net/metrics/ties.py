"""Which bins hold one single score: their pixels are tied, and nothing about their order is unknown."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_LIMIT = float(np.finfo(np.float32).max)
# What `only` says of a bin that has not one score; both are patterns of NaN.
_EMPTY, _MIXED = np.uint32(0xFFFFFFFF), np.uint32(0xFFFFFFFE)


class Ties:
    """The one float32 score that each of S bins has had, or that it has had none, or several.

    only: uint32 (S,), the bit pattern of that score, or one of two patterns of NaN. Adding is
    associative and commutative.

    >>> ties = Ties(3)
    >>> ties.note(np.array([0, 0, 2, 2]), np.array([0.5, 0.5, 0.7, 0.8], np.float32))
    >>> ties.occupied().tolist(), ties.tied().tolist()
    ([0, 2], [True, False, False])
    """

    __slots__ = ("only",)

    def __init__(self, size: int) -> None:
        self.only = np.full(size, _EMPTY)

    def note(self, bins: NDArray[np.intp], scores: NDArray[np.float32]) -> None:
        """Remember N scores, (N,), and the bin of each, (N,). 0.0 and -0.0 are one score."""
        patterns = (scores + np.float32(0.0)).view(np.uint32)
        seen = self.only[bins]
        news = np.flatnonzero((seen != patterns) & (seen != _MIXED))
        if news.size:
            bins, patterns = bins[news], patterns[news]
            empty = seen[news] == _EMPTY
            self.only[bins[empty]] = patterns[empty]
            self.only[bins[self.only[bins] != patterns]] = _MIXED

    def mix(self, bins: NDArray[np.intp]) -> None:
        """Remember that these bins may have had several scores."""
        self.only[bins] = _MIXED

    def __iadd__(self, other: Ties) -> Ties:
        """Remember the scores of another one, of as many bins."""
        fresh = self.only == _EMPTY
        agree = fresh | (other.only == _EMPTY) | (self.only == other.only)
        self.only[fresh] = other.only[fresh]
        self.only[~agree] = _MIXED
        return self

    def occupied(self) -> NDArray[np.intp]:
        """The bins that have had a score, rising."""
        return np.flatnonzero(self.only != _EMPTY)

    def tied(self) -> NDArray[np.bool_]:
        """bool (S,), true where a bin has had one single score."""
        return self.only < _MIXED


def narrow(scores: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """The nearest float32 scores, those beyond its range at its ends; ``scores`` where they are."""
    if scores.dtype == np.float32 and scores.dtype.isnative:
        return scores
    return np.clip(scores, -_LIMIT, _LIMIT).astype(np.float32)
