"""A number of a benchmark over categories and seeds, and the difference of two methods in it.

C categories, S seeds, or seeds and folds alike; B resamples of test images.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import mean, stdev

import numpy as np
from numpy.typing import NDArray

from anomaly_u2net.benchmark.outcome import Outcome
from anomaly_u2net.evaluation.table import Measured, Number, mean_limits, mean_of
from anomaly_u2net.metrics import sampled_difference
from anomaly_u2net.metrics.intervals import two_sided_p

#: A difference and its B resamples, None where it has no interval.
_Pair = tuple[Measured, NDArray[np.float64] | None]


@dataclass(frozen=True, slots=True)
class Mean:
    """A number over S seeds, or seeds and folds. std: S - 1 in the denominator, None for one seed.

    low, high: the mean over seeds of the 95 % limits of each: as if the seeds, which share test
    images, all erred together, so rather too wide than too narrow. p: of a difference that has
    limits, see `difference`. repeats: of a difference, the (seed, fold) that it is over.
    """

    value: float
    std: Number = None
    low: Number = None
    high: Number = None
    p: Number = None
    repeats: tuple[tuple[int, int], ...] = field(default=(), compare=False)


def over_seeds(found: Sequence[tuple[tuple[int, int], str, Measured | None]]) -> Mean | None:
    """The mean over categories, then over seeds, of (repeat, category, number) of cells.

    Of a category with several types it is first the mean over these, and that of their limits: they
    are tested on the same images, as seeds are. None when a number is undefined in any cell.
    """
    means = []
    for repeat in sorted({repeat for repeat, _, _ in found}):
        types = defaultdict[str, list[Measured | None]](list)
        for other, category, one in found:
            if other == repeat:
                types[category].append(one)
        means.append(mean_of([_over_types(own) for own in types.values()]))
    return _mean(means)


def difference(
    name: str, method: str, peer: str, cells: Sequence[Outcome], *, seeds: Sequence[int]
) -> Mean | None:
    """The method's number minus the peer's: of the same split and seed, over the same resamples.

    Seeds that the peer lacks, or where the number is undefined, are left out; None when all are,
    ``repeats`` names those that were used. Without limits and p where a category or a seed has none.

    p: the two-sided p-value of "the mean difference is 0" from B resamples of it,
    min(1, 2 (1 + min(#{d <= 0}, #{d >= 0})) / (B + 1)), so between 2 / (B + 1) and 1: that of
    `metrics.paired_difference`, which it is for one category and one seed. Over categories,
    whose images are independent, d is the mean of as many independent draws; over seeds, and over
    the types of a category, the mean of their smallest d, of their second smallest, and so on: as if
    all erred together, which is how the limits are averaged.
    """
    by_key = {(c.method, c.category, c.protocol, c.seed): c for c in cells if c.error is None}
    found, draws = list[Measured | None](), list[NDArray[np.float64]]()
    repeats = list[tuple[int, int]]()
    for repeat in sorted({c.repeat for c in cells if c.seed in seeds}):
        types = defaultdict[str, list[_Pair | None]](list)
        for split in sorted(
            {(c.category, c.protocol, c.seed) for c in cells if c.repeat == repeat}
        ):
            one, other = by_key.get((method, *split)), by_key.get((peer, *split))
            types[split[0]].append(_pair(name, one, other))
        pairs = [_pair_over_types(own) for own in types.values()]
        known = [pair for pair in pairs if pair is not None]
        if len(known) < len(pairs):
            continue  # nothing to pair
        repeats.append(repeat)
        value = mean(one.value for one, _ in known)
        limits = [
            (one.value, one.low, one.high)
            for one, _ in known
            if one.low is not None and one.high is not None
        ]
        if len(limits) < len(known):
            found.append(Measured(value))
            continue
        found.append(Measured(value, *mean_limits(limits)))
        draws.append(_over_categories([d for _, d in known if d is not None]))
    over = _mean(found)
    if over is None:
        return None
    over = replace(over, repeats=tuple(repeats))
    return over if over.low is None else replace(over, p=two_sided_p(_together(draws)))


def _pair(name: str, one: Outcome | None, other: Outcome | None) -> _Pair | None:
    """The difference on the same images; with limits and resamples (B,) where both have them."""
    if one is None or other is None or one.split_hash != other.split_hash:
        return None
    a, b = one.samples.get(name), other.samples.get(name)
    if a is not None and b is not None:
        found = sampled_difference(a, b)
        return Measured(found.value, found.low, found.high), a.samples - b.samples
    x, y = one.numbers.get(name), other.numbers.get(name)
    return None if x is None or y is None else (Measured(x.value - y.value), None)


def _over_types(numbers: Sequence[Measured | None]) -> Measured | None:
    over = numbers[0] if len(numbers) == 1 else _mean(numbers)
    return None if over is None else Measured(over.value, over.low, over.high)


def _pair_over_types(pairs: Sequence[_Pair | None]) -> _Pair | None:
    if len(pairs) == 1:
        return pairs[0]
    over = _over_types([pair and pair[0] for pair in pairs])
    if over is None:
        return None
    draws = [d[np.isfinite(d)] for _, d in filter(None, pairs) if d is not None]
    return over, _together(draws) if len(draws) == len(pairs) else None


def _over_categories(draws: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The mean over categories in resamples (B,), from C arrays (B,); the finite ones.

    The same place in two arrays may hold draws of the same places in two lists of images, so all
    but the first are shuffled (seed 0).
    """
    rng, size = np.random.default_rng(0), min(one.size for one in draws)
    shuffled = [draws[0][:size], *(rng.permutation(one)[:size] for one in draws[1:])]
    found: NDArray[np.float64] = np.mean(shuffled, axis=0)
    return found[np.isfinite(found)]


def _together(draws: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The mean over seeds, equal ranks together, (B,) with B of the smallest of S arrays.

    >>> _together([np.array([2.0, -1.0, 0.0]), np.array([3.0, 0.0, 1.0])])
    array([-0.5,  0.5,  2.5])
    """
    size = min(one.size for one in draws)
    ranks = (np.arange(size) + 0.5) / size
    found: NDArray[np.float64] = np.mean(
        [np.quantile(one, ranks, method="inverted_cdf") for one in draws], axis=0
    )
    return found


def _mean(found: Sequence[Measured | None]) -> Mean | None:
    """Over seeds; None when a number is undefined with any of them."""
    known = [one for one in found if one is not None]
    if not known or len(known) < len(found):
        return None
    values = [one.value for one in known]
    lows = [one.low for one in known if one.low is not None]
    highs = [one.high for one in known if one.high is not None]
    limits = (mean(lows), mean(highs)) if len(lows) == len(highs) == len(known) else (None, None)
    return Mean(mean(values), stdev(values) if len(values) > 1 else None, *limits)
