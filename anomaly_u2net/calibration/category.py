"""The thresholds of one category from its held-out score maps and masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from anomaly_u2net.calibration.checks import Floats, Groups, group_index
from anomaly_u2net.calibration.habits import PixelMoments
from anomaly_u2net.calibration.held import Held, known_groups
from anomaly_u2net.calibration.miss import region_peaks
from anomaly_u2net.calibration.pixels import BinnedPixels, KeptPixels
from anomaly_u2net.calibration.promises import (
    best_f1_threshold,
    false_reject_threshold,
    image_thresholds,
    mean_sigma_threshold,
    missed_threshold,
)
from anomaly_u2net.calibration.reject import needed_images, smallest_false_reject
from anomaly_u2net.calibration.terms import Terms
from anomaly_u2net.calibration.thresholds import CategoryThresholds, Threshold
from anomaly_u2net.calibration.words import percent_up, sentence, weaker_than
from anomaly_u2net.errors import CalibrationError, InputError
from anomaly_u2net.metrics.checks import check_pair


def calibrate_category(
    image_scores: ArrayLike,
    maps: Sequence[ArrayLike],
    masks: Sequence[ArrayLike],
    *,
    terms: Terms | None = None,
    groups: Groups | None = None,
) -> CategoryThresholds:
    """Thresholds of one category from all its N held-out images, good and defective.

    image_scores: (N,). maps: N float arrays (H, W), the scores. masks: N bool or integer arrays
    (H, W), nonzero = defect; an image is good when its mask is empty.
    terms: what is asked for, by default `Terms()`.
    groups: (N,), which part each image shows (None: a part by itself); parts then count, not images.

    Raises CalibrationError without (enough of) the images that the rule needs; InputError and
    MapError for unusable values and maps. To hold no maps, see `HeldOutImages`.

    >>> maps = [np.full((2, 2), score, np.float32) for score in (0.125, 0.25, 0.5, 0.875)]
    >>> masks = [np.zeros((2, 2), bool)] * 3 + [np.ones((2, 2), bool)]
    >>> terms = Terms(false_reject=0.25)
    >>> thresholds = calibrate_category([0.1, 0.2, 0.5, 0.9], maps, masks, terms=terms)
    >>> thresholds.image.value, thresholds.pixel.value
    (0.5, 0.5)
    >>> thresholds.pixel.promise
    'Of new good images like the 3 held out, at most 25 % are expected to have any pixel marked
     (split conformal).'
    """
    number = len(maps)
    if np.shape(image_scores) != (number,) or len(masks) != number:
        raise InputError(
            "expected one score, one map and one mask per held-out image, got scores of shape "
            f"{np.shape(image_scores)}, {number} maps and {len(masks)} masks"
        )
    group_index(groups, number)  # one group per image, or an error
    names = [None] * number if groups is None else list(groups)
    held = HeldOutImages(Terms() if terms is None else terms)
    for score, plane, mask, group in zip(np.asarray(image_scores), maps, masks, names, strict=True):
        held.add(score, plane, mask, group=group)
    return held.thresholds()


class HeldOutImages:
    """A category's held-out images, reduced one by one to what the rules need of them.

    terms: what is asked for. memory: bytes of pixels that may be held; None: no limit.

    Of each image it keeps the score, the highest pixel and the peak of each defect region, and,
    for the highest pixel F1 and the rule pixel_false_share, its pixels (8 bytes each in float32,
    counting what the calculation takes). When these would exceed ``memory`` it counts them in bins
    of score instead (`BinnedPixels`; measured, some 80 MB in all), and the promises of the two say
    so; all other thresholds are the same.

    Raises InputError for fewer than 1 byte, CalibrationError for the rule cross_conformal, which
    needs the scores of K models.

    >>> held = HeldOutImages(Terms(false_reject=0.25))
    >>> for score in (0.125, 0.25, 0.5):
    ...     held.add(score, np.full((2, 2), score, np.float32), np.zeros((2, 2), bool))
    >>> held.thresholds().image.value, held.streamed
    (0.5, False)
    """

    def __init__(self, terms: Terms, *, memory: int | None = None) -> None:
        if memory is not None and memory < 1:
            raise InputError(f"expected 1 byte of memory or more, got {memory}")
        if terms.rule == "cross_conformal":
            raise CalibrationError(
                "the rule cross_conformal needs each good image scored by one of K models that "
                "did not see it, and a run has one model: put the scores in a file with a column "
                "fold, and run 'anomaly-u2net calibrate --scores FILE.csv --rule cross_conformal "
                "--out FILE.json'"
            )
        self._terms, self._memory = terms, memory
        self._scores: list[float] = []
        self._tops: list[float] = []
        self._peaks: list[Floats] = []  # empty for a good image
        self._groups: list[str | None] = []
        self._moments = PixelMoments()
        self._pixels: KeptPixels | BinnedPixels = KeptPixels()

    @property
    def streamed(self) -> bool:
        """Whether the pixels are counted in bins."""
        return isinstance(self._pixels, BinnedPixels)

    def add(
        self, image_score: float, score_map: ArrayLike, mask: ArrayLike, *, group: str | None = None
    ) -> None:
        """Take in one image: its score, map and mask (H, W), and the part that it shows.

        What is kept of them is copied. Where an error is raised the image is not taken in: MapError
        for an unusable map or mask, InputError for a score that is no finite number, and as
        `BinnedPixels.add` does.
        """
        scores, defect = check_pair(score_map, mask, index=len(self._scores))
        score = self._score(image_score)
        name = None if group is None or group == "" else str(group)
        self._bound_memory(scores.nbytes)
        self._pixels.add(scores, defect, group=name)
        self._scores.append(score)
        self._tops.append(float(scores.max()))
        self._peaks.append(region_peaks(scores, defect))
        self._groups.append(name)
        if not self._peaks[-1].size:
            self._moments.add(scores)

    def thresholds(self) -> CategoryThresholds:
        """The thresholds of the images so far; raises as `calibrate_category` does."""
        if not self._scores:
            raise CalibrationError("there are no held-out images to calibrate on; hold some out")
        defective = np.array([peaks.size > 0 for peaks in self._peaks])
        scores, good, tops = np.array(self._scores), ~defective, np.asarray(self._tops)
        groups = known_groups(self._groups, good), known_groups(self._groups, defective)
        held = Held("image", scores[good], scores[defective], *groups)
        regions = [peaks for peaks in self._peaks if peaks.size]
        pixels = Held("pixel", tops[good], regions, *groups)
        image, review = image_thresholds(held, self._terms)
        best = self._best_f1(pixels) if regions else None
        return CategoryThresholds(
            image=image,
            pixel=self._pixel_threshold(pixels, best),
            image_best_f1=best_f1_threshold(held) if regions else None,
            pixel_best_f1=best,
            review=review,
        )

    def _score(self, image_score: float) -> float:
        score = np.asarray(image_score)
        if score.ndim or score.dtype.kind not in "fiu" or not np.isfinite(score):
            raise InputError(
                f"image {len(self._scores)}: expected a finite number as its score, got "
                f"{image_score!r}; look at what produced it"
            )
        return float(score)

    def _bound_memory(self, more: int) -> None:
        """Count the pixels in bins when those so far and ``more`` bytes are too many to keep."""
        kept = self._pixels
        if self._memory is None or isinstance(kept, BinnedPixels):
            return
        if 2 * (kept.nbytes + more) > self._memory:
            binned = BinnedPixels(shares=self._terms.pixel_rule == "pixel_false_share")
            for score_map, defect, group in kept.images():
                binned.add(score_map, defect, group=group)
            self._pixels = binned

    def _best_f1(self, pixels: Held) -> Threshold:
        best, note = self._pixels.best_f1()
        return _with_note(best_f1_threshold(pixels, best=best), note)

    def _pixel_threshold(self, pixels: Held, best_f1: Threshold | None) -> Threshold:
        try:
            return self._by_pixel_rule(pixels, best_f1)
        except CalibrationError as error:
            raise CalibrationError(f"the pixel rule {self._terms.pixel_rule}: {error}") from error

    def _by_pixel_rule(self, pixels: Held, best_f1: Threshold | None) -> Threshold:
        terms = self._terms
        if terms.pixel_rule in ("missed_defects", "any_missed"):
            return missed_threshold(pixels, terms, any_defect=terms.pixel_rule == "any_missed")
        if terms.pixel_rule == "pixel_false_share":
            return self._share_threshold(pixels)
        if terms.pixel_rule == "mean_sigma":
            pixels.need_good()
            value = self._moments.mean_sigma(terms.sigmas)
            return mean_sigma_threshold(pixels, terms, value=value)
        if terms.pixel_rule == "best_f1":
            return best_f1 if best_f1 is not None else best_f1_threshold(pixels)
        return false_reject_threshold(pixels, terms)

    def _share_threshold(self, pixels: Held) -> Threshold:
        pixels.need_good()
        asked, groups = self._terms.false_reject, pixels.good_groups
        n, needed = group_index(groups, pixels.good.size)[1], needed_images(asked)
        weaker = self._terms.allow_weaker and n < needed
        alpha = smallest_false_reject(n) if weaker else asked
        value, note = self._pixels.false_share(alpha=alpha)
        noun = "image" if groups is None else "part"
        text = (
            f"of the pixels of a new good {noun} like the {n} held out, at most {percent_up(alpha)} "
            "are expected to be marked (conformal risk control)."
        )
        if weaker:
            text = weaker_than(text, asked=asked, needed=needed, units=f"good {noun}s")
        found = Threshold(
            value=value,
            rule="pixel_false_share",
            promise=sentence(text),
            n=n,
            parameters={"alpha": float(asked)},
            attained=alpha,
            false_reject_upper=pixels.upper(value, looked=True),
            unit=pixels.good_unit,
            false_reject_unit=pixels.bound_unit,
        )
        return _with_note(found, note)


def _with_note(threshold: Threshold, note: str) -> Threshold:
    return replace(threshold, promise=f"{threshold.promise} {note}") if note else threshold
