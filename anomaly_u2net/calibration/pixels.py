"""The pixels of a category's held-out maps: kept as they are, or counted in bins of score.

Both give the two thresholds that need every pixel, from images that are added one by one: the one
of highest pixel F1 and the one by the share of marked pixels (`pixel_false_share`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_u2net.calibration.checks import allowed_loss
from anomaly_u2net.calibration.pixel_share import pixel_false_share
from anomaly_u2net.calibration.reject import conformal_rank
from anomaly_u2net.calibration.words import upwards
from anomaly_u2net.errors import InputError
from anomaly_u2net.metrics import BestF1, PixelHistogram
from anomaly_u2net.metrics.curves import RankCurve, count_ranks
from anomaly_u2net.metrics.keys import lowest_score, score_keys

Plane = NDArray[np.floating[Any]]
Group = str | None


class KeptPixels:
    """Every pixel, so both thresholds are exact.

    Bytes: those of the maps (4 a pixel in float32), and as many again while the highest F1 is
    found.
    """

    def __init__(self) -> None:
        self._good: list[tuple[Plane, Group]] = []
        self._defective: list[tuple[Plane, Plane]] = []  # the good and the defect pixels of each
        self.nbytes = 0

    def add(self, score_map: Plane, defect: NDArray[np.bool_], *, group: Group) -> None:
        """Take in a copy of the pixels of one checked map, by its mask (H, W)."""
        if defect.any():
            self._defective.append((score_map[~defect], score_map[defect]))
        else:
            self._good.append((score_map.copy(), group))
        self.nbytes += score_map.nbytes

    def images(self) -> Iterator[tuple[Plane, NDArray[np.bool_], Group]]:
        """The images again, defective ones as one row: enough for all that is asked of pixels."""
        for score_map, group in self._good:
            yield score_map, np.zeros(score_map.shape, bool), group
        for outside, inside in self._defective:
            row = np.concatenate([outside, inside])[None]
            yield row, np.arange(row.size)[None] >= outside.size, None

    def best_f1(self) -> tuple[BestF1, str]:
        """What `pixel_best_f1` gives, and nothing to add to it."""
        inside = np.concatenate([part for _, part in self._defective])
        parts = [plane.ravel() for plane, _ in self._good] + [part for part, _ in self._defective]
        outside = np.concatenate(parts)
        inside = inside.astype(np.result_type(inside, outside), copy=False)
        outside = outside.astype(inside.dtype, copy=False)
        scores, counts = np.unique(inside, return_counts=True)
        return RankCurve(*count_ranks(outside, scores, np.cumsum(counts[::-1]))).best_f1(), ""

    def false_share(self, *, alpha: float) -> tuple[float, str]:
        """What `pixel_false_share` gives for the good maps, and nothing to add to it."""
        maps, groups = [plane for plane, _ in self._good], [group for _, group in self._good]
        return pixel_false_share(maps, alpha=alpha, groups=groups), ""


class BinnedPixels:
    """Counts in 2²⁰ bins of score, in constant memory: 29 MB, and 17 MB more with ``shares``.

    As much again for a moment while a threshold is found.

    A threshold is rounded up to the highest score of its bin, so it marks no pixel that the exact
    one leaves out. shares: whether `false_share` will be asked for; then the images of a part have
    to come one after another.
    """

    def __init__(self, *, shares: bool) -> None:
        self._histogram = PixelHistogram()
        bins = 1 << self._histogram.bits
        self._wanted = shares
        self._shares = np.zeros(bins if shares else 0)  # of the parts that are complete, summed
        self._own = np.zeros_like(self._shares)  # of the part that is being counted
        self._own_images = 0
        self._parts = 0
        self._part: Group = None
        self._seen: set[str] = set()

    def add(self, score_map: Plane, defect: NDArray[np.bool_], *, group: Group) -> None:
        """Count one checked map and mask (H, W), or nothing of it where an error is raised.

        Raises InputError for scores that are not float32, or a part that was left and comes again.
        """
        if score_map.dtype != np.float32:
            raise InputError(
                f"streamed thresholds take float32 maps, got {score_map.dtype}: convert with "
                ".astype(np.float32), or give more memory"
            )
        shared = self._wanted and not defect.any()
        if shared:
            self._begin(group)
        self._histogram.update(score_map, defect)
        if shared:
            keys = score_keys(score_map, bits=self._histogram.bits).ravel()
            self._own += np.bincount(keys, minlength=self._own.size) / score_map.size
            self._own_images += 1

    def best_f1(self) -> tuple[BestF1, str]:
        """The highest F1 at an edge of a bin, and words on how far it may be from the highest."""
        curve = self._histogram.curve()
        note = (
            "Streamed: the highest at the edges of 2²⁰ bins of score; at any threshold it is at "
            f"most {upwards(curve.f1_max().high, '.4f')}."
        )
        return curve.best_f1(), note

    def false_share(self, *, alpha: float) -> tuple[float, str]:
        """The threshold of `pixel_false_share`, rounded up within its bin, and words that say so.

        The part that is being counted is taken as it is so far. Raises CalibrationError when the
        parts are too few for alpha.
        """
        shares, parts = self._summed()
        conformal_rank(parts, alpha=alpha, level="pixel")
        marked = np.cumsum(shares[::-1])[::-1]
        marked -= shares  # above each bin
        enough = marked <= allowed_loss(parts, alpha)
        occupied = np.flatnonzero(shares)
        place = int(max(np.argmax(enough), occupied[0]))
        edge = np.float32(lowest_score(place + 1, bits=self._histogram.bits))
        note = (
            "Streamed: rounded up to the edge of one of 2²⁰ bins of score, which marks no more "
            "pixels than promised."
        )
        return float(np.nextafter(edge, np.float32(-np.inf))), note

    def _begin(self, group: Group) -> None:
        """Go on with the part ``group``, or with the next."""
        if group is not None and group == self._part:
            return
        if group is not None and group in self._seen:
            raise InputError(
                f"the images of the part {group!r} came apart: for streamed thresholds give the "
                "images of a part one after another"
            )
        self._shares, self._parts = self._summed()
        self._own[:] = 0.0
        self._own_images = 0
        self._part = group
        self._seen |= set() if group is None else {group}

    def _summed(self) -> tuple[NDArray[np.float64], int]:
        """The shares of all parts so far, summed, and how many parts; changes nothing."""
        own = self._own / max(self._own_images, 1)
        return self._shares + own, self._parts + bool(self._own_images)
