"""Exact bounds of a rate from counted errors, and p-values for a mean loss.

n units (images, or groups of images of one part) are taken to be independent.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anomaly_u2net.calibration.checks import check_delta, check_rate
from anomaly_u2net.errors import InputError


def rate_upper(errors: int, n: int, *, delta: float = 0.05) -> float:
    """The Clopper–Pearson upper bound: with probability ≥ 1 − delta the true rate is at most this.

    errors: how many of n independent units were wrong. It is the p that solves
    P(Bin(n, p) ≤ errors) = delta, the (1 − delta) quantile of Beta(errors + 1, n − errors)
    (Clopper and Pearson, Biometrika 26, 1934). Raises InputError for counts that do not fit.

    >>> round(rate_upper(0, 45, delta=0.1), 4), rate_upper(3, 3)
    (0.0499, 1.0)
    """
    from scipy.special import betaincinv

    _check_counts(errors, n)
    check_delta(delta)
    return 1.0 if errors == n else float(betaincinv(errors + 1, n - errors, 1 - delta))


def rate_lower(errors: int, n: int, *, delta: float = 0.05) -> float:
    """The Clopper–Pearson lower bound; the mirror of `rate_upper`.

    >>> rate_lower(0, 45), round(rate_lower(45, 45, delta=0.1), 4)
    (0.0, 0.9501)
    """
    return 1.0 - rate_upper(n - errors, n, delta=delta)


def rate_interval(errors: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """The two-sided Clopper–Pearson interval of a rate.

    >>> low, high = rate_interval(1, 10)
    >>> round(low, 4), round(high, 4)
    (0.0025, 0.445)
    """
    half = (1 - check_rate(confidence, what="confidence")) / 2
    return rate_lower(errors, n, delta=half), rate_upper(errors, n, delta=half)


def rate_upper_anywhere(errors: int, n: int, *, delta: float = 0.05) -> float:
    """An upper bound that holds for every threshold at once: errors / n + √(ln(1/delta) / 2n).

    For a threshold that was chosen by looking at these very n scores `rate_upper` says too little;
    this one-sided Dvoretzky–Kiefer–Wolfowitz bound stays true (Massart, Ann. Probab. 18, 1990;
    delta ≤ 1/2). Raises InputError for counts that do not fit or a delta above 1/2.

    >>> round(rate_upper_anywhere(0, 100), 4)
    0.1224
    """
    _check_counts(errors, n)
    if check_delta(delta) > 0.5:
        raise InputError(f"expected a delta of at most 1/2 for this bound, got {delta}")
    return min(1.0, errors / n + math.sqrt(math.log(1 / delta) / (2 * n)))


def binomial_p(errors: ArrayLike, n: int, *, level: float) -> NDArray[np.float64]:
    """P(Bin(n, level) ≤ errors) for each count: the exact p-value of "the rate is above level".

    >>> binomial_p([0, 45], 45, level=0.05).round(4)
    array([0.0994, 1.    ])
    """
    from scipy.special import bdtr

    check_rate(level, what="level")
    return np.asarray(bdtr(np.asarray(errors, np.float64), n, level), np.float64)


def hoeffding_bentkus_p(mean_loss: ArrayLike, n: int, *, level: float) -> NDArray[np.float64]:
    """The p-value of "the expected loss is above ``level``" from the mean of n losses in [0, 1].

    mean_loss: (T,) or a number r. It is min(exp(−n h₁(min(r, level), level)),
    e · P(Bin(n, level) ≤ ⌈n r⌉)) with h₁(a, b) = a ln(a/b) + (1 − a) ln((1 − a)/(1 − b))
    (Bates et al., arXiv:2101.02703, theorem 4 ff.; Angelopoulos et al., arXiv:2110.01052,
    proposition 2). It grows with r.

    >>> hoeffding_bentkus_p([0.0, 0.05, 0.1], 100, level=0.1).round(5)
    array([3.0000e-05, 1.5651e-01, 1.0000e+00])
    """
    from scipy.special import rel_entr

    check_rate(level, what="level")
    mean = np.asarray(mean_loss, np.float64)
    if n < 1 or not ((mean >= 0) & (mean <= 1 + 1e-9)).all():
        raise InputError("expected the mean of n ≥ 1 losses between 0 and 1")
    low = np.minimum(mean, level)
    distance = rel_entr(low, level) + rel_entr(1 - low, 1 - level)
    hoeffding = np.exp(-n * distance)
    bentkus = np.e * binomial_p(np.minimum(np.ceil(n * mean - 1e-9), n), n, level=level)
    return np.asarray(np.minimum(np.minimum(hoeffding, bentkus), 1.0))


def _check_counts(errors: Any, n: Any) -> None:
    if not 0 <= errors <= n or n < 1:
        raise InputError(f"expected 0 ≤ errors ≤ n with n ≥ 1, got {errors} errors of {n}")
