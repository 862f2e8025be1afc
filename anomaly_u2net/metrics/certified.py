"""Numbers with a certificate, from counts per bin: a value, and an interval that holds the exact one.

S occupied bins, N good pixels, P defect pixels, R regions. Scores in a higher bin are higher, so
the ROC, PR and PRO curves are known exactly at the bins' edges. Unknown is only the way in between,
the order of the pixels of one bin; each certificate is the sum (for F1: the maximum) over the bins
of the best and of the worst such order. Where a bin is known to hold one single score there is
nothing unknown: its pixels are tied and its part is exact, so maps of few levels lose nothing.

Below, a bin has n good and p defect pixels, t and f of them lie in higher bins; T = t + p, F = f + n.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from anomaly_u2net.errors import InputError, NotComputable
from anomaly_u2net.metrics.curves import BestF1
from anomaly_u2net.metrics.keys import lowest_score

Counts: TypeAlias = NDArray[np.int64]
Numbers: TypeAlias = NDArray[Any]

#: Added on both sides of every interval: far more than what float64 sums and the fixed-point
#: overlap (2**-40) can be off, far less than anyone reads.
ROUNDING = 2e-12


@dataclass(frozen=True, slots=True)
class Certified:
    """A number in [0, 1] and its certificate: the exact one lies within [low, high], proved.

    >>> Certified(0.9, 0.8, 0.95).width
    0.1499999999999999
    """

    value: float
    low: float
    high: float

    @property
    def width(self) -> float:
        """high − low: the exact number is no farther than this from ``value``."""
        return self.high - self.low

    def __contains__(self, number: float) -> bool:
        return self.low <= number <= self.high


@dataclass(frozen=True, slots=True, eq=False)
class BinnedCurve:
    """Counts in each of the S occupied bins, highest bin first; the numbers of a `PixelCurve`.

    keys: (S,), strictly falling. negatives, positives: int64 (S,), good and defect pixels.
    overlap: float64 (S,), what the mean per-region overlap gains in the bin.
    tied: bool (S,), true where all pixels of the bin are known to have one score.
    bits: of the keys. regions: R.
    """

    keys: NDArray[np.int32]
    negatives: Counts
    positives: Counts
    overlap: NDArray[np.float64]
    tied: NDArray[np.bool_]
    bits: int
    regions: int

    def auroc(self) -> Certified:
        """Area under the ROC curve; see `RankCurve.auroc`.

        Of the p·n pairs of a bin the defect pixel wins none at worst, all at best, half by default.
        Raises NotComputable without defect or without good pixels.
        """
        total_p, total_n = self._need_positives("AUROC"), self._need_negatives("AUROC")
        p, n = self.positives, self.negatives
        below = total_n - np.cumsum(n)
        value = np.sum(p * (below + 0.5 * n)) / total_p / total_n
        slack = 0.5 * np.sum((p * n.astype(np.float64))[~self.tied]) / total_p / total_n
        return certified(value, value - slack, value + slack)

    def ap(self) -> Certified:
        """Average precision; see `RankCurve.ap`.

        Best: the p defect pixels tie above all n, each at precision T / (T + f). Worst: they come
        one by one below all n, the i-th at precision (t + i) / (t + i + F); their sum is
        p − F·Σ 1/(t + F + i), bounded by Σ 1/(a + i) <= ln((a + p + ½) / (a + ½)) (1/x is convex).
        Value: evenly mixed, all at the precision of the middle one.
        Raises NotComputable without defect pixels.
        """
        total_p = self._need_positives("average precision")
        p, n, t, f = self._reached()
        tied = self.tied[self.positives > 0]
        full_t, full_f = t + p, f + n
        if_tied = p * (full_t / (full_t + full_f))
        best = p * (full_t / (full_t + f))
        worst = p - full_f * np.log1p(p / (t + full_f + 0.5))
        middle = t + 0.5 * (p + 1)
        mixed = p * (middle / (middle + f + 0.5 * n))
        parts = (np.where(tied, if_tied, part).sum() / total_p for part in (mixed, worst, best))
        return certified(*parts)

    def f1_max(self) -> Certified:
        """The highest F1; see `RankCurve.best_f1`.

        Low, and the value: the best edge of a bin, which a real threshold reaches (`best_f1`). It
        is also the evenly mixed value: there F1 runs monotonically from edge to edge. The exact one
        is higher by what a lucky order inside a bin adds, a few pixels' worth; `PixelHistogram.zoom`
        finds it in a second pass. High: see `f1_bounds`.
        Raises NotComputable without defect pixels.
        """
        edge, most = self.f1_bounds()
        return certified(edge.max(), edge.max(), most.max())

    def best_f1(self) -> BestF1:
        """The highest F1 at an edge of a bin, and the threshold that reaches it.

        Defect is ``score > threshold`` for scores in float32. As any threshold chosen on the data
        it is measured on, it describes the scores and is never one to work with.
        Raises NotComputable without defect pixels.
        """
        edge, _ = self.f1_bounds()
        best = int(np.argmax(edge))
        lowest = np.float32(lowest_score(int(self.keys[best]), bits=self.bits))
        return BestF1(float(edge[best]), next_below(lowest))

    def f1_bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """`f1_bounds` of the bins; raises NotComputable without defect pixels."""
        total_p = self._need_positives("F1")
        tp, fp = np.cumsum(self.positives), np.cumsum(self.negatives)
        return f1_bounds(tp, fp, np.where(self.tied, 0, self.negatives), total=total_p)

    def aupro(self, *, fpr_limit: float = 0.3) -> Certified:
        """Area under the PRO curve up to ``fpr_limit``, over the limit; see `PixelCurve.aupro`.

        Inside a bin the curve rises by ``overlap`` while the false positives go from f to F: at
        best at once, at worst at the very end, along a straight line by default. The limit cuts
        all three. Raises NotComputable without defect or without good pixels, InputError for a
        limit outside (0, 1].
        """
        if not 0.0 < fpr_limit <= 1.0:
            raise InputError(
                f"expected an fpr_limit in (0, 1], got {fpr_limit}; it is a fraction of the "
                "good pixels, 0.3 is usual"
            )
        self._need_positives("AUPRO")
        limit = fpr_limit * self._need_negatives("AUPRO")
        end = np.cumsum(self.negatives)
        start = end - self.negatives
        best, worst = (np.clip(limit - fp, 0.0, None) for fp in (start, end))
        ramp = (best - worst) ** 2 / (2.0 * np.maximum(self.negatives, 1))
        line = worst + ramp
        parts = (line, np.where(self.tied, line, worst), np.where(self.tied, line, best))
        return certified(*(np.sum(self.overlap * part) / limit for part in parts))

    def _reached(self) -> tuple[Numbers, Numbers, Numbers, Numbers]:
        """p, n, t and f of the bins that have defect pixels."""
        kept = self.positives > 0
        p, n = self.positives, self.negatives
        return p[kept], n[kept], (np.cumsum(p) - p)[kept], (np.cumsum(n) - n)[kept]

    def _need_positives(self, number: str) -> int:
        total = int(self.positives.sum())
        if total == 0:
            raise NotComputable(
                f"{number} is undefined without a defective pixel: "
                f"all {int(self.negatives.sum())} pixels are good"
            )
        return total

    def _need_negatives(self, number: str) -> int:
        total = int(self.negatives.sum())
        if total == 0:
            raise NotComputable(
                f"{number} is undefined without a good pixel: "
                f"all {int(self.positives.sum())} pixels are defective"
            )
        return total


def f1_bounds(
    tp: Counts, fp: Counts, avoidable: Counts, *, total: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """F1 at the lower edge of each of S bins, and the most that it can be inside; float64 (S,).

    tp, fp: int64 (S,), defect and good pixels not below the edge. avoidable: int64 (S,), the good
    pixels of the bin that may lie below its defect pixels, all n of them or, where they are tied,
    none. total: P, all defect pixels.

    A threshold inside a bin has at best all its p and none of its n above it.

    >>> f1_bounds(np.array([3]), np.array([4]), np.array([4]), total=3)
    (array([0.6]), array([1.]))
    """
    return 2.0 * tp / (tp + fp + total), 2.0 * tp / (tp + fp - avoidable + total)


def next_below(score: np.float32) -> float:
    """The highest threshold that ``score`` is above; -inf below the lowest float32."""
    with np.errstate(over="ignore"):
        return float(np.nextafter(score, np.float32(-np.inf)))


def certified(value: float, low: float, high: float) -> Certified:
    """Widen by `ROUNDING` and keep within [0, 1]."""
    low, high = max(float(low) - ROUNDING, 0.0), min(float(high) + ROUNDING, 1.0)
    return Certified(min(max(float(value), low), high), low, high)
