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
        return float(np.sum(self.overlap * area) / limit)


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
