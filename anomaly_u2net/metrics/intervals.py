"""How sure a number is: bootstrap over images, from what each image adds to the number's counts.

N images, G groups, B resamples, V corners of a curve. Images are drawn with replacement (Efron,
"Bootstrap Methods", Ann. Statist. 1979); with ``groups``, whole groups are (cluster bootstrap), as
several exposures of one part are not several parts. Every number here is a function of counts that
add up over images, so a resample is a row of weights, B resamples are one matrix product, and no
pixel is looked at twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from anomaly_u2net.errors import InputError, NotComputable
from anomaly_u2net.metrics.by_image import ByImage

#: One name per image, the same for all images of one part; None: the image is a part by itself.
Groups: TypeAlias = Sequence[str | int | None] | NDArray[np.generic]

#: A number is not given an interval when fewer groups than this have what it is measured on.
MIN_GROUPS = 5
#: Resamples drawn at a time.
_BLOCK = 100


@dataclass(frozen=True, slots=True)
class Interval:
    """A number with the limits between which it lies at ``level``.

    value: the exact number over all images. low, high: percentiles of the resampled numbers.
    resamples: how many were used. undefined: how many were left out, having no defect (or no good
    image) in them.
    """

    value: float
    low: float
    high: float
    level: float
    resamples: int
    undefined: int


@dataclass(frozen=True, slots=True)
class Difference:
    """A's number minus B's on the same images, with its limits and its two-sided p-value.

    p: the smallest 1 - level whose interval would leave out 0; at least 2 / (resamples + 1).
    The other fields are those of `Interval`.
    """

    value: float
    low: float
    high: float
    p: float
    level: float
    resamples: int
    undefined: int


@dataclass(frozen=True, slots=True, eq=False)
class Resampled:
    """A number over all images, and over each of B resamples of them: (B,), NaN where undefined.

    Those of two methods on the same images, in the same order, with the same groups and seed, are
    of the same draws: `sampled_difference` takes them apart or together.
    """

    value: float
    samples: NDArray[np.float64]


def bootstrap_interval(
    number: ByImage,
    *,
    groups: Groups | None = None,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The percentile interval of a number over images like these N.

    number: from `pixels_by_image`, `scores_by_image`, `share_by_image` and the like.
    groups: one label per image; images of equal label are drawn together, None stands alone.

    What is resampled is the number on the corners that ``number`` keeps; it is shifted by the exact
    value minus the kept corners' value, so the interval is centred on the exact number. A share
    (`share_by_image`) of 0 or 1 gets the exact binomial limit of Clopper and Pearson (Biometrika
    1934) over its G groups, where a bootstrap would give none. A *perfect* curve (AUROC of 1, say)
    stays perfect in every resample: its interval is a point, and means only that nothing was seen.

    Equal seeds give equal draws for all numbers over the same images and groups.
    Raises NotComputable when fewer than 5 groups have what the number needs (defects, say),
    InputError for unusable groups, resamples or level.

    >>> from anomaly_u2net.metrics import scores_by_image
    >>> scores = np.array([0.9, 0.8, 0.1, 0.7, 0.6, 0.5, 0.4, 0.2, 0.1, 0.0])
    >>> labels = np.array([1, 1, 1, 1, 1, 0, 0, 0, 0, 0])
    >>> found = bootstrap_interval(scores_by_image(scores, labels).auroc(), seed=1)
    >>> found.value, round(found.low, 2), round(found.high, 2), found.undefined
    (0.86, 0.52, 1.0, 4)
    """
    _check(resamples, level)
    table = _by_group(number.counts, groups)
    groups_with = _enough(number, table)
    samples = _resample(number, table, resamples, seed)
    samples = samples[np.isfinite(samples)]
    low, high = _limits(samples, level)
    if number.share and number.value in (0.0, 1.0):
        limit = 1.0 - ((1.0 - level) / 2) ** (1.0 / groups_with)
        low, high = (0.0, limit) if number.value == 0.0 else (1.0 - limit, 1.0)
    return Interval(
        value=number.value,
        low=low,
        high=high,
        level=level,
        resamples=samples.size,
        undefined=resamples - samples.size,
    )


def paired_difference(
    a: ByImage,
    b: ByImage,
    *,
    groups: Groups | None = None,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Is A better than B? The interval of A's number minus B's, over the same resamples.

    a and b: one number of two methods on the same N images in the same order. Every resample draws
    the same images for both, so what is hard for both cancels. p is two-sided, from the resamples
    on either side of 0: min(1, 2 (1 + min(#{d <= 0}, #{d >= 0})) / (B + 1)), Davison and Hinkley,
    "Bootstrap Methods and their Application", 1997, §4.2 and §5.2.

    Raises as `bootstrap_interval`; InputError when a and b have unequal numbers of images.

    >>> from anomaly_u2net.metrics import scores_by_image
    >>> labels = np.arange(40) % 2
    >>> rng = np.random.default_rng(0)
    >>> sharp, dull = labels + 0.4 * rng.standard_normal(40), labels + 2 * rng.standard_normal(40)
    >>> a, b = scores_by_image(sharp, labels).auroc(), scores_by_image(dull, labels).auroc()
    >>> found = paired_difference(a, b)
    >>> 0 < found.low < found.value < found.high, found.p < 0.05
    (True, True)
    """
    _check(resamples, level)
    if len(a.counts) != len(b.counts):
        raise InputError(
            f"a paired difference needs the same images for both, in the same order; got "
            f"{len(a.counts)} and {len(b.counts)}"
        )
    of_a, of_b = (resampled(x, groups=groups, resamples=resamples, seed=seed) for x in (a, b))
    return sampled_difference(of_a, of_b, level=level)


def resampled(
    number: ByImage, *, groups: Groups | None = None, resamples: int = 1000, seed: int = 0
) -> Resampled:
    """The number in each resample, to be kept for a comparison with one that is yet to come.

    All options as in `bootstrap_interval`, and raises as that.
    """
    table = _by_group(number.counts, groups)
    _enough(number, table)
    return Resampled(number.value, _resample(number, table, resamples, seed))


def sampled_difference(a: Resampled, b: Resampled, *, level: float = 0.95) -> Difference:
    """What `paired_difference` says, of numbers that were resampled before.

    Raises InputError unless both have equally many resamples.
    """
    if a.samples.shape != b.samples.shape:
        raise InputError(
            f"a paired difference needs the same resamples of both, got {a.samples.size} and "
            f"{b.samples.size}"
        )
    differences = a.samples - b.samples
    differences = differences[np.isfinite(differences)]
    low, high = _limits(differences, level)
    return Difference(
        value=a.value - b.value,
        low=low,
        high=high,
        p=two_sided_p(differences),
        level=level,
        resamples=differences.size,
        undefined=a.samples.size - differences.size,
    )


def two_sided_p(differences: NDArray[np.float64]) -> float:
    """The p-value of "there is no difference" from one in B resamples, (B,), all finite.

    Twice the share of resamples on the other side of 0, 0 itself included, where the data as
    observed count as one more on each side, so that it is never 0: as `paired_difference` says.

    >>> two_sided_p(np.array([-0.25, *[0.5] * 18]))  # of 19, 1 is not above 0: 2 (1 + 1) / (19 + 1)
    0.2
    """
    tail = min(np.count_nonzero(differences <= 0), np.count_nonzero(differences >= 0))
    return min(1.0, 2 * (1 + int(tail)) / (differences.size + 1))


def _resample(
    number: ByImage, table: NDArray[np.float64], resamples: int, seed: int
) -> NDArray[np.float64]:
    """The number in every resample of the counts (G, C) of the groups, NaN where undefined."""
    shift = number.value - float(number.number(table.sum(axis=0, keepdims=True))[0])
    found = []
    for weights in _weights(len(table), resamples, seed):
        sums = weights @ table
        samples = np.full(len(sums), np.nan)
        defined = (sums[:, list(number.needed)] > 0).all(axis=1)
        samples[defined] = np.clip(number.number(sums[defined]) + shift, 0.0, 1.0)
        found.append(samples)
    return np.concatenate(found)


def _weights(groups: int, resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """How often each of G groups is drawn, (b, G), in blocks that add up to the resamples."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, _BLOCK):
        rows = min(_BLOCK, resamples - start)
        drawn = rng.integers(groups, size=(rows, groups)) + groups * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * groups)
        yield counts.reshape(rows, groups).astype(np.float64)


def _by_group(counts: NDArray[np.float64], groups: Groups | None) -> NDArray[np.float64]:
    """Add up the counts (N, C) of each group's images: (G, C); themselves where none share one."""
    index, number = group_index(groups, len(counts))
    if number == len(counts):
        return counts
    summed = np.zeros((number, counts.shape[1]))
    np.add.at(summed, index, counts)
    return summed


def group_index(groups: Groups | None, number: int) -> tuple[NDArray[np.intp], int]:
    """For each of ``number`` images its group's place (number,), and how many groups there are.

    Without ``groups``, and where a group is None or "", an image is its own group.
    Raises InputError unless there is one group per image.

    >>> group_index(["a", None, "a", None], 4)
    (array([0, 1, 0, 2]), 3)
    """
    if groups is None:
        return np.arange(number), number
    names = groups.tolist() if isinstance(groups, np.ndarray) else list(groups)
    if len(names) != number:
        raise InputError(
            f"expected one group per image, got {len(names)} groups for {number} images; "
            "use None for an image that is a part by itself"
        )
    places: dict[object, int] = {}
    index = [
        places.setdefault((place,) if name is None or name == "" else name, len(places))
        for place, name in enumerate(names)
    ]
    return np.asarray(index, np.intp), len(places)


def _enough(number: ByImage, table: NDArray[np.float64]) -> int:
    """The fewest groups that have what the number needs; raises NotComputable below MIN_GROUPS."""
    fewest = int((table[:, list(number.needed)] > 0).sum(axis=0).min())
    if fewest < MIN_GROUPS:
        raise NotComputable(
            f"an interval needs {MIN_GROUPS} or more images (or groups of images) that the number "
            f"is measured on (good, defective or both); of {len(table)} only {fewest} are: "
            "measure on more images"
        )
    return fewest


def _limits(samples: NDArray[np.float64], level: float) -> tuple[float, float]:
    low, high = np.quantile(samples, [(1.0 - level) / 2, (1.0 + level) / 2])
    return float(low), float(high)


def _check(resamples: int, level: float) -> None:
    if not 0.0 < level < 1.0:
        raise InputError(f"expected a level in (0, 1), got {level}; 0.95 is usual")
    if resamples < 2.0 / (1.0 - level):
        raise InputError(
            f"{resamples} resamples cannot show the tails of a {level} interval; use 1000"
        )
