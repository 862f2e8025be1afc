"""The threshold of least expected cost, with how sure one can be of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anomaly_u2net.calibration.checks import (
    Floats,
    Groups,
    check_rate,
    check_row,
    group_index,
    just_below,
)
from anomaly_u2net.errors import CalibrationError, InputError


@dataclass(frozen=True, slots=True)
class Costs:
    """What a wrong verdict costs, in any one currency, and how many parts are defective.

    overkill: of one good part called NG. escape: of one defective part called OK.
    defect_rate: the fraction of parts on the line that are defective (not of held-out images).

    Raises InputError for costs that are not positive and finite, or a rate outside (0, 1).
    """

    overkill: float
    escape: float
    defect_rate: float

    def __post_init__(self) -> None:
        for name in ("overkill", "escape"):
            value = getattr(self, name)
            if not (0 < value < np.inf):
                raise InputError(f"expected a cost of {name} above 0, got {value}")
        check_rate(self.defect_rate, what="defect rate of the line")


@dataclass(frozen=True, slots=True)
class LeastCost:
    """A threshold and the expected cost per part; intervals (low, high) by bootstrap, 95 %.

    cost is corrected for the optimism of choosing the threshold on these very images;
    apparent_cost is not.
    """

    threshold: float
    cost: float
    apparent_cost: float
    threshold_interval: tuple[float, float]
    cost_interval: tuple[float, float]


def expected_cost(
    good_scores: ArrayLike, defect_scores: ArrayLike, *, threshold: float, costs: Costs
) -> float:
    """(1 − π) · overkill · P(good > t) + π · escape · P(defective ≤ t), per part; π: defect_rate.

    >>> expected_cost([1, 2, 3, 4], [3, 5], threshold=3, costs=Costs(2, 100, 0.01))
    0.995
    """
    good, defects = _both_rows(good_scores, defect_scores)
    overkill = np.mean(good > threshold) * (1 - costs.defect_rate) * costs.overkill
    escape = np.mean(defects <= threshold) * costs.defect_rate * costs.escape
    return float(overkill + escape)


def least_cost(
    good_scores: ArrayLike,
    defect_scores: ArrayLike,
    *,
    costs: Costs,
    good_groups: Groups | None = None,
    defect_groups: Groups | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> LeastCost:
    """The threshold whose expected cost per part is lowest on the held-out images.

    good_scores: (n,). defect_scores: (m,). groups: which part each shows; parts are resampled whole.

    The cost changes only at scores, so the candidates are the scores and one number below them all
    (Elkan, "The Foundations of Cost-Sensitive Learning", IJCAI 2001, for the cost); of equal costs
    the lowest threshold is taken. Good and defective parts are resampled apart. What the apparent
    cost leaves out is estimated by the gaps, over resamples, between the cost on all images and the
    cost on the resample, both at the resample's own best threshold: their mean is the optimism
    (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 17), their middle 95 %
    gives the interval. No rate is promised, and with few images the interval is too narrow.

    Raises CalibrationError without good or without defective images, InputError for bad scores.

    >>> found = least_cost([1, 2, 3, 4], [3.5, 5, 6], costs=Costs(1, 10, 0.5), resamples=200)
    >>> found.threshold, found.apparent_cost, found.cost >= found.apparent_cost
    (3.0, 0.125, True)
    """
    good, defects = _both_rows(good_scores, defect_scores)
    if resamples < 20:
        raise InputError(f"expected 20 resamples or more, got {resamples}")
    candidates = np.unique(np.concatenate([good, defects]))
    candidates = np.concatenate([[just_below(float(candidates[0]))], candidates])
    rng = np.random.default_rng(seed)
    per_good = (1 - costs.defect_rate) * costs.overkill
    per_defect = costs.defect_rate * costs.escape
    good_at, defect_at = (np.searchsorted(candidates, row) for row in (good, defects))

    def curve(good_weights: Floats, defect_weights: Floats) -> Floats:
        """Cost at each candidate (…, T) for weights of the images (…, n) that sum to 1."""
        passed = _below(good_weights, good_at, candidates.size)
        escaped = _below(defect_weights, defect_at, candidates.size)
        return np.asarray(per_good * (1 - passed) + per_defect * escaped)

    whole = curve(
        np.full((1, good.size), 1 / good.size), np.full((1, defects.size), 1 / defects.size)
    )
    best = _first_best(whole)[0]
    chosen: list[Floats] = []
    optimism: list[Floats] = []
    for _ in range(0, resamples, 100):  # a hundred at a time, to bound the memory
        number = min(100, resamples - len(chosen) * 100)
        costs_there = curve(
            _resample(rng, good_groups, good.size, number),
            _resample(rng, defect_groups, defects.size, number),
        )
        picked = _first_best(costs_there)
        chosen.append(candidates[picked])
        optimism.append(whole[0, picked] - costs_there[np.arange(number), picked])
    apparent, gaps = float(whole[0, best]), np.concatenate(optimism)
    return LeastCost(
        threshold=float(candidates[best]),
        cost=max(0.0, apparent + float(gaps.mean())),
        apparent_cost=apparent,
        threshold_interval=_middle_95(np.concatenate(chosen)),
        cost_interval=_middle_95(np.maximum(apparent + gaps, 0.0)),
    )


def _first_best(costs: Floats) -> NDArray[np.intp]:
    """The first candidate of lowest cost in each row, rounding apart."""
    least = costs.min(axis=1, keepdims=True)
    return np.argmax(costs <= least + 1e-12 * (1 + np.abs(least)), axis=1)


def _below(weights: Floats, place: NDArray[np.intp], size: int) -> Floats:
    """The weight at or below each candidate: (B, n) weights at the places (n,) → (B, T)."""
    rows, offset = weights.shape[0], np.arange(weights.shape[0])[:, None] * size
    sums = np.bincount((place[None, :] + offset).ravel(), weights.ravel(), minlength=rows * size)
    return np.asarray(np.cumsum(sums.reshape(rows, size), axis=1))


def _resample(rng: np.random.Generator, groups: Groups | None, size: int, number: int) -> Floats:
    index, parts = group_index(groups, size)
    counts = rng.multinomial(parts, np.full(parts, 1 / parts), size=number)[:, index]
    return np.asarray(counts / counts.sum(axis=1, keepdims=True))


def _middle_95(values: NDArray[Any]) -> tuple[float, float]:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def _both_rows(good_scores: ArrayLike, defect_scores: ArrayLike) -> tuple[Floats, Floats]:
    good, defects = check_row(good_scores), check_row(defect_scores, what="defective")
    if good.size == 0 or defects.size == 0:
        raise CalibrationError(
            f"a cost weighs good against defective images; expected some of both, "
            f"got {good.size} good and {defects.size} defective"
        )
    return good, defects
