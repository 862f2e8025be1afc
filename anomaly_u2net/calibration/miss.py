"""Thresholds from defects: how many of them may be missed.

A defect region is missed when none of its pixels is strictly above the threshold, so all that
counts of a region is its highest score, its peak. The regions of one image are not independent
(one light, one focus, one part): the unit is the image, never the region, and with ``groups`` the
part. n is the number of defective images (parts); each says at most one thing, however many
regions it has.

The promise is about defects like the ones held out. It says nothing of a kind never seen, and
nothing of a region that was found and then left out of a list for its small area (``min_area``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anomaly_u2net.calibration.bounds import binomial_p, hoeffding_bentkus_p
from anomaly_u2net.calibration.checks import (
    SLACK,
    Floats,
    Groups,
    allowed_loss,
    check_delta,
    check_rate,
    check_row,
    group_index,
    just_below,
)
from anomaly_u2net.calibration.reject import (
    needed_images,
    needed_images_pac,
    smallest_false_reject,
    smallest_false_reject_pac,
)
from anomaly_u2net.calibration.words import upwards
from anomaly_u2net.errors import CalibrationError, InputError
from anomaly_u2net.metrics import label_regions
from anomaly_u2net.metrics.checks import check_pair

#: N arrays (R_i,), the peaks of each defective image's regions; or one array (N,), where each image
#: counts as one defect (its image score).
Peaks: TypeAlias = Sequence[ArrayLike] | NDArray[Any]

_WHAT = "rate of missed defects"


def region_peaks(score_map: ArrayLike, mask: ArrayLike) -> Floats:
    """The highest score of each 8-connected defect region of one image: float64 (R,).

    score_map: float (H, W). mask: bool or integer (H, W), nonzero = defect. Raises MapError.

    >>> region_peaks(np.array([[0.9, 0.5, 0.1], [0.2, 0.1, 0.3]]), [[1, 0, 1], [1, 0, 1]])
    array([0.9, 0.3])
    """
    scores, defect = check_pair(score_map, mask)
    labels, number = label_regions(defect)
    peaks = np.full(number, -np.inf)
    np.maximum.at(peaks, labels[defect] - 1, scores[defect].astype(np.float64))
    return peaks


def missed_defects(peaks: Peaks, *, beta: float, groups: Groups | None = None) -> float:
    """The highest threshold whose expected share of missed defects per image is ≤ ``beta``.

    peaks: what `region_peaks` gives for each of N held-out DEFECTIVE images, or (N,) image scores.
    beta: a rate in (0, 1). groups: (N,), which part each image shows; then the share is of all
    regions of the part.

    Conformal risk control (Angelopoulos et al., arXiv:2208.02814, theorem 1): with Lᵢ(t) the share
    of image i's regions whose peak is ≤ t, it is the highest t with (ΣLᵢ(t) + 1) / (n + 1) ≤ beta
    (in floats, the next number below the peak where that stops). When the new defective image is
    exchangeable with the n, E[L(t)] ≤ beta, over the draw of the held-out images too.

    Raises CalibrationError when n is too small (n ≥ ⌈1 / beta⌉ − 1), InputError for an image
    without a region, scores that are no finite numbers, or a beta outside (0, 1).

    >>> peaks = [[0.9, 0.3], [0.8], [0.7, 0.6]]
    >>> round(missed_defects(peaks, beta=0.25), 6), round(missed_defects(peaks, beta=0.4), 6)
    (0.3, 0.6)
    """
    values, shares, n = _units(peaks, groups)
    _need(n, beta)
    return _highest(values, shares, lambda losses: losses <= allowed_loss(n, beta))


def missed_defects_pac(
    peaks: Peaks, *, beta: float, delta: float, groups: Groups | None = None
) -> float:
    """With probability ≥ 1 − delta, the expected share of missed defects per image is ≤ ``beta``.

    peaks, groups: as in `missed_defects`, here from independent images (parts). Learn then Test
    (Angelopoulos et al., arXiv:2110.01052) with Hoeffding–Bentkus p-values and fixed-sequence
    testing: from the lowest threshold upwards, "its risk is above beta" is tested at level delta,
    and the threshold before the first that is not rejected is taken. The p-value changes only at
    the peaks, and the risk only grows with the threshold, so testing at the peaks is testing
    everywhere.

    Raises CalibrationError when n is too small (see `needed_images_pac`), InputError as
    `missed_defects` does.

    >>> round(missed_defects_pac([[0.5 + i / 100, 0.9] for i in range(45)], beta=0.05, delta=0.1), 6)
    0.5
    """
    values, shares, n = _units(peaks, groups)
    _need_pac(n, beta, delta)
    limit = delta * (1 + SLACK)
    return _highest(
        values,
        shares,
        lambda losses: hoeffding_bentkus_p(np.minimum(losses / n, 1.0), n, level=beta) <= limit,
    )


def any_missed(peaks: Peaks, *, beta: float, groups: Groups | None = None) -> float:
    """The threshold at which a new defective image has ANY defect missed with chance ≤ ``beta``.

    peaks, groups: as in `missed_defects`. An image counts by its weakest region, mᵢ = min of its
    peaks; the threshold is just below the k-th smallest mᵢ with k = ⌊(n + 1) beta⌋ (split
    conformal, lower tail: P(m < k-th smallest of n) ≤ k / (n + 1)).

    Raises as `missed_defects` does.

    >>> round(any_missed([[0.9, 0.3], [0.8], [0.7, 0.6]], beta=0.25), 6)
    0.3
    """
    values, shares, n = _units(_weakest(peaks, groups), None)
    _need(n, beta)
    return _highest(values, shares, lambda losses: losses <= allowed_loss(n, beta))


def any_missed_pac(
    peaks: Peaks, *, beta: float, delta: float, groups: Groups | None = None
) -> float:
    """With probability ≥ 1 − delta, at most a rate ``beta`` of images has any defect missed.

    peaks, groups: as in `missed_defects`, here from independent images (parts). Learn then Test as
    in `missed_defects_pac`, with the exact binomial p-value, since a loss is 0 or 1: the largest k
    with P(Bin(n, beta) ≤ k − 1) ≤ delta, then just below the k-th smallest of the weakest peaks.
    This is `false_reject_pac` mirrored.

    Raises as `missed_defects_pac` does.

    >>> round(any_missed_pac(np.arange(45) + 1.0, beta=0.05, delta=0.1), 6)
    1.0
    """
    values, shares, n = _units(_weakest(peaks, groups), None)
    _need_pac(n, beta, delta)
    limit = delta * (1 + SLACK)
    return _highest(
        values, shares, lambda losses: binomial_p(np.rint(losses), n, level=beta) <= limit
    )


def missed_share(peaks: Peaks, *, threshold: float, groups: Groups | None = None) -> float:
    """The mean over images of the share of regions that ``threshold`` misses, a fraction.

    >>> missed_share([[0.9, 0.3], [0.8], [0.7, 0.6]], threshold=0.6)
    0.3333333333333333
    """
    values, shares, n = _units(peaks, groups)
    if n == 0:
        _need(n, 0.5)
    return float(shares[values <= threshold].sum() / n)


def _units(peaks: Peaks, groups: Groups | None) -> tuple[Floats, Floats, int]:
    """All regions' peaks (P,), the share of its unit that each is (P,), the number of units."""
    rows = _rows(peaks)
    index, number = group_index(groups, len(rows))
    place = np.repeat(index, np.array([row.size for row in rows], np.intp))
    values = np.concatenate([np.zeros(0), *rows])
    return values, 1.0 / np.bincount(place, minlength=number)[place], number


def _weakest(peaks: Peaks, groups: Groups | None) -> Floats:
    rows = _rows(peaks)
    index, number = group_index(groups, len(rows))
    weakest = np.full(number, np.inf)
    np.minimum.at(weakest, index, np.array([row.min() for row in rows]))
    return weakest


def _rows(peaks: Peaks) -> list[Floats]:
    if isinstance(peaks, np.ndarray) or all(np.ndim(row) == 0 for row in peaks):
        rows = list(check_row(peaks, what="defective")[:, None])  # type: ignore[arg-type]
    else:
        rows = [check_row(row, what=f"defective (image {i})") for i, row in enumerate(peaks)]
    empty = [i for i, row in enumerate(rows) if row.size == 0]
    if empty:
        raise InputError(
            f"defective image {empty[0]} has no defect region ({len(empty)} of {len(rows)}); "
            "give the peaks of images whose mask has a defect"
        )
    return rows


def _highest(values: Floats, shares: Floats, holds: Callable[[Floats], NDArray[np.bool_]]) -> float:
    """The highest threshold for which the summed losses satisfy ``holds`` (true, then false)."""
    distinct, place = np.unique(values, return_inverse=True)
    losses = np.cumsum(np.bincount(place, shares), dtype=np.float64)
    # At a threshold just below distinct[j] the regions below it are lost, not that one.
    return just_below(float(distinct[int(np.argmin(holds(losses)))]))


def _need(n: int, beta: float) -> None:
    check_rate(beta, what=_WHAT)
    _need_one(n)
    if math.floor((n + 1) * beta * (1 + SLACK)) < 1:
        raise CalibrationError(
            f"a {_WHAT} of {beta:g} needs at least {needed_images(beta)} held-out defective "
            f"images, got {n}; the smallest rate that {n} can promise is 1/{n + 1} = "
            f"{smallest_false_reject(n):.4g}. Hold out more defective images (parts, when "
            "grouped), or ask for a higher rate"
        )


def _need_pac(n: int, beta: float, delta: float) -> None:
    check_rate(beta, what=_WHAT)
    check_delta(delta)
    _need_one(n)
    needed = needed_images_pac(beta, delta=delta)
    if n < needed:
        raise CalibrationError(
            f"a {_WHAT} of {beta:g} with confidence {1 - delta:g} needs at least {needed} held-out "
            f"defective images, got {n}; the smallest rate that {n} can promise with that "
            f"confidence is {upwards(smallest_false_reject_pac(n, delta=delta), '.4g')}. Hold out "
            "more defective images (parts, when grouped), or ask for a higher rate"
        )


def _need_one(n: int) -> None:
    if n < 1:
        raise CalibrationError(
            "expected at least one held-out defective image, got 0; "
            "a rate of missed defects cannot be promised without defects"
        )
