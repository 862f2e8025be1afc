"""The streaming engine: pixel metrics of any number of images in constant memory, with certificates.

`PixelHistogram` takes images one by one, forgets them, and keeps three counts per bin of score. Its
counts are integers, so histograms from several processes or machines add up to the same state
whatever the order. `PixelHistogram.curve` gives the numbers, each with an interval that holds the
exact one. The metrics and their definitions are those of `pixel_curve`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anomaly_u2net.errors import InputError, NotComputable
from anomaly_u2net.files import write_aside
from anomaly_u2net.metrics.certified import BinnedCurve
from anomaly_u2net.metrics.checks import check_pair
from anomaly_u2net.metrics.keys import check_bits, score_keys
from anomaly_u2net.metrics.regions import label_regions
from anomaly_u2net.metrics.ties import Ties, narrow
from anomaly_u2net.metrics.zoom import F1Zoom

DEFAULT_BITS = 20

_FORMAT = 1
_BLOCK = 1 << 15  # pixels handled at a time, so that all temporary arrays stay in the cache
_UNIT = 40  # the overlap with one whole region counts 2**40
_MAX_REGIONS = (1 << (62 - _UNIT)) - 1
_COUNTS = ("negatives", "positives", "overlap")


class PixelHistogram:
    """Good pixels, defect pixels and region overlap per bin of score, over any number of images.

    bits: 16 to 22; ``2**bits`` bins of 28 bytes each: 29 MB at the default of 20, 117 MB at 22.
    Raises InputError for another number of bits.

    The bins are `score_keys` of the float32 score: order-preserving and the same for all data, so
    nothing has to be known of the scores' range. float64 scores are rounded to float32, which may
    merge two of them but never swaps them: they then share a bin that counts as one of unknown
    order, so certificates hold for the float64 scores too.

    A defect pixel weighs 1 / area of its region, which no float sums exactly. Instead, the overlap
    that a region has reached after its c highest pixels is kept as floor(2⁴⁰ c / area), its pixels
    sharing the differences: integers, exact in any order of adding, and within 2⁻⁴⁰ per region.

    >>> histogram = PixelHistogram()
    >>> histogram.update(np.array([[0.9, 0.8, 0.2, 0.1]]), np.array([[1, 0, 0, 1]]))
    >>> histogram.update(np.array([[0.7, 0.1, 0.1, 0.0]]), np.array([[0, 0, 0, 0]]))
    >>> histogram
    PixelHistogram(bits=20, images=2, regions=2)
    >>> auroc = histogram.curve().auroc()
    >>> round(auroc.value, 4), 2 / 3 in auroc
    (0.6667, True)
    """

    __slots__ = ("_negatives", "_overlap", "_positives", "_ties", "bits", "images", "regions")

    def __init__(self, *, bits: int = DEFAULT_BITS) -> None:
        self.bits = check_bits(bits)
        self.images = 0
        self.regions = 0
        self._negatives, self._positives, self._overlap = np.zeros((3, 1 << bits), np.int64)
        self._ties = Ties(1 << bits)

    def __repr__(self) -> str:
        return f"PixelHistogram(bits={self.bits}, images={self.images}, regions={self.regions})"

    @property
    def nbytes(self) -> int:
        """Bytes held, the same however many images were seen."""
        return self._negatives.nbytes * len(_COUNTS) + self._ties.only.nbytes

    def update(self, score_map: ArrayLike, mask: ArrayLike) -> None:
        """Count one image.

        score_map: float (H, W), finite, on any scale. mask: bool or integer (H, W), nonzero =
        defect, all zero for a good image. Raises MapError for other types, unequal shapes, NaN or
        infinity; nothing is counted then.
        """
        scores, defect = check_pair(score_map, mask, index=self.images)
        if defect.any():
            labels, regions = label_regions(defect)
            self._add_regions(regions)
            self._count_defects(narrow(scores[defect]), labels[defect])
        flat = scores.ravel()
        for start in range(0, flat.size, _BLOCK):
            block = flat[start : start + _BLOCK]
            narrowed = narrow(block)
            keys = score_keys(narrowed, bits=self.bits).astype(np.intp)
            np.add.at(self._negatives, keys, 1)  # the defect pixels were taken off before
            self._ties.note(keys, narrowed)
            if narrowed is not block:
                self._ties.mix(keys[narrowed != block])
        self.images += 1

    def __iadd__(self, other: PixelHistogram) -> PixelHistogram:
        """Add the images of another histogram; raises InputError when its bits differ."""
        if other.bits != self.bits:
            raise InputError(
                f"cannot add a histogram of {other.bits} bits to one of {self.bits}; "
                "make all parts with the same number of bits"
            )
        self._add_regions(other.regions)
        self._negatives += other._negatives
        self._positives += other._positives
        self._overlap += other._overlap
        self._ties += other._ties
        self.images += other.images
        return self

    def __add__(self, other: PixelHistogram) -> PixelHistogram:
        """The histogram of the images of both; ``sum(parts, PixelHistogram())`` adds up many.

        Associative and commutative to the bit. Raises InputError when the bits differ.
        """
        both = PixelHistogram(bits=self.bits)
        both += self
        both += other
        return both

    def curve(self) -> BinnedCurve:
        """The numbers of what was counted so far; raises NotComputable for no images."""
        if self.images == 0:
            raise NotComputable("there are no images to measure on")
        kept = self._ties.occupied()[::-1]
        return BinnedCurve(
            keys=kept.astype(np.int32),
            negatives=self._negatives[kept],
            positives=self._positives[kept],
            overlap=self._overlap[kept] / (2.0**_UNIT * max(self.regions, 1)),
            tied=self._ties.tied()[kept],
            bits=self.bits,
            regions=self.regions,
        )

    def zoom(self) -> F1Zoom:
        """A second pass over the same images that makes F1-max exact; see `F1Zoom`.

        In parts, sum the histograms first, and make the zoom of each part from the sum.
        Raises NotComputable for no images or without defect pixels.
        """
        return F1Zoom(self.curve(), images=self.images)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The state as six small arrays over the S occupied bins, for `from_arrays`.

        ``header``: int64 (4,), version, bits, images, regions. ``keys``: int32 (S,).
        ``negatives``, ``positives``, ``overlap``: int64 (S,). ``only``: uint32 (S,).
        """
        kept = self._ties.occupied()
        header = np.array([_FORMAT, self.bits, self.images, self.regions], np.int64)
        counts = {name: getattr(self, f"_{name}")[kept] for name in _COUNTS}
        return {
            "header": header,
            "keys": kept.astype(np.int32),
            **counts,
            "only": self._ties.only[kept],
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> PixelHistogram:
        """The histogram that `to_arrays` wrote; raises InputError for anything else."""
        header, keys, only, counts = _check_arrays(arrays)
        histogram = cls(bits=int(header[1]))
        histogram.images, histogram.regions = int(header[2]), int(header[3])
        for name in _COUNTS:
            getattr(histogram, f"_{name}")[keys] = counts[name]
        histogram._ties.only[keys] = only
        return histogram

    def save(self, path: str | Path) -> None:
        """Write `to_arrays` as a compressed .npz, whole or not at all."""
        arrays: dict[str, Any] = self.to_arrays()
        with write_aside(path) as aside, aside.open("wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> PixelHistogram:
        """Read what `save` wrote; raises InputError, naming the file, for anything else."""
        try:
            arrays = np.load(path)
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise InputError("it holds a single array")
            with arrays:
                return cls.from_arrays(arrays)
        except (BadZipFile, EOFError, ValueError) as error:
            raise InputError(
                f"{path}: expected a file written by PixelHistogram.save: {error}"
            ) from error

    def _add_regions(self, regions: int) -> None:
        if self.regions + regions > _MAX_REGIONS:
            raise InputError(
                f"{self.regions + regions} regions are more than a histogram can hold "
                f"({_MAX_REGIONS}); look for masks that are noise, or evaluate in parts"
            )
        self.regions += regions

    def _count_defects(self, scores: NDArray[np.float32], labels: NDArray[np.int32]) -> None:
        """Count the defect pixels of one image, (P,), with the region (1, 2, …) of each.

        They are taken off the good pixels, because `update` then counts all pixels as good.
        """
        last = (1 << self.bits) - 1
        falling = last - score_keys(scores, bits=self.bits)
        code, counts = np.unique(labels.astype(np.int64) << 32 | falling, return_counts=True)
        region, keys = code >> 32, last - (code & 0xFFFFFFFF)
        area = np.bincount(labels)
        before = np.cumsum(area) - area  # pixels of the regions with lower labels
        reached = np.cumsum(counts) - before[region]
        overlap = _share(reached, area[region]) - _share(reached - counts, area[region])
        np.add.at(self._overlap, keys, overlap)
        np.add.at(self._positives, keys, counts)
        np.subtract.at(self._negatives, keys, counts)


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.int64]:
    """floor(2**40 · part / whole) for part <= whole, in two steps that cannot overflow."""
    half = _UNIT // 2
    first, rest = np.divmod(part << half, whole)
    return (first << half) + (rest << half) // whole


def _check_arrays(
    arrays: Mapping[str, NDArray[Any]],
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], dict[str, NDArray[Any]]]:
    """Return header, keys, only and counts if they can be the state of a `PixelHistogram`."""
    missing = {"header", "keys", "only", *_COUNTS} - set(arrays)
    if missing:
        raise InputError(f"not the arrays of a pixel histogram: {sorted(missing)} missing")
    header, keys, only = (np.asarray(arrays[name]) for name in ("header", "keys", "only"))
    if header.shape != (4,) or header[0] != _FORMAT:
        raise InputError(
            f"expected the header of a pixel histogram of format {_FORMAT}, got "
            f"{header.tolist()}; write it again with this version"
        )
    counts = {name: np.asarray(arrays[name]) for name in _COUNTS}
    columns = (keys, only, *counts.values())
    sound = (
        all(column.ndim == 1 and column.shape == keys.shape for column in columns)
        and all(column.dtype.kind in "iu" for column in (header, *columns))
        and not np.any(keys < 0)
        and not np.any(keys >= 1 << check_bits(int(header[1])))
        and bool(np.all(np.diff(keys.astype(np.int64)) > 0))
        and not any(np.any(column < 0) for column in counts.values())
        and int(counts["overlap"].sum()) == int(header[3]) << _UNIT
    )
    if not sound:
        raise InputError("the arrays of this pixel histogram contradict each other; write it again")
    return header, keys, only, counts
