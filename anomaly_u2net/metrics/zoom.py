"""The second pass of the streaming engine: F1-max exactly, from the few bins that can hold it.

The counts of a `PixelHistogram` leave open where inside a bin the best threshold lies. But only the
bins whose best possible order reaches the best edge (`f1_bounds`) can hold it, a few dozen of 2²⁰.
A second look at the images parts the pixels of these bins by their whole float32 score.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anomaly_u2net.errors import InputError
from anomaly_u2net.metrics.certified import (
    BinnedCurve,
    Certified,
    Counts,
    certified,
    f1_bounds,
    next_below,
)
from anomaly_u2net.metrics.checks import check_pair
from anomaly_u2net.metrics.curves import BestF1
from anomaly_u2net.metrics.keys import lowest_ranks, ranked_scores, score_keys, score_ranks
from anomaly_u2net.metrics.ties import Ties, narrow

MAX_CELLS = 1 << 20
MAX_BINS = 1 << 17


class _Parts(NamedTuple):
    """The C bins that are taken apart, highest first, and where their cells lie.

    keys: (C,), falling. tp, fp: int64 (C,), defect and good pixels in the bin and all higher ones,
    also those that are not taken apart. positives, negatives: int64 (C,), in the bin.
    bottom, top: int64 (C,), ranks of the lowest and the highest score of the bin.
    start: int64 (C + 1,), its first cell, holding its highest scores; last, the number of cells.
    shift: a cell is 2**shift neighbouring float32 scores, but for the lowest of a bin.
    rest: the most that F1 can be in the bins that were too many to be taken apart.
    """

    keys: NDArray[np.int32]
    tp: Counts
    fp: Counts
    positives: Counts
    negatives: Counts
    bottom: Counts
    top: Counts
    start: Counts
    shift: int
    rest: float


class F1Zoom:
    """F1-max over the images of a `PixelHistogram`, seen a second time; made by its `zoom`.

    Scores in float32 give the number and the threshold of the exact engine, as long as the bins
    that can hold the maximum have at most 2²⁰ float32 numbers between their ends. Otherwise, and
    for float64 scores that had to be rounded, the order within a few neighbouring numbers stays
    unknown, and the certificate says what that leaves open.

    At most 29 MB (20 bytes for each of 2²⁰ cells, 60 for each of 2¹⁷ bins), mostly far less; the
    histogram is no longer needed. Zooms of parts of the images add up, in any order and grouping.

    >>> from anomaly_u2net.metrics import PixelHistogram
    >>> images = [(np.array([[0.3000002, 0.3000001, 0.3]], np.float32), np.array([[1, 0, 0]]))]
    >>> histogram = PixelHistogram()
    >>> for score_map, mask in images:
    ...     histogram.update(score_map, mask)
    >>> zoom = histogram.zoom()
    >>> for score_map, mask in images:
    ...     zoom.update(score_map, mask)
    >>> histogram.curve().f1_max().value, zoom.best_f1().value
    (0.5, 1.0)
    """

    __slots__ = ("_bits", "_high", "_low", "_negatives", "_parts", "_positives", "_ties",
                 "_total", "expected", "images")  # fmt: skip

    def __init__(self, curve: BinnedCurve, *, images: int) -> None:
        """curve: of the whole histogram. images: seen by it, and to be seen by the sum of zooms.

        Raises NotComputable without defect pixels.
        """
        self._parts = _take_apart(curve)
        self._bits = curve.bits
        self._total = int(curve.positives.sum())
        self._low, self._high = ranked_scores(
            np.array([self._parts.bottom[-1], self._parts.top[0]])
        )
        cells = int(self._parts.start[-1])
        self._negatives, self._positives = np.zeros((2, cells), np.int64)
        self._ties = Ties(cells)
        self.expected = images
        self.images = 0

    def __repr__(self) -> str:
        return (
            f"F1Zoom(bins={self._parts.keys.size}, low={float(self._low):.9g}, "
            f"high={float(self._high):.9g}, images={self.images} of {self.expected})"
        )

    @property
    def nbytes(self) -> int:
        """Bytes held, the same however many images were seen."""
        cells = self._negatives.nbytes + self._positives.nbytes + self._ties.only.nbytes
        return cells + sum(part.nbytes for part in self._parts if isinstance(part, np.ndarray))

    def update(self, score_map: ArrayLike, mask: ArrayLike) -> None:
        """Look at one image that the histogram has counted.

        score_map, mask: (H, W), as for `PixelHistogram.update`; raises MapError as it does.
        """
        scores, defect = check_pair(score_map, mask, index=self.images)
        narrowed = narrow(scores)
        inside = (narrowed >= self._low) & (narrowed <= self._high)
        picked, truth = narrowed[inside], defect[inside]
        rounded = picked != scores[inside]
        cells, kept = self._cells(picked)
        np.add.at(self._positives, cells[truth[kept]], 1)
        np.add.at(self._negatives, cells[~truth[kept]], 1)
        self._ties.note(cells, picked[kept])
        self._ties.mix(cells[rounded[kept]])
        self.images += 1

    def __iadd__(self, other: F1Zoom) -> F1Zoom:
        """Add the images of another zoom; raises InputError when it is of another histogram."""
        pairs = zip(self._origin(), other._origin(), strict=True)
        if not all(np.array_equal(ours, theirs) for ours, theirs in pairs):
            raise InputError(
                f"cannot add {other!r} to {self!r}: they are of different histograms; add up the "
                "histograms of all parts first, then make the zoom of each part from the sum"
            )
        self._positives += other._positives
        self._negatives += other._negatives
        self._ties += other._ties
        self.images += other.images
        return self

    def f1_max(self) -> Certified:
        """The highest F1 of any threshold; see `RankCurve.best_f1`.

        Raises InputError when the images are not those of the histogram.
        """
        _, edge, most = self._bounds()
        return certified(edge.max(), edge.max(), max(float(most.max()), self._parts.rest))

    def best_f1(self) -> BestF1:
        """The highest F1 that was found, and the highest threshold that reaches it.

        Defect is ``score > threshold`` for scores in float32. As any threshold chosen on the data
        it is measured on, it describes the scores and is never one to work with.
        Raises InputError when the images are not those of the histogram.
        """
        cells, edge, _ = self._bounds()
        best = int(np.argmax(edge))
        cell = cells[best : best + 1]
        if self._ties.tied()[cell[0]]:
            lowest = self._ties.only[cell].view(np.float32)[0]
        else:
            lowest = ranked_scores(self._lowest(cell))[0]
        return BestF1(float(edge[best]), next_below(lowest))

    def _origin(self) -> tuple[Any, ...]:
        """All that was taken from the histogram."""
        return self._bits, self._total, self.expected, *self._parts

    def _cells(self, scores: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The cells of those scores, (N,), that lie in a bin taken apart, and which do, bool (N,)."""
        parts = self._parts
        rising = parts.keys[::-1]
        keys = score_keys(scores, bits=self._bits)
        place = np.searchsorted(rising, keys)  # at most C - 1: none is above the highest bin
        kept = rising[place] == keys
        bins = parts.keys.size - 1 - place[kept]
        below_top = parts.top[bins] - score_ranks(scores[kept])
        return parts.start[bins] + (below_top >> parts.shift), kept

    def _lowest(self, cells: NDArray[np.intp]) -> NDArray[np.int64]:
        """The rank of the lowest score of each cell."""
        parts = self._parts
        bins = np.searchsorted(parts.start, cells, side="right") - 1
        end = parts.top[bins] - ((cells - parts.start[bins] + 1) << parts.shift) + 1
        return np.maximum(end, parts.bottom[bins])

    def _bounds(self) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
        """The cells that hold pixels, highest first, and `f1_bounds` of them."""
        self._check_images()
        parts = self._parts
        cells = self._ties.occupied()
        bins = np.searchsorted(parts.start, cells, side="right") - 1
        p, n = self._positives[cells], self._negatives[cells]
        higher_p = parts.tp - np.cumsum(parts.positives)  # in the bins that are not taken apart
        higher_n = parts.fp - np.cumsum(parts.negatives)
        tp, fp = np.cumsum(p) + higher_p[bins], np.cumsum(n) + higher_n[bins]
        avoidable = np.where(self._ties.tied()[cells], 0, n)
        return cells, *f1_bounds(tp, fp, avoidable, total=self._total)

    def _check_images(self) -> None:
        if self.images != self.expected:
            raise InputError(
                f"the zoom saw {self.images} images, its histogram {self.expected}; "
                "update it with each image once, or add up the zooms of all parts"
            )
        parts = self._parts
        found_p, found_n = (
            np.add.reduceat(counts, parts.start[:-1])
            for counts in (self._positives, self._negatives)
        )
        if not (
            np.array_equal(found_p, parts.positives) and np.array_equal(found_n, parts.negatives)
        ):
            raise InputError(
                "the zoom saw other pixels than its histogram; "
                "give both passes the same maps and masks"
            )


def _take_apart(curve: BinnedCurve) -> _Parts:
    """Choose the bins that can hold the maximum, those of the highest bound where they are too many.

    The bin of the best edge is always one of them.
    """
    edge, most = curve.f1_bounds()
    best = int(np.argmax(edge))
    able = np.flatnonzero((most >= edge[best]) & (curve.positives > 0))
    able = able[np.lexsort((-most[able], able != best))]
    bins, left = np.sort(able[:MAX_BINS]), able[MAX_BINS:]
    keys = curve.keys[bins]
    bottom = lowest_ranks(keys, bits=curve.bits)
    top = lowest_ranks(keys + 1, bits=curve.bits) - 1
    shift = 0
    while (sizes := ((top - bottom) >> shift) + 1).sum() > max(MAX_CELLS, keys.size):
        shift += 1
    return _Parts(
        keys=keys,
        tp=np.cumsum(curve.positives)[bins],
        fp=np.cumsum(curve.negatives)[bins],
        positives=curve.positives[bins],
        negatives=curve.negatives[bins],
        bottom=bottom,
        top=top,
        start=np.concatenate([[0], np.cumsum(sizes)]),
        shift=shift,
        rest=float(most[left].max(initial=0.0)),
    )
