"""Rules that turn held-out scores into a threshold, and what each one can promise.

Everywhere: an image or a pixel is a defect when its score is strictly greater than the threshold.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anomaly_u2net.errors import CalibrationError, InputError

#: Rates are met up to this relative error, so that 20 × 0.05 and 3 × (1/3) are the whole numbers
#: that they are meant to be and not the float beside them.
_SLACK = 1e-12


def false_reject_threshold(scores: ArrayLike, *, alpha: float) -> float:
    """The split-conformal threshold: a new good image exceeds it with probability ≤ ``alpha``.

    scores: (n,) finite numbers, one per held-out GOOD image. alpha: a rate in (0, 1).

    It is the k-th smallest score with k = ⌈(n + 1)(1 − alpha)⌉. When the new image and the n held
    out are exchangeable, P(score > threshold) ≤ (n + 1 − k) / (n + 1) ≤ alpha, with any ties and
    any distribution; the probability is over the draw of the held-out images too (Vovk, Gammerman
    and Shafer, "Algorithmic Learning in a Random World", 2005; Angelopoulos and Bates,
    arXiv:2107.07511, section 1).

    Raises CalibrationError when n is too small for alpha (see `needed_images`), InputError for
    scores of another shape or type, NaN or infinity, or an alpha outside (0, 1).

    >>> false_reject_threshold([0.1, 0.4, 0.2, 0.3], alpha=0.4)
    0.3
    >>> false_reject_threshold([0.1, 0.4, 0.2, 0.3], alpha=0.2)
    0.4
    """
    values = _good_scores(scores)
    rank = conformal_rank(values.size, alpha=alpha)
    return float(np.partition(values, rank - 1)[rank - 1])


def conformal_rank(n: int, *, alpha: float) -> int:
    """k = ⌈(n + 1)(1 − alpha)⌉: which of n scores, counted from the smallest (1), is the threshold.

    Raises CalibrationError when k > n: no score of n images can promise so small a rate.

    >>> conformal_rank(19, alpha=0.05), conformal_rank(100, alpha=0.05)
    (19, 96)
    """
    _check_rate(alpha)
    best = smallest_false_reject(n)
    allowed = min(n, math.floor((n + 1) * alpha * (1 + _SLACK)))
    if allowed < 1:
        raise CalibrationError(
            f"a false-reject rate of {alpha:g} needs at least {needed_images(alpha)} held-out good "
            f"images, got {n}; the smallest rate that {n} can promise is 1/{n + 1} = {best:.4g}. "
            f"Hold out more good images, ask for a rate of {best:.4g} or more, or take the "
            "attainable rate with --allow-weaker (allow_weaker=True)"
        )
    return n + 1 - allowed


def smallest_false_reject(n: int) -> float:
    """The smallest false-reject rate that n held-out good images can promise: 1 / (n + 1).

    Raises CalibrationError when n is below 1.

    >>> smallest_false_reject(19)
    0.05
    """
    if n < 1:
        raise CalibrationError(
            f"expected at least one held-out good image, got {n}; "
            "no threshold can promise anything without good images"
        )
    return 1 / (n + 1)


def needed_images(alpha: float) -> int:
    """How many held-out good images a false-reject rate needs: ⌈1 / alpha⌉ − 1.

    Raises InputError for an alpha outside (0, 1).

    >>> needed_images(0.05), needed_images(0.01), needed_images(0.5)
    (19, 99, 1)
    """
    _check_rate(alpha)
    return max(1, math.ceil((1 - _SLACK) / alpha) - 1)


def _check_rate(alpha: float) -> None:
    if not 0.0 < alpha < 1.0:
        raise InputError(
            f"expected a false-reject rate between 0 and 1, both excluded, got {alpha}; "
            "0.05 means that 1 good image in 20 may be rejected"
        )


def _good_scores(scores: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(scores)
    if array.size == 0:
        smallest_false_reject(0)
    if array.ndim != 1 or array.dtype.kind not in "fiu":
        raise InputError(
            f"expected one score per good image, real numbers of shape (n,), "
            f"got {array.dtype} of shape {array.shape}"
        )
    values = array.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise InputError(
            f"{bad.size} of {values.size} good scores are NaN or infinite, the first at index "
            f"{bad[0]}; scores must be finite, look at what produced this map"
        )
    return values
