"""What the rules accept: scores, rates and groups, looked at in one place."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anomaly_u2net.errors import InputError
from anomaly_u2net.metrics.intervals import Groups, group_index

Floats: TypeAlias = NDArray[np.float64]

#: Rates are met up to this relative error, so that 20 × 0.05 and 3 × (1/3) are the whole numbers
#: that they are meant to be and not the float beside them.
SLACK = 1e-12

_FLOAT32_MAX = float(np.finfo(np.float32).max)


def check_row(scores: ArrayLike, *, what: str = "good") -> Floats:
    """Return ``scores`` as finite float64 (n,), n ≥ 0; InputError for anything else."""
    array = np.asarray(scores)
    if array.ndim == 1 and array.size == 0:
        return np.zeros(0)
    if array.ndim != 1 or array.dtype.kind not in "fiu":
        raise InputError(
            f"expected one score per {what} image, real numbers of shape (n,), "
            f"got {array.dtype} of shape {array.shape}"
        )
    values = array.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise InputError(
            f"{bad.size} of {values.size} {what} scores are NaN or infinite, the first at index "
            f"{bad[0]}; scores must be finite, look at what produced this map"
        )
    return values


def check_rate(rate: float, *, what: str = "false-reject rate") -> float:
    """Return ``rate`` when it is in (0, 1), else raise InputError naming it."""
    if not 0.0 < rate < 1.0:
        raise InputError(
            f"expected a {what} between 0 and 1, both excluded, got {rate}; 0.05 means 1 in 20"
        )
    return float(rate)


def check_delta(delta: float) -> float:
    """Return ``delta`` when it is in (0, 1), else raise InputError."""
    return check_rate(delta, what="delta (the chance that the promise fails)")


def allowed_loss(n: int, rate: float) -> float:
    """(n + 1) · rate − 1: what the losses of n units may sum to in conformal risk control.

    With a margin for the rounding of sums of shares such as 1/3 + 1/3 + 1/3.
    """
    return (n + 1) * rate * (1 + SLACK) - 1 + 1e-9


def group_extremes(scores: Floats, groups: Groups | None, *, lowest: bool = False) -> Floats:
    """The highest score (or the lowest) of each group: (number of groups,).

    >>> group_extremes(np.array([0.1, 0.4, 0.3]), ["a", "a", "b"])
    array([0.4, 0.3])
    """
    index, number = group_index(groups, scores.size)
    found = np.full(number, np.inf if lowest else -np.inf)
    (np.minimum if lowest else np.maximum).at(found, index, scores)
    return found


def just_below(value: float) -> float:
    """A threshold that ``value`` itself exceeds and that no lower score of its precision does.

    A value that float32 can hold gets the next lower float32, so that comparing in float32 and in
    float64 give the same answer.

    >>> just_below(0.5) < 0.5, bool(np.float32(0.5) > np.float32(just_below(0.5)))
    (True, True)
    """
    narrow = np.float32(value) if abs(value) <= _FLOAT32_MAX else np.float32(0)
    if float(narrow) == value:
        return float(np.nextafter(narrow, np.float32(-np.inf)))
    return math.nextafter(value, -math.inf)
