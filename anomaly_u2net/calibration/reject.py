"""Thresholds from good images: how many good parts may be called NG.

Everywhere: an image is NG, a pixel a defect, when its score is strictly greater than the threshold.

Several images of one part are not independent. With ``groups`` each part counts once, by its
highest score: n is the number of parts, and the promise is about a new part (at most a rate alpha
of new parts has ANY of its images rejected), so it holds for one image of a new part too, and is
cautious for it. It needs parts that are exchangeable, and nothing of the images within a part.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from anomaly_u2net.calibration.bounds import binomial_p, rate_upper, rate_upper_anywhere
from anomaly_u2net.calibration.checks import (
    SLACK,
    Floats,
    Groups,
    check_delta,
    check_rate,
    check_row,
    group_extremes,
)
from anomaly_u2net.calibration.words import upwards
from anomaly_u2net.errors import CalibrationError, InputError

#: What scores are of; "pixel": one number per good image that stands for its pixels.
Level: TypeAlias = Literal["image", "pixel"]

#: The way out that keeps the images in training, for image scores only.
CROSS_CONFORMAL = (
    " Or use every good image, for training too: train K models, each without one fold, score each "
    "image with the model that did not see it, and run 'anomaly-u2net calibrate --scores FILE.csv "
    "--rule cross_conformal --out FILE.json' with a column fold. That promises less, on average "
    "only: for n images and a rate alpha, 2 alpha + up to 2 (K - 1) / (n + K), where n images held "
    "out promise 1 / (n + 1)"
)


def false_reject(scores: ArrayLike, *, alpha: float, groups: Groups | None = None) -> float:
    """The split-conformal threshold: a new good image exceeds it with probability ≤ ``alpha``.

    scores: (n,) finite numbers, one per held-out GOOD image. alpha: a rate in (0, 1).
    groups: (n,), which part each image shows; then n counts parts (see the top of this module).

    It is the k-th smallest score with k = ⌈(n + 1)(1 − alpha)⌉. When the new image and the n held
    out are exchangeable, P(score > threshold) ≤ (n + 1 − k) / (n + 1) ≤ alpha, with any ties and
    any distribution; the probability is over the draw of the held-out images too (Vovk, Gammerman
    and Shafer, "Algorithmic Learning in a Random World", 2005; Angelopoulos and Bates,
    arXiv:2107.07511, section 1).

    Raises CalibrationError when n is too small for alpha (see `needed_images`), InputError for
    scores of another shape or type, NaN or infinity, or an alpha outside (0, 1).

    >>> false_reject([0.1, 0.4, 0.2, 0.3], alpha=0.4)
    0.3
    >>> false_reject([0.1, 0.4, 0.2, 0.3], alpha=0.2)
    0.4
    >>> false_reject([0.1, 0.4, 0.2, 0.3], alpha=0.5, groups=["a", "b", "b", "c"])
    0.3
    """
    values = group_extremes(check_row(scores), groups)
    return _smallest(values, conformal_rank(values.size, alpha=alpha))


def false_reject_pac(
    scores: ArrayLike, *, alpha: float, delta: float, groups: Groups | None = None
) -> float:
    """The contractual threshold: with probability ≥ 1 − delta its false-reject rate is ≤ alpha.

    scores, groups: as in `false_reject`. The probability is over the draw of the n independent
    held-out images; once drawn, the rate of this one threshold on all future good images is meant.
    It is the k-th smallest score with the smallest k for which P(Bin(n, alpha) ≤ n − k) ≤ delta:
    the rate above the k-th smallest of n is at most Beta(n − k + 1, k) distributed, with equality
    without ties (Wilks, Ann. Math. Stat. 12, 1941; Vovk, arXiv:1209.2673, proposition 2).

    Raises CalibrationError when n is too small (see `needed_images_pac`), InputError as
    `false_reject` does.

    >>> false_reject_pac(np.arange(45), alpha=0.05, delta=0.1)
    44.0
    >>> false_reject_pac(np.arange(100), alpha=0.05, delta=0.1)
    98.0
    """
    values = group_extremes(check_row(scores), groups)
    return _smallest(values, pac_rank(values.size, alpha=alpha, delta=delta))


def conformal_rank(n: int, *, alpha: float, level: Level = "image") -> int:
    """k = ⌈(n + 1)(1 − alpha)⌉: which of n scores, counted from the smallest (1), is the threshold.

    level: what the scores are of, for the ways out that an error names.
    Raises CalibrationError when k > n: no score of n images can promise so small a rate.

    >>> conformal_rank(19, alpha=0.05), conformal_rank(100, alpha=0.05)
    (19, 96)
    """
    check_rate(alpha)
    best = smallest_false_reject(n)
    allowed = min(n, math.floor((n + 1) * alpha * (1 + SLACK)))
    if allowed < 1:
        raise CalibrationError(
            f"a false-reject rate of {alpha:g} needs at least {needed_images(alpha)} held-out good "
            f"images, got {n}; the smallest rate that {n} can promise is 1/{n + 1} = {best:.4g}. "
            f"{_ways_out(best, level)}"
        )
    return n + 1 - allowed


def pac_rank(n: int, *, alpha: float, delta: float, level: Level = "image") -> int:
    """The smallest k with P(Bin(n, alpha) ≤ n − k) ≤ delta; see `false_reject_pac`.

    level: as in `conformal_rank`. Raises CalibrationError when even k = n does not reach it.

    >>> pac_rank(45, alpha=0.05, delta=0.1), pac_rank(299, alpha=0.01, delta=0.05)
    (45, 299)
    """
    needed = needed_images_pac(alpha, delta=delta)
    best = smallest_false_reject_pac(n, delta=delta)
    if n < needed:
        raise CalibrationError(
            f"a false-reject rate of {alpha:g} with confidence {1 - delta:g} needs at least "
            f"{needed} held-out good images, got {n}; the smallest rate that {n} can promise with "
            f"that confidence is {upwards(best, '.4g')}. {_ways_out(best, level)}"
        )
    chances = binomial_p(np.arange(n), n, level=alpha)  # of n − k = 0, 1, … errors
    return n - max(int(np.count_nonzero(chances <= delta * (1 + SLACK))) - 1, 0)


def smallest_false_reject(n: int) -> float:
    """The smallest false-reject rate that n held-out good images can promise: 1 / (n + 1).

    Raises CalibrationError when n is below 1.

    >>> smallest_false_reject(19)
    0.05
    """
    _need_one(n)
    return 1 / (n + 1)


def smallest_false_reject_pac(n: int, *, delta: float) -> float:
    """The smallest rate that n can promise with confidence 1 − delta: 1 − delta^(1/n).

    >>> round(smallest_false_reject_pac(45, delta=0.1), 4)
    0.0499
    """
    _need_one(n)
    return -math.expm1(math.log(check_delta(delta)) / n)


def needed_images(alpha: float) -> int:
    """How many held-out good images a false-reject rate needs: ⌈1 / alpha⌉ − 1.

    Raises InputError for an alpha outside (0, 1).

    >>> needed_images(0.05), needed_images(0.01), needed_images(0.5)
    (19, 99, 1)
    """
    check_rate(alpha)
    return max(1, math.ceil((1 - SLACK) / alpha) - 1)


def needed_images_pac(alpha: float, *, delta: float) -> int:
    """How many a rate needs with confidence 1 − delta: ⌈ln delta / ln(1 − alpha)⌉.

    >>> needed_images_pac(0.05, delta=0.1), needed_images_pac(0.01, delta=0.05)
    (45, 299)
    """
    check_rate(alpha)
    return max(1, math.ceil(math.log(check_delta(delta)) / math.log1p(-alpha) * (1 - SLACK)))


def false_reject_upper(
    scores: ArrayLike,
    *,
    threshold: float,
    delta: float = 0.05,
    chosen_on_these: bool = True,
    groups: Groups | None = None,
) -> float:
    """An upper bound, with probability ≥ 1 − delta, of the false-reject rate at any threshold.

    scores, groups: as in `false_reject`. A threshold that was fixed without these scores gets the
    exact Clopper–Pearson bound (`rate_upper`) of the share above it. One that was chosen by looking
    at them (``chosen_on_these``, the default, since it is the safe answer) gets
    `rate_upper_anywhere`, which is wider.

    Raises CalibrationError without scores, InputError for a NaN threshold or a bad delta.

    >>> good = np.linspace(0, 1, 100)
    >>> round(false_reject_upper(good, threshold=0.5, chosen_on_these=False), 4)
    0.5864
    >>> round(false_reject_upper(good, threshold=0.5), 4)
    0.6224
    """
    if math.isnan(threshold):
        raise InputError("the threshold is NaN; expected a number on the scale of the scores")
    values = group_extremes(check_row(scores), groups)
    _need_one(values.size)
    bound = rate_upper_anywhere if chosen_on_these else rate_upper
    return bound(int(np.count_nonzero(values > threshold)), values.size, delta=delta)


def _ways_out(best: float, level: Level) -> str:
    """What to do about too few good images, whose smallest rate is ``best``."""
    return (
        "Hold out more good images (parts, when grouped), ask for a rate of "
        f"{upwards(best, '.4g')} or more, or take the attainable rate with --allow-weaker "
        f"(allow_weaker=True).{CROSS_CONFORMAL if level == 'image' else ''}"
    )


def _smallest(values: Floats, rank: int) -> float:
    return float(np.partition(values, rank - 1)[rank - 1])


def _need_one(n: int) -> None:
    if n < 1:
        raise CalibrationError(
            f"expected at least one held-out good image, got {n}; "
            "no threshold can promise anything without good images"
        )
