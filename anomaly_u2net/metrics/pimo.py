"""PIMO: how much of one image's defect is found, at false positive rates a line could live with.

AUPIMO (Bertoldo et al., "AUPIMO: Redefining Visual Anomaly Detection Benchmarks with High Speed
and Low Tolerance", arXiv 2401.01984). G good images, D defective images, T thresholds.

The shared false positive rate F(t) is the mean over the *good images* of the share of their pixels
above t, so no good pixel beside a defect counts. An image's overlap at rate z is the share of its
defect pixels above the lowest threshold with F <= z, and its AUPIMO is the mean overlap over
log(z), z from 1e-5 to 1e-4:  1 / ln(U / L) * integral of overlap(z) dz / z from L to U.

Exact: each threshold at which F changes is used and nothing is interpolated. Only the highest
pixels of the good images can matter, some U * G of each image's, so no image is sorted in full.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anomaly_u2net.errors import InputError, NotComputable
from anomaly_u2net.metrics.checks import check_numbers, check_pair
from anomaly_u2net.metrics.curves import Floats
from anomaly_u2net.metrics.pixel import Planes

#: The false positive rates between which AUPIMO is taken; the paper's.
FPR_LIMITS = (1e-5, 1e-4)


@dataclass(frozen=True, slots=True, eq=False)
class PimoCurve:
    """The overlap of D defective images at the T thresholds whose rates lie within the limits.

    thresholds: (T,), falling; found is ``score > threshold``.
    fpr: float64 (T,), the shared false positive rate there, rising. The rates from fpr[t] up to the
    next one have this threshold.
    overlap: float64 (D, T), the share of each image's defect pixels that is found.
    images: (D,), which of the images handed in they are.
    fpr_limits: lower and upper limit.
    """

    thresholds: Floats
    fpr: NDArray[np.float64]
    overlap: NDArray[np.float64]
    images: NDArray[np.intp]
    fpr_limits: tuple[float, float]

    def per_image(self) -> NDArray[np.float64]:
        """AUPIMO of each defective image, (D,), in the order of ``images``."""
        lower, upper = self.fpr_limits
        starts = np.maximum(self.fpr, lower)
        weights = np.log(np.append(starts[1:], upper) / starts) / np.log(upper / lower)
        return np.asarray(self.overlap @ weights)

    def mean(self) -> float:
        """The mean AUPIMO over the defective images."""
        return float(self.per_image().mean())


def pimo_curve(
    maps: Planes, masks: Planes, *, fpr_limits: tuple[float, float] = FPR_LIMITS
) -> PimoCurve:
    """The PIMO curves of N maps and masks between two shared false positive rates.

    maps, masks: as `pixel_curve` takes them. Images may differ in size: each good image counts
    alike. Where the good pixels are too few for the lower limit (G images of 100 000 pixels can
    show rates down to 1e-5 / G), the threshold is their maximum, at which F is 0.

    Raises MapError as `pixel_curve`, InputError for limits that are not 0 < lower < upper <= 1,
    NotComputable without good or without defective images.

    >>> good, bad = np.arange(100.0).reshape(10, 10), np.array([[98.5, 97.5, 90.0, 0.0]])
    >>> masks = [np.zeros((10, 10), bool), np.array([[1, 1, 1, 0]])]
    >>> curve = pimo_curve([good, bad], masks, fpr_limits=(0.01, 0.02))
    >>> curve.thresholds, curve.fpr, curve.overlap
    (array([98.]), array([0.01]), array([[0.33333333]]))
    >>> pimo_curve([good, bad], masks, fpr_limits=(0.01, 0.04)).mean() # 1/3 to .02, then 2/3
    0.5
    """
    lower, upper = fpr_limits
    if not 0.0 < lower < upper <= 1.0:
        raise InputError(
            f"expected fpr_limits (lower, upper) with 0 < lower < upper <= 1, got {fpr_limits}"
        )
    good, defective = _split(maps, masks)
    thresholds, fpr = _shared_fpr(good, upper)
    # the last threshold whose rate is at or below the lower limit serves from there on
    first = int(np.searchsorted(fpr, lower, side="right")) - 1
    thresholds, fpr = thresholds[first:], fpr[first:]
    overlap = np.stack([_share_above(values, thresholds) for values in defective.values()])
    images = np.array(list(defective), np.intp)
    return PimoCurve(thresholds, fpr, overlap, images, (lower, upper))


def aupimo(maps: Planes, masks: Planes, *, fpr_limits: tuple[float, float] = FPR_LIMITS) -> float:
    """The mean AUPIMO over the defective images; see `PimoCurve` and `pimo_curve`.

    >>> good, bad = np.zeros((10, 10)), np.array([[0.5, 0.0]])
    >>> aupimo([good, bad], [np.zeros((10, 10), bool), np.array([[1, 1]])])
    0.5
    """
    return pimo_curve(maps, masks, fpr_limits=fpr_limits).mean()


def fpr_per_image(maps: Planes, masks: Planes, *, thresholds: ArrayLike) -> NDArray[np.float64]:
    """The share of pixels above each of T thresholds, in each good image: float64 (G, T).

    It shows what the shared rate averages: whether false alarms spread over all good images or come
    from a few. maps, masks: as `pixel_curve` takes them. thresholds: (T,), any order.
    Raises MapError as `pixel_curve`, InputError for thresholds of another shape or NaN,
    NotComputable without good images.

    >>> fpr_per_image(np.array([[[0.1, 0.9]], [[0.2, 0.3]]]), np.zeros((2, 1, 2), bool),
    ...               thresholds=[0.5, 0.15])
    array([[0.5, 0.5], [0. , 1. ]])
    """
    at = np.asarray(thresholds, np.float64)
    if at.ndim != 1 or np.isnan(at).any():
        raise InputError(f"expected thresholds (T,) without NaN, got shape {at.shape}")
    good, _ = _split(maps, masks, need_defects=False)
    return np.stack([_share_above(plane.ravel(), at) for plane in good])


def _split(
    maps: Planes, masks: Planes, *, need_defects: bool = True
) -> tuple[list[Floats], dict[int, Floats]]:
    """The maps of good images, and by image the defect pixels' scores of the others; one dtype."""
    check_numbers(maps, masks)
    good: list[Floats] = []
    defective: dict[int, Floats] = {}
    wide = any(np.asarray(plane).dtype.itemsize == 8 for plane in maps)
    dtype: type[np.floating[Any]] = np.float64 if wide else np.float32
    for index, (plane, mask) in enumerate(zip(maps, masks, strict=True)):
        score_map, defect = check_pair(plane, mask, index=index)
        score_map = score_map.astype(dtype, copy=False)
        if defect.any():
            defective[index] = score_map[defect]
        else:
            good.append(score_map)
    if not good:
        raise NotComputable(f"all {len(maps)} images are defective: there is no shared FPR")
    if need_defects and not defective:
        raise NotComputable(
            f"all {len(maps)} images are good: AUPIMO is undefined without a defect"
        )
    return good, defective


def _shared_fpr(good: list[Floats], upper: float) -> tuple[Floats, NDArray[np.float64]]:
    """The scores of good pixels with F below ``upper``, falling, and F there, rising from 0.

    F stays at or below ``upper`` only while no image has more than upper * G of its pixels above.
    """
    values, weights = [], []
    for plane in good:
        most = min(plane.size, int(upper * len(good) * plane.size) + 2)
        values.append(np.partition(plane, plane.size - most, axis=None)[plane.size - most :])
        weights.append(np.full(most, 1.0 / plane.size))
    pixels = np.concatenate(values)
    order = np.argsort(-pixels, kind="stable")
    thresholds, first = np.unique(-pixels[order], return_index=True)
    fpr = np.append(0.0, np.cumsum(np.concatenate(weights)[order]))[first] / len(good)
    used = int(np.searchsorted(fpr, upper, side="left"))
    return -thresholds[:used], fpr[:used]


def _share_above(values: Floats, thresholds: NDArray[Any]) -> NDArray[np.float64]:
    above = values.size - np.searchsorted(np.sort(values), thresholds, side="right")
    return np.asarray(above / values.size)
