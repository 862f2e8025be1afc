"""The exact engine: where the defective scores stand among the good ones, then any number.

N good scores, P defective scores, T distinct defective scores, R regions. A threshold that no
defective element has only adds false positives, so every rank metric is a sum over the T distinct
defective scores and needs two counts at each: the good scores above it, and the good scores not
below it (they differ by the ties). That takes one sort of plain values and no argsort of pixels.
Elements with one score enter together, as one point of the curve.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from anomaly_u2net.errors import InputError, NotComputable

Floats: TypeAlias = NDArray[np.floating[Any]]
Counts: TypeAlias = NDArray[np.int64]


class BestF1(NamedTuple):
    """The highest F1 and a threshold that reaches it: defective is ``score > threshold``."""

    value: float
    threshold: float


class CurvePoints(NamedTuple):
    """K points of the ROC, precision-recall and, for pixels, PRO curves, thresholds falling.

    thresholds: (K,), float64; a point counts ``score > threshold``; from inf to -inf.
    fpr, tpr, precision: (K,). tpr is the recall too. precision is 1 where nothing is counted.
    pro: (K,), the mean per-region overlap; None for images.
    error: how far a full curve can be from the straight lines between these points: no point of a
    ROC or PRO curve is farther than this from its line in x and y, no precision farther in y.
    """

    thresholds: NDArray[np.float64]
    fpr: NDArray[np.float64]
    tpr: NDArray[np.float64]
    precision: NDArray[np.float64]
    pro: NDArray[np.float64] | None
    error: float


@dataclass(frozen=True, slots=True, eq=False)
class RankCurve:
    """Counts at each of the T distinct scores that defective elements have, highest first.

    scores: (T,), strictly falling, in the dtype they were compared in.
    tp: int64 (T,), defective elements with a score >= scores[t].
    fp: int64 (T,), good elements with a score >= scores[t].
    fp_above: int64 (T,), good elements with a score > scores[t].
    negatives: N, all good elements. positives: P, all defective elements.
    """

    unit: ClassVar[str] = "image"

    scores: Floats
    tp: Counts
    fp: Counts
    fp_above: Counts
    negatives: int
    positives: int

    def auroc(self) -> float:
        """Area under the ROC curve: P(a defective score beats a good one), ties counting half.

        Raises NotComputable without defective or without good elements.
        """
        self._need_positives("AUROC")
        self._need_negatives("AUROC")
        gained = np.diff(self.tp, prepend=0)
        area = _area_after(self.fp_above, self.fp, float(self.negatives))
        return float(np.sum(gained * area) / self.positives / self.negatives)

    def ap(self) -> float:
        """Average precision: the sum over thresholds of (recall gained) × (precision there).

        The step definition of scikit-learn, nothing interpolated; tied scores are one threshold.
        Raises NotComputable without defective elements.
        """
        self._need_positives("average precision")
        gained = np.diff(self.tp, prepend=0)
        return float(np.sum(gained * (self.tp / (self.tp + self.fp))) / self.positives)

    def best_f1(self) -> BestF1:
        """The highest F1 = 2TP / (2TP + FP + FN) of any threshold, and the highest such threshold.

        The threshold is the next number below the lowest score it lets in, so ``score >
        threshold`` holds for exactly the elements counted. It is chosen on the data it is measured
        on: it describes the scores and is never a threshold to work with.
        Raises NotComputable without defective elements.
        """
        self._need_positives("F1")
        f1 = 2.0 * self.tp / (self.tp + self.fp + self.positives)
        best = int(np.argmax(f1))
        below = np.nextafter(self.scores[best], self.scores.dtype.type(-np.inf))
        return BestF1(float(f1[best]), float(below))

    def f1_max(self) -> float:
        """The value of `best_f1`."""
        return self.best_f1().value

    def points(self, max_points: int = 1000) -> CurvePoints:
        """The ROC, precision-recall and PRO curves for a plot, in at most ``max_points`` points.

        All corners of the curves where they fit; else the ones between which the curves move
        evenly, and every longer step whole. `CurvePoints.error` states what that costs.
        Raises NotComputable without defective or without good elements, InputError for fewer than
        10 points.

        >>> curve = RankCurve(np.array([0.9, 0.2]), np.array([1, 2]), np.array([0, 2]),
        ...                   np.array([0, 1]), negatives=2, positives=2)
        >>> points = curve.points()
        >>> points.fpr.tolist(), points.tpr.tolist(), points.error
        ([0.0, 0.0, 0.0, 0.5, 1.0, 1.0], [0.0, 0.0, 0.5, 0.5, 1.0, 1.0], 0.0)
        """
        self._need_positives("the curve")
        self._need_negatives("the curve")
        if max_points < 10:
            raise InputError(f"expected 10 or more points for a curve, got max_points {max_points}")
        tp, fp, overlap = self.corners()
        kept = self.thin(max_points - 2)
        counted = tp + fp
        precision = np.where(counted > 0, tp / np.maximum(counted, 1), 1.0)
        tpr, fpr = tp / self.positives, fp / self.negatives
        dropped = np.diff(kept) > 1
        error = max(_chord_error(fpr, tpr, kept), _range_error(precision, kept, dropped))
        if overlap is not None:
            error = max(error, _chord_error(fpr, overlap, kept))
        scores = self.scores.astype(np.float64)
        below = np.nextafter(self.scores, self.scores.dtype.type(-np.inf)).astype(np.float64)
        thresholds = np.where(kept % 2, below[kept // 2], scores[kept // 2])
        share = self.positives / (self.positives + self.negatives)
        return CurvePoints(
            thresholds=_between(np.inf, thresholds, -np.inf),
            fpr=_between(0.0, fpr[kept], 1.0),
            tpr=_between(0.0, tpr[kept], 1.0),
            precision=_between(1.0, precision[kept], share),
            pro=None if overlap is None else _between(0.0, overlap[kept], 1.0),
            error=error,
        )

    def corners(self) -> tuple[Counts, Counts, NDArray[np.float64] | None]:
        """tp and fp, int64 (2T,), at the corners of the ROC curve, in order; None for no overlap.

        Corner 2t counts ``score > scores[t]``, corner 2t + 1 ``score >= scores[t]``.
        """
        tp = np.zeros(2 * self.tp.size, np.int64)
        tp[1::2] = self.tp
        tp[2::2] = self.tp[:-1]
        return tp, np.stack([self.fp_above, self.fp], axis=1).ravel(), None

    def thin(self, most: int) -> NDArray[np.intp]:
        """Which of the 2T `corners` to keep, rising, when only ``most`` may be kept.

        Between two kept neighbours lies either no other corner, or a piece of the curves on which
        tpr, fpr, fpr to 0.05, overlap and the total variation of precision, added up, change by
        at most 1 / (most // 2 - 1) of what they change in all, which is below 5 + ln(N + P).
        """
        tp, fp, overlap = self.corners()
        if tp.size <= most:
            return np.arange(tp.size)
        precision = tp / np.maximum(tp + fp, 1)
        way = np.cumsum(np.abs(np.diff(precision, prepend=precision[0])))
        way += tp / self.positives
        if self.negatives:
            way += fp / self.negatives + np.minimum(fp / (0.05 * self.negatives), 1.0)
        if overlap is not None:
            way += overlap
        reached = np.searchsorted(way, np.linspace(way[0], way[-1], most // 2))
        reached = np.minimum(reached, tp.size - 1)
        return np.unique(np.concatenate([reached, np.maximum(reached - 1, 0)]))

    def _need_positives(self, number: str) -> None:
        if self.positives == 0:
            raise NotComputable(
                f"{number} is undefined without a defective {self.unit}: "
                f"all {self.negatives} {self.unit}s are good"
            )

    def _need_negatives(self, number: str) -> None:
        if self.negatives == 0:
            raise NotComputable(
                f"{number} is undefined without a good {self.unit}: "
                f"all {self.positives} {self.unit}s are defective"
            )


@dataclass(frozen=True, slots=True, eq=False)
class PixelCurve(RankCurve):
    """The counts of `RankCurve` over the pixels of all images, and the overlap with regions.

    overlap: float64 (T,), what the mean per-region overlap (PRO) gains at scores[t]: the sum of
    1 / (R × area of its region) over the defect pixels that have this score.
    regions: R, the 8-connected defect regions of all images.
    """

    unit: ClassVar[str] = "pixel"

    overlap: NDArray[np.float64]
    regions: int

    def aupro(self, *, fpr_limit: float = 0.3) -> float:
        """Area under PRO against the pixel false positive rate up to ``fpr_limit``, over the limit.

        The curve has one point per distinct score, joined by straight lines, and is cut at the
        limit by interpolation; 1 is perfect (Bergmann et al., "The MVTec Anomaly Detection
        Dataset", IJCV 2021, which uses the limit 0.3).

        Raises NotComputable without defect or without good pixels, InputError for a limit
        outside (0, 1].
        """
        if not 0.0 < fpr_limit <= 1.0:
            raise InputError(
                f"expected an fpr_limit in (0, 1], got {fpr_limit}; it is a fraction of the "
                "good pixels, 0.3 is usual"
            )
        self._need_positives("AUPRO")
        self._need_negatives("AUPRO")
        limit = fpr_limit * self.negatives
        area = _area_after(self.fp_above, self.fp, limit)
        return min(float(np.sum(self.overlap * area) / limit), 1.0)  # shares of regions round up

    def corners(self) -> tuple[Counts, Counts, NDArray[np.float64] | None]:
        """tp and fp, int64 (2T,), and the mean overlap, float64 (2T,); see `RankCurve.corners`."""
        tp, fp, _ = super(PixelCurve, self).corners()  # slots: the class is made anew
        gained = np.minimum(np.cumsum(self.overlap), 1.0)
        overlap = np.zeros(tp.size)
        overlap[1::2] = gained
        overlap[2::2] = gained[:-1]
        return tp, fp, overlap


class Ranks(NamedTuple):
    """The fields of a `RankCurve`, in its order."""

    scores: Floats
    tp: Counts
    fp: Counts
    fp_above: Counts
    negatives: int
    positives: int


def count_ranks(negatives: Floats, scores: Floats, tp: Counts) -> Ranks:
    """Count the good scores above, and not below, each distinct defective score.

    negatives: (N,), any order, SORTED IN PLACE. scores: (T,), the distinct defective scores,
    RISING, in the dtype of negatives. tp: (T,), defective elements at or above each, scores FALLING.
    """
    negatives.sort()
    fp = np.searchsorted(negatives, scores, side="left")
    fp_above = np.searchsorted(negatives, scores, side="right")
    for counts in (fp, fp_above):
        np.subtract(negatives.size, counts, out=counts)
    return Ranks(
        scores=scores[::-1],
        tp=tp,
        fp=fp[::-1],
        fp_above=fp_above[::-1],
        negatives=int(negatives.size),
        positives=int(tp[-1]) if tp.size else 0,
    )


def _area_after(start: Counts, end: Counts, limit: float) -> NDArray[np.float64]:
    """The area up to ``limit`` under a line that climbs from 0 at start to 1 at end, then stays.

    start, end and the area: (T,). Where no good element has the score, start equals end and the
    climb is vertical; otherwise it is a straight ramp, which the limit may cut.
    """
    climbed = np.clip(np.minimum(end, limit) - start, 0.0, None)
    ramp = climbed * climbed / (2.0 * np.maximum(end - start, 1))
    return np.asarray(np.clip(limit - end, 0.0, None) + ramp)


def _between(first: float, values: NDArray[np.float64], last: float) -> NDArray[np.float64]:
    return np.concatenate([[first], values, [last]])


def _chord_error(x: NDArray[np.float64], y: NDArray[np.float64], kept: NDArray[np.intp]) -> float:
    """How far, in x and in y, a rising curve (V,) gets from the lines between its kept points.

    Curve and line cross each falling diagonal once, and there they are compared.
    """
    along, across = x + y, y - x
    line = np.interp(along, along[kept], across[kept])
    return float(np.max(np.abs(across - line), initial=0.0) / 2)


def _range_error(
    y: NDArray[np.float64], kept: NDArray[np.intp], dropped: NDArray[np.bool_]
) -> float:
    """The largest range of y (V,) between two kept points that had others between them."""
    highest = np.maximum(np.maximum.reduceat(y, kept)[:-1], y[kept[1:]])
    lowest = np.minimum(np.minimum.reduceat(y, kept)[:-1], y[kept[1:]])
    return float(np.max((highest - lowest)[dropped], initial=0.0))
