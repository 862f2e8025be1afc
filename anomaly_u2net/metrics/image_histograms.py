"""What each image adds to the pixel numbers, kept without its map: intervals of streamed numbers.

N images, S occupied bins of one image, V corners of a curve. A `PixelHistogram` cannot be resampled:
it has forgotten which image a pixel was of. Here each image keeps a histogram of its own over the
bins of 16-bit `score_keys`, which need no other image, and holds only the bins that it occupies. At
the end all are laid on the same V corners, and a resample is a weighted sum as in `by_image`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anomaly_u2net.errors import NotComputable
from anomaly_u2net.metrics.by_image import (
    CORNERS,
    TOTALS,
    CurvesByImage,
    above,
    falling_sums,
    tied_corners,
)
from anomaly_u2net.metrics.checks import check_pair
from anomaly_u2net.metrics.curves import PixelCurve
from anomaly_u2net.metrics.keys import score_keys
from anomaly_u2net.metrics.regions import label_regions
from anomaly_u2net.metrics.ties import narrow

#: 512 bins for each doubling of the score: what is resampled is the number of scores rounded so.
#: The ends of an interval are within 1e-3 of the exact engine's (tests/metrics/
#: test_image_histograms.py). Where scores differ by no more than a few per cent of their size the
#: bins part too few of them, and an interval can be several times too narrow: `curve` then gives
#: another number than the scores do, which is how `evaluation.pixels` notices.
KEY_BITS = 16
#: Bytes of one occupied bin of good pixels, and of one of defect pixels.
GOOD_BIN_BYTES, DEFECT_BIN_BYTES = 6, 14

_BINS = 1 << KEY_BITS
_BLOCK = 1 << 15  # pixels handled at a time, so that all temporary arrays stay in the cache


@dataclass(frozen=True, slots=True, eq=False)
class _Bins:
    """One image: the bins that its good pixels occupy, and those of its defect pixels, rising.

    good_keys, defect_keys: uint16 (S,). good, defect: uint32 (S,), pixels. overlap: float64 (S,),
    the sum over its regions of the share that lies in the bin. regions: how many it has.
    """

    good_keys: NDArray[np.uint16]
    good: NDArray[np.uint32]
    defect_keys: NDArray[np.uint16]
    defect: NDArray[np.uint32]
    overlap: NDArray[np.float64]
    regions: int


class ImageHistograms:
    """Good pixels, defect pixels and region overlap per bin of score, image by image.

    Each image takes 6 bytes for a bin that its good pixels occupy and 14 for one of its defect
    pixels; scores in 0..1 have 24 049 bins.

    >>> from anomaly_u2net.metrics import bootstrap_interval
    >>> rng = np.random.default_rng(0)
    >>> histograms = ImageHistograms()
    >>> for index in range(12):
    ...     mask = np.zeros((16, 16), bool)
    ...     mask[4:8, 4:8] = index % 2
    ...     histograms.update(mask + rng.normal(size=mask.shape), mask)
    >>> found = bootstrap_interval(histograms.by_image().auroc())
    >>> len(histograms), found.low < found.value < found.high
    (12, True)
    """

    __slots__ = ("_images",)

    def __init__(self) -> None:
        self._images: list[_Bins] = []

    def __len__(self) -> int:
        return len(self._images)

    @property
    def nbytes(self) -> int:
        """Bytes of all bins held."""
        good = sum(one.good.size for one in self._images)
        return GOOD_BIN_BYTES * good + DEFECT_BIN_BYTES * sum(o.defect.size for o in self._images)

    def update(self, score_map: ArrayLike, mask: ArrayLike) -> None:
        """Count one image; takes and raises what `PixelHistogram.update` does."""
        scores, defect = check_pair(score_map, mask, index=len(self))
        keys = _keys(scores)
        labels, regions = label_regions(defect)
        own, label = keys[defect], labels[defect]
        positives = np.bincount(own, minlength=_BINS)
        overlap = np.bincount(own, 1.0 / np.bincount(label)[label], minlength=_BINS)
        good = np.bincount(keys.ravel(), minlength=_BINS) - positives
        at_good, at_defect = np.flatnonzero(good), np.flatnonzero(positives)
        self._images.append(
            _Bins(
                good_keys=at_good.astype(np.uint16),
                good=good[at_good].astype(np.uint32),
                defect_keys=at_defect.astype(np.uint16),
                defect=positives[at_defect].astype(np.uint32),
                overlap=overlap[at_defect].astype(np.float64),
                regions=regions,
            )
        )

    def curve(self, images: Sequence[int] | None = None) -> PixelCurve:
        """The pooled curve of some images (all when None); its scores are the keys as float32.

        Its numbers are those of the rounded scores: for the shape of an interval, not for the
        value, which `PixelHistogram` has finer and certified. Raises NotComputable for no images.
        """
        chosen = self._images if images is None else [self._images[place] for place in images]
        if not chosen:
            raise NotComputable("there are no images to measure on")
        good, positives = np.zeros((2, _BINS), np.int64)
        overlap = np.zeros(_BINS)
        for one in chosen:
            good[one.good_keys] += one.good
            positives[one.defect_keys] += one.defect
            overlap[one.defect_keys] += one.overlap
        regions = sum(one.regions for one in chosen)
        at = np.flatnonzero(positives)[::-1]
        fp = np.cumsum(good[::-1])[::-1]
        return PixelCurve(
            scores=at.astype(np.float32),
            tp=np.cumsum(positives[at]),
            fp=fp[at],
            fp_above=fp[at] - good[at],
            negatives=int(good.sum()),
            positives=int(positives.sum()),
            overlap=overlap[at] / max(regions, 1),
            regions=regions,
        )

    def by_image(self, *, corners: int = CORNERS) -> CurvesByImage:
        """All images on the same corners of their `curve`, as `pixels_by_image` lays out maps.

        Raises NotComputable without a defect pixel.
        """
        curve = self.curve()
        if curve.positives == 0:
            raise NotComputable(
                f"all {curve.negatives} pixels are good: there is nothing to resample"
            )
        kept = curve.thin(corners)
        counts = np.empty((len(self), TOTALS + 3 * kept.size))
        for row, one in zip(counts, self._images, strict=True):
            good = falling_sums(one.good.astype(np.int64))
            defect = falling_sums(one.defect.astype(np.int64))
            reached = above(one.defect_keys.astype(np.float32), curve.scores, kept)
            row[:] = np.concatenate(
                [
                    (defect[-1], good[-1], one.regions),
                    defect[reached],
                    good[above(one.good_keys.astype(np.float32), curve.scores, kept)],
                    falling_sums(one.overlap)[reached],
                ]
            )
        return CurvesByImage(curve, counts, tied_corners(kept))


def _keys(scores: NDArray[np.floating[Any]]) -> NDArray[np.uint16]:
    """The 16-bit key of each pixel, uint16 (H, W); scores beyond float32 have its last keys."""
    keys = np.empty(scores.size, np.uint16)
    flat = scores.ravel()
    for start in range(0, flat.size, _BLOCK):
        part = slice(start, start + _BLOCK)
        keys[part] = score_keys(narrow(flat[part]), bits=KEY_BITS)
    return keys.reshape(scores.shape)
