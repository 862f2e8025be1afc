"""The pixel numbers of one category: exact, with all maps at hand, or streamed, map by map.

The exact curve, the counts by image and the binned curve of the streaming engine have the same
methods, so one table of names serves all three.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from anomaly_u2net.evaluation.facts import or_none
from anomaly_u2net.evaluation.predictions import Predictions
from anomaly_u2net.metrics import (
    ByImage,
    Certified,
    CurvesByImage,
    ImageHistograms,
    PixelCurve,
    PixelHistogram,
    SegmentationCounts,
    class_mean_iou,
    pimo_curve,
    pixel_curve,
    pixels_by_image,
    ratio_by_image,
    segmentation_counts,
)
from anomaly_u2net.types import GOOD, Mask, ScoreMap

#: Scores lie too close together for the bins of `ImageHistograms` where a number's certificate is
#: wider than this, or where its value in those bins is farther than this from the certified one.
TOO_CLOSE = 1e-3


@dataclass(frozen=True, slots=True)
class Streamed:
    """A number with its certificate, and what each image adds to it.

    by_image: ``None`` without intervals, and where the scores lie too close together for one: the
    bins would then resample another number, and its spread can be far too narrow.
    too_close: whether that is why.
    """

    certified: Certified
    by_image: ByImage | None
    too_close: bool = False


#: An exact number, one that can be resampled, or a streamed one; ``None`` where undefined.
Found: TypeAlias = float | ByImage | Streamed | None

#: From a `PixelCurve`, `CurvesByImage` or `BinnedCurve` to its numbers.
CURVE_NUMBERS: dict[str, Callable[[Any], Any]] = {
    "pixel_auroc": lambda curve: curve.auroc(),
    "pixel_ap": lambda curve: curve.ap(),
    "aupro_0.30": lambda curve: curve.aupro(fpr_limit=0.30),
    "aupro_0.05": lambda curve: curve.aupro(fpr_limit=0.05),
    "pixel_f1_max": lambda curve: curve.f1_max(),
}
#: Those of them that a defect type has.
LABEL_NUMBERS = ("pixel_auroc", "pixel_ap", "aupro_0.30")


@dataclass(frozen=True, slots=True)
class PixelNumbers:
    """The pixel numbers of all images, and of each defect type against all good images.

    numbers: those of `CURVE_NUMBERS` and, where exact, ``aupimo`` and ``miou``.
    """

    numbers: Mapping[str, Found]
    labels: Mapping[str, Mapping[str, Found]]

    @property
    def by_image(self) -> dict[str, ByImage | None]:
        """The numbers of all images as what each image adds to them, where that is known."""
        found = {
            name: number.by_image if isinstance(number, Streamed) else number
            for name, number in self.numbers.items()
        }
        return {name: n if isinstance(n, ByImage) else None for name, n in found.items()}

    @property
    def too_close(self) -> set[str]:
        """The numbers of all images whose scores lie too close together for intervals."""
        return {n for n, one in self.numbers.items() if isinstance(one, Streamed) and one.too_close}


def exact_pixels(found: Predictions, *, intervals: bool) -> PixelNumbers:
    """Every number exact; with ``intervals``, each as what every image adds to it."""
    curve = pixel_curve(found.maps, found.masks)
    by_image = None
    if intervals:
        by_image = or_none(lambda: pixels_by_image(found.maps, found.masks, curve=curve))
    numbers: dict[str, Found] = _of_curve(curve if by_image is None else by_image, CURVE_NUMBERS)
    numbers["aupimo"] = or_none(lambda: _aupimo(found.maps, found.masks))
    numbers["miou"] = or_none(lambda: _miou(found.maps, found.masks, curve))
    kinds = [record.label for record in found.records]
    good = _sorted_pixels([m for m, kind in zip(found.maps, kinds, strict=True) if kind == GOOD])
    labels: dict[str, Mapping[str, Found]] = {}
    for label in sorted(set(kinds) - {GOOD}):
        own = [place for place, kind in enumerate(kinds) if kind == label]
        part = pixel_curve([found.maps[i] for i in own], [found.masks[i] for i in own])
        part = _with_good(part, good)
        against_good = by_image and by_image.part(_rows(kinds, label), curve=part)
        labels[label] = _of_curve(against_good or part, LABEL_NUMBERS)
    return PixelNumbers(numbers, labels)


class StreamedPixels:
    """The same numbers from maps that are seen once: certified, and with intervals if wanted.

    Give the good images first, then the defect types one after another: three histograms of 29 MB
    are held, and a fourth for a moment after each type, whatever the number of images and types.
    With ``intervals`` each image leaves a small histogram of its own besides; see `ImageHistograms`
    and `memory.streamed_bytes`. AUPIMO needs the maps: at its rates of 1e-5 a few pixels of each
    good image decide, and counts in bins would give a number without a certificate.
    """

    def __init__(self, *, intervals: bool) -> None:
        self._all, self._good, self._own = (PixelHistogram() for _ in range(3))
        self._images = ImageHistograms() if intervals else None
        self._kinds: list[str] = []
        self._labels: dict[str, dict[str, Certified | None]] = {}

    def update(self, score_map: ScoreMap, mask: Mask, *, label: str) -> None:
        """Count one image of a defect type, or a good one."""
        if self._kinds and label != self._kinds[-1]:
            self._close()
        self._kinds.append(label)
        self._own.update(score_map, mask)
        if self._images is not None:
            self._images.update(score_map, mask)

    def finish(self) -> PixelNumbers:
        """The numbers, after the last image."""
        self._close()
        images, by_image = self._images, None
        if images is not None:
            by_image = or_none(images.by_image)
        labels = {}
        for label, found in self._labels.items():
            part = None
            if images is not None and by_image is not None:
                rows = _rows(self._kinds, label)
                part = by_image.part(rows, curve=images.curve(rows))
            labels[label] = _streamed(found, part)
        numbers = _streamed(_of_curve(self._all.curve(), CURVE_NUMBERS), by_image)
        return PixelNumbers(numbers | {"aupimo": None}, labels)

    def _close(self) -> None:
        """Take the images of one label in: into the sum, and against the good ones."""
        label = self._kinds[-1]
        if label == GOOD:
            self._good = self._own
        else:
            self._labels[label] = _of_curve((self._good + self._own).curve(), LABEL_NUMBERS)
        self._all += self._own
        self._own = PixelHistogram()


def _streamed(
    found: Mapping[str, Certified | None], by_image: CurvesByImage | None
) -> dict[str, Found]:
    """The certified values; what the images add is counted in coarser bins, for intervals only."""
    numbers: dict[str, Found] = {}
    for name, certified in found.items():
        if certified is None:
            numbers[name] = None
        elif by_image is None:
            numbers[name] = Streamed(certified, None)
        else:
            numbers[name] = _with_spread(certified, CURVE_NUMBERS[name](by_image))
    return numbers


def _with_spread(certified: Certified, coarse: ByImage) -> Streamed:
    """The certified value with the spread of the coarse one, unless that is another number."""
    if max(certified.width, abs(coarse.value - certified.value)) > TOO_CLOSE:
        return Streamed(certified, None, too_close=True)
    return Streamed(certified, replace(coarse, value=certified.value))


def _rows(kinds: Sequence[str], label: str) -> list[int]:
    """The places of the good images and of those of ``label``."""
    return [place for place, kind in enumerate(kinds) if kind in (label, GOOD)]


def _of_curve(curve: Any, names: Sequence[str] | Mapping[str, Any]) -> dict[str, Any]:
    return {name: or_none(partial(CURVE_NUMBERS[name], curve)) for name in names}


def _aupimo(maps: Sequence[ScoreMap], masks: Sequence[Mask]) -> ByImage:
    """The mean over defective images; the rates of the good images are held as they are."""
    curve = pimo_curve(maps, masks)
    values, defective = np.zeros(len(maps)), np.zeros(len(maps))
    values[curve.images] = np.minimum(curve.per_image(), 1.0)  # a sum of weights may round above
    defective[curve.images] = 1.0
    return ratio_by_image(values, defective)


def _miou(maps: Sequence[ScoreMap], masks: Sequence[Mask], curve: PixelCurve) -> ByImage:
    """`class_mean_iou` at the threshold of highest F1 over all images, which resamples keep."""
    threshold = curve.best_f1().threshold
    counts = [
        segmentation_counts(*pair, threshold=threshold) for pair in zip(maps, masks, strict=True)
    ]
    pixels = [mask.size for mask in masks]
    value = class_mean_iou(sum(counts, SegmentationCounts()), pixels=sum(pixels))
    rows = [(c.tp + c.fn, n - c.tp - c.fn, c.tp, c.fp) for c, n in zip(counts, pixels, strict=True)]
    return ByImage(value, np.array(rows, np.float64), _miou_of_sums, needed=(0, 1))


def _miou_of_sums(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """`class_mean_iou` of B resamples, (B,), from (B, 4).

    The four: defect pixels, good pixels, defect pixels found, good pixels taken for defect.
    """
    defect, good, tp, fp = sums.T
    return np.asarray((tp / (defect + fp) + (good - fp) / (good + defect - tp)) / 2)


def _sorted_pixels(maps: Sequence[ScoreMap]) -> np.ndarray[Any, Any]:
    pixels = np.concatenate([m.ravel() for m in maps]) if maps else np.zeros(0, np.float32)
    pixels.sort()
    return pixels


def _with_good(curve: PixelCurve, good: np.ndarray[Any, Any]) -> PixelCurve:
    """The curve of some images and the sorted pixels (n,) of good ones: their counts add up."""
    scores = curve.scores.astype(good.dtype, copy=False)
    return replace(
        curve,
        fp=curve.fp + good.size - np.searchsorted(good, scores, side="left"),
        fp_above=curve.fp_above + good.size - np.searchsorted(good, scores, side="right"),
        negatives=curve.negatives + good.size,
    )
