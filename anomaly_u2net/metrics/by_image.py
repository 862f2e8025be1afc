"""A number, and what each image adds to it: what `intervals.py` resamples.

N images, V corners of a curve, B resamples. The curves of all images are counted at the same V
scores, those of `RankCurve.thin`, so the counts of a resample are weighted sums of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anomaly_u2net.errors import InputError, NotComputable
from anomaly_u2net.metrics.checks import check_numbers, check_pair, check_scores
from anomaly_u2net.metrics.counts import SegmentationCounts, f1, iou
from anomaly_u2net.metrics.curves import Counts, Floats, PixelCurve, RankCurve
from anomaly_u2net.metrics.image import image_curve
from anomaly_u2net.metrics.pixel import Planes, pixel_curve
from anomaly_u2net.metrics.regions import label_regions

#: Corners of a curve that are kept. On smooth, noisy and saturated maps a resampled F1-max is then
#: within 5e-4 of the exact number of that resample, and all others within 1e-4 (tests/metrics/
#: test_intervals.py); an interval is some 100 times as wide. With fewer corners all is exact.
CORNERS = 4096

Array = NDArray[np.float64]

#: The columns of `CurvesByImage.counts`: three totals, then blocks of V columns.
_POSITIVES, _NEGATIVES, _REGIONS = range(3)
TOTALS = 3
_TP, _FP, _OVERLAP = range(3)


@dataclass(frozen=True, slots=True, eq=False)
class ByImage:
    """A number in 0..1 and what each of N images adds to it.

    value: the exact number over all images.
    counts: float64 (N, C). number: from sums of counts (B, C) to the number (B,).
    needed: the columns whose sums must be positive for the number to be defined.
    share: the number is a share of images (see `bootstrap_interval`).
    """

    value: float
    counts: Array
    number: Callable[[Array], Array]
    needed: tuple[int, ...]
    share: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class CurvesByImage:
    """The counts of a curve at V of its corners, image by image, and the exact curve.

    counts: float64 (N, 3 + 3V): defective elements, good elements, regions, then tp, fp and overlap
    at the V corners each; overlap is the sum over the image's regions of the share that is found.
    Image scores have none: (N, 3 + 2V).
    ties: bool (V,), true where a corner differs from the one before by one score only.
    """

    curve: RankCurve
    counts: Array
    ties: NDArray[np.bool_]

    def auroc(self) -> ByImage:
        """`RankCurve.auroc` by image; raises NotComputable as that does."""
        return self._number(self.curve.auroc(), _auroc, needed=(_POSITIVES, _NEGATIVES))

    def ap(self) -> ByImage:
        """`RankCurve.ap` by image; raises NotComputable as that does."""
        return self._number(self.curve.ap(), partial(_ap, ties=self.ties), needed=(_POSITIVES,))

    def f1_max(self) -> ByImage:
        """`RankCurve.f1_max` by image; every resample has its own best threshold."""
        return self._number(self.curve.f1_max(), _f1_max, needed=(_POSITIVES,))

    def aupro(self, *, fpr_limit: float = 0.3) -> ByImage:
        """`PixelCurve.aupro` by image; raises as that does, InputError for image scores."""
        if not isinstance(self.curve, PixelCurve):
            raise InputError("AUPRO is a number of pixels: use pixels_by_image, not image scores")
        value = self.curve.aupro(fpr_limit=fpr_limit)
        return self._number(
            value, partial(_aupro, limit=fpr_limit), needed=(_REGIONS, _NEGATIVES), rise=_OVERLAP
        )

    def part(self, images: Sequence[int], *, curve: RankCurve) -> CurvesByImage:
        """The same corners for some images only, whose own curve is ``curve``."""
        return CurvesByImage(curve, self.counts[list(images)], self.ties)

    def _number(
        self,
        value: float,
        number: Callable[..., Array],
        *,
        needed: tuple[int, ...],
        rise: int = _TP,
    ) -> ByImage:
        """All numbers share the counts; each picks its columns from their sums (B, C)."""
        total, corners = needed[0], self.ties.size

        def of_sums(sums: Array) -> Array:
            rises, fp = (_block(sums, place, corners) for place in (rise, _FP))
            return number(rises, fp, sums[:, total, None], sums[:, _NEGATIVES, None])

        return ByImage(value, self.counts, of_sums, needed)


def pixels_by_image(
    maps: Planes, masks: Planes, *, curve: PixelCurve | None = None, corners: int = CORNERS
) -> CurvesByImage:
    """Count N maps and masks image by image, for intervals of the pixel numbers.

    maps, masks: as `pixel_curve` takes them. curve: theirs, if there is one already.
    corners: how many corners of the curve to keep; the result takes 24 bytes for each and image.

    Raises as `pixel_curve`, NotComputable without a defect pixel, InputError for a curve of other
    images or fewer than 16 corners.

    >>> from anomaly_u2net.metrics import bootstrap_interval
    >>> rng = np.random.default_rng(0)
    >>> masks = np.zeros((12, 16, 16), bool)
    >>> masks[::2, 4:8, 4:8] = True
    >>> by_image = pixels_by_image(masks + rng.normal(size=masks.shape), masks)
    >>> found = bootstrap_interval(by_image.auroc())
    >>> found.low < found.value < found.high
    True
    """
    check_numbers(maps, masks)
    if corners < 16:
        raise InputError(f"expected 16 or more corners of the curve, got {corners}")
    curve = pixel_curve(maps, masks) if curve is None else curve
    if curve.positives == 0:
        raise NotComputable(f"all {curve.negatives} pixels are good: there is nothing to resample")
    kept = curve.thin(corners)
    counts = np.empty((len(maps), TOTALS + 3 * kept.size))
    for index, (plane, mask) in enumerate(zip(maps, masks, strict=True)):
        score_map, defect = check_pair(plane, mask, index=index)
        score_map = score_map.astype(curve.scores.dtype, copy=False)
        good = np.sort(score_map[~defect])
        labels, regions = label_regions(defect)
        label, values = labels[defect], score_map[defect]
        order = np.argsort(values)
        tp = above(values[order], curve.scores, kept)
        fp = above(good, curve.scores, kept)
        overlap = falling_sums((1.0 / np.bincount(label)[label])[order])[tp]
        counts[index] = np.concatenate([(values.size, good.size, regions), tp, fp, overlap])
    if tuple(counts[:, :2].sum(axis=0)) != (curve.positives, curve.negatives):
        raise InputError("the curve was counted on other images than these maps and masks")
    return CurvesByImage(curve, counts, tied_corners(kept))


def scores_by_image(scores: ArrayLike, labels: ArrayLike) -> CurvesByImage:
    """Lay out N image scores and labels for intervals of the image numbers.

    scores, labels: as `image_curve` takes them, and raises for them. At most 4096 corners of the
    curve are kept: all of them for up to 2048 defective images.
    """
    values, defective = check_scores(scores, labels)
    curve = image_curve(values, defective)
    kept = curve.thin(CORNERS)
    at = curve.scores[kept // 2]
    reached = np.where(kept % 2, values[:, None] >= at, values[:, None] > at)
    good = ~defective
    totals = np.stack([defective, good, np.zeros_like(good)], axis=1)
    counts = np.concatenate(
        [totals, reached & defective[:, None], reached & good[:, None]], axis=1, dtype=np.float64
    )
    return CurvesByImage(curve, counts, tied_corners(kept))


def ratio_by_image(
    over: ArrayLike, under: ArrayLike, *, needed: ArrayLike | None = None
) -> ByImage:
    """A ratio of sums over N images, ``sum(over) / sum(under)``: pooled recall, overlap, means.

    over, under: (N,), with 0 <= over <= under. needed: (N,), what must have a positive sum for the
    ratio to be defined; ``under`` when not given.
    Raises InputError for other shapes or values, NotComputable when ``needed`` adds up to 0.

    >>> ratio_by_image([1, 0, 2], [2, 0, 2]).value
    0.75
    """
    tops, bottoms = np.asarray(over, np.float64), np.asarray(under, np.float64)
    needs = bottoms if needed is None else np.asarray(needed, np.float64)
    if tops.ndim != 1 or tops.shape != bottoms.shape or tops.shape != needs.shape:
        raise InputError(
            f"expected one number per image, each (N,); got {tops.shape}, {bottoms.shape} and "
            f"{needs.shape}"
        )
    if not ((tops >= 0) & (tops <= bottoms) & (needs >= 0)).all():
        raise InputError("expected 0 <= over <= under in every image, and no NaN")
    if needs.sum() == 0:
        raise NotComputable(f"none of {needs.size} images has anything to measure this number on")
    counts = np.stack([tops, bottoms, needs], axis=1)
    return ByImage(float(tops.sum() / bottoms.sum()), counts, _ratio, (2,))


def share_by_image(events: ArrayLike, among: ArrayLike) -> ByImage:
    """The share of images with an event among those that can have it: false rejects, misses.

    events, among: bool (N,); an event outside ``among`` does not count. False rejects are
    ``share_by_image(scores > threshold, labels == 0)``.
    Raises InputError for other shapes or types, NotComputable when ``among`` is empty.

    >>> share_by_image([True, False, True, False], [True, True, False, True]).value
    0.3333333333333333
    """
    hit, eligible = np.asarray(events), np.asarray(among)
    if hit.dtype != bool or eligible.dtype != bool or hit.ndim != 1 or hit.shape != eligible.shape:
        raise InputError(
            f"expected two bools per image, each (N,); got {hit.dtype} {hit.shape} and "
            f"{eligible.dtype} {eligible.shape}"
        )
    ratio = ratio_by_image(hit & eligible, eligible)
    return ByImage(ratio.value, ratio.counts, ratio.number, ratio.needed, share=True)


def f1_by_image(counts: Sequence[SegmentationCounts]) -> ByImage:
    """`counts.f1` pooled over N images at one threshold; raises NotComputable as that does."""
    f1(sum(counts, SegmentationCounts()))
    return ratio_by_image(
        [2 * c.tp for c in counts],
        [2 * c.tp + c.fp + c.fn for c in counts],
        needed=[c.tp + c.fn for c in counts],
    )


def iou_by_image(counts: Sequence[SegmentationCounts]) -> ByImage:
    """`counts.iou` pooled over N images at one threshold; raises NotComputable as that does."""
    iou(sum(counts, SegmentationCounts()))
    return ratio_by_image(
        [c.tp for c in counts],
        [c.tp + c.fp + c.fn for c in counts],
        needed=[c.tp + c.fn for c in counts],
    )


def above(rising: Floats, scores: Floats, kept: NDArray[np.intp]) -> Counts:
    """How many of the rising values (n,) each kept corner of a curve counts, (V,).

    scores: (T,), the curve's. kept: (V,), from `RankCurve.thin`.
    """
    at = scores[kept // 2]
    below = np.where(
        kept % 2, np.searchsorted(rising, at, "left"), np.searchsorted(rising, at, "right")
    )
    return np.asarray(rising.size - below)


def falling_sums(weights: NDArray[Any]) -> NDArray[Any]:
    """The sums of the last 0, 1, … n of the weights (n,): what the values above a corner add up to.

    >>> falling_sums(np.array([1, 2, 4])).tolist()
    [0, 4, 6, 7]
    """
    return np.concatenate([np.zeros(1, weights.dtype), np.cumsum(weights[::-1])])


def tied_corners(kept: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which kept corners (V,) differ from the one before by one score only, (V,)."""
    return (kept % 2 == 1) & (np.diff(kept, prepend=-1) == 1)


def _block(counts: Array, place: int, corners: int) -> Array:
    """tp (place 0), fp (1) or overlap (2) at the V corners: the columns (B, V) of (B, C)."""
    start = TOTALS + place * corners
    return counts[:, start : start + corners]


def _ratio(sums: Array) -> Array:
    return np.asarray(sums[:, 0] / sums[:, 1])


def _auroc(tp: Array, fp: Array, positives: Array, negatives: Array) -> Array:
    return _area(tp, fp, negatives) / (positives * negatives)[:, 0]


def _aupro(overlap: Array, fp: Array, regions: Array, negatives: Array, limit: float) -> Array:
    return _area(overlap, fp, limit * negatives) / (limit * negatives * regions)[:, 0]


def _ap(tp: Array, fp: Array, positives: Array, _: Array, ties: NDArray[np.bool_]) -> Array:
    """A step at ties, as `RankCurve.ap`; the mean precision between corners that skip others."""
    counted = tp + fp
    precision = tp / np.maximum(counted, 1.0)
    before = np.where(counted > 0, precision, np.nan)
    before = np.concatenate([precision[:, :1], before[:, :-1]], axis=1)
    before = np.where(ties | np.isnan(before), precision, before)
    gained = np.diff(tp, axis=1, prepend=0.0)
    return np.asarray(np.sum(gained * (before + precision), axis=1) / 2 / positives[:, 0])


def _f1_max(tp: Array, fp: Array, positives: Array, _: Array) -> Array:
    return np.asarray(np.max(2.0 * tp / (tp + fp + positives), axis=1))


def _area(rise: Array, fp: Array, limit: Array) -> Array:
    """The area up to ``limit`` (B, 1) under lines from (0, 0) through the corners (B, V): (B,)."""
    start = np.concatenate([np.zeros_like(limit), fp[:, :-1]], axis=1)
    climbed = np.clip(np.minimum(fp, limit) - start, 0.0, None)
    after = np.clip(limit - fp, 0.0, None) + climbed**2 / (2.0 * np.maximum(fp - start, 1.0))
    return np.asarray(np.sum(np.diff(rise, axis=1, prepend=0.0) * after, axis=1))
