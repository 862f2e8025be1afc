"""What each false-reject rate would cost: the table to look at before promising one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from anomaly_u2net.calibration.bounds import rate_interval
from anomaly_u2net.calibration.checks import Groups, check_rate, check_row, group_extremes
from anomaly_u2net.calibration.reject import (
    conformal_rank,
    needed_images,
    needed_images_pac,
    pac_rank,
)

ALPHAS = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)


@dataclass(frozen=True, slots=True)
class WhatIf:
    """One row: a false-reject rate alpha and what the held-out images say of it.

    needed: good images (parts, when grouped) that alpha needs. attainable: whether there are.
    The rest is None where alpha is not attainable. overkill: the expected rate of good images
    above the threshold, with its 95 % Clopper–Pearson interval. escape: the share of held-out
    defective images that are not above it, with the same; None without defective images.
    """

    alpha: float
    needed: int
    attainable: bool
    threshold: float | None = None
    overkill: float | None = None
    overkill_interval: tuple[float, float] | None = None
    escape: float | None = None
    escape_interval: tuple[float, float] | None = None


def what_if(
    good_scores: ArrayLike,
    defect_scores: ArrayLike,
    *,
    alphas: Iterable[float] = ALPHAS,
    delta: float | None = None,
    good_groups: Groups | None = None,
    defect_groups: Groups | None = None,
) -> tuple[WhatIf, ...]:
    """A row per alpha: attainable? threshold, expected overkill and escape, with intervals.

    good_scores: (n,). defect_scores: (m,), may be empty. delta: with it the thresholds are those of
    `false_reject_pac`, else of `false_reject`. groups: which part each image shows; a part counts
    as rejected when any of its good images is, and as escaped when any of its defective images is.

    The overkill of the k-th smallest of n scores has, without ties, the law Beta(n + 1 − k, k):
    its mean is (n + 1 − k) / (n + 1), and its quantiles give the interval. The defective images had
    no part in the choice, so the interval of the escape is exact for one row; choosing a row by
    its escape makes that row look better than it is.

    Raises CalibrationError without good images, InputError for bad scores or rates.

    >>> rows = what_if(np.arange(19), [18, 20, 30], alphas=[0.01, 0.05])
    >>> rows[0].attainable, rows[0].needed, rows[0].threshold
    (False, 99, None)
    >>> rows[1].threshold, rows[1].overkill, round(rows[1].escape, 3)
    (18.0, 0.05, 0.333)
    """
    good = np.sort(group_extremes(check_row(good_scores), good_groups))
    defects = group_extremes(check_row(defect_scores, what="defective"), defect_groups, lowest=True)
    rows = []
    for alpha in alphas:
        check_rate(alpha)
        needed = needed_images(alpha) if delta is None else needed_images_pac(alpha, delta=delta)
        if 0 < good.size < needed:
            rows.append(WhatIf(float(alpha), needed, attainable=False))
            continue
        n = int(good.size)
        rank = _rank(n, alpha, delta)
        threshold = float(good[rank - 1])
        escaped = int(np.count_nonzero(defects <= threshold))
        rows.append(
            WhatIf(
                alpha=float(alpha),
                needed=needed,
                attainable=True,
                threshold=threshold,
                overkill=(n + 1 - rank) / (n + 1),
                overkill_interval=_order_interval(n, rank),
                escape=escaped / defects.size if defects.size else None,
                escape_interval=rate_interval(escaped, defects.size) if defects.size else None,
            )
        )
    return tuple(rows)


def _rank(n: int, alpha: float, delta: float | None) -> int:
    if delta is None:
        return conformal_rank(n, alpha=alpha)
    return pac_rank(n, alpha=alpha, delta=delta)


def _order_interval(n: int, rank: int) -> tuple[float, float]:
    """The middle 95 % of Beta(n + 1 − rank, rank)."""
    from scipy.special import betaincinv

    low, high = betaincinv(n + 1 - rank, rank, np.array([0.025, 0.975]))
    return float(low), float(high)
