"""Findings on light and size: do the good test images look like those of training?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anomaly_u2net.data.audit.findings import Finding
from anomaly_u2net.data.audit.seen import SeenImage
from anomaly_u2net.errors import InputError
from anomaly_u2net.types import GOOD

#: Fewer independent images than this on either side are not compared.
FEWEST = 5
#: A difference is reported below this p-value, divided by the number of comparisons (Bonferroni)...
P = 0.01
#: ...and from this distance between the two distributions on (Kolmogorov–Smirnov, 0..1).
DISTANCE = 0.3
PERMUTATIONS = 10_000

_MEASURED: dict[str, tuple[str, Callable[[SeenImage], float]]] = {
    "height": ("pixels", lambda one: one.size[0]),
    "width": ("pixels", lambda one: one.size[1]),
    "width / height": ("", lambda one: one.size[1] / one.size[0]),
    "brightness": ("mean gray, 0..255", lambda one: one.mean),
    "contrast": ("standard deviation of gray", lambda one: one.contrast),
}


class Shift(NamedTuple):
    """How two samples differ.

    distance: the largest difference of their distribution functions (Kolmogorov–Smirnov), 0..1.
    effect: difference of the means in pooled standard deviations (Cohen's d); ``None`` where
    neither sample varies. p: of the distance, by permutation.
    """

    distance: float
    effect: float | None
    p: float


def shift(a: ArrayLike, b: ArrayLike, *, seed: int = 0) -> Shift:
    """Compare samples a (N,) and b (M,); the effect is positive where b is larger.

    p is the share of 10 000 random permutations, and of what is there, with at least this distance,
    so ties and small samples need no formula.

    >>> found = shift([1, 2, 3, 4, 5] * 4, [3, 4, 5, 6, 7] * 4)
    >>> found.distance, round(found.effect, 2), found.p < 0.1
    (0.4, 1.38, True)
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    if not a.size or not b.size:
        raise InputError(f"expected two samples, got {a.size} and {b.size} values")
    pooled = np.concatenate([a, b])
    own = np.arange(len(pooled)) < a.size
    distance = float(_distances(pooled, own[None])[0])
    rng = np.random.default_rng(seed)
    far, batch = 0, PERMUTATIONS // 10
    for _ in range(10):
        picks = rng.permuted(np.broadcast_to(own, (batch, len(own))), axis=1)
        far += int((_distances(pooled, picks) >= distance - 1e-12).sum())
    varies = bool(np.ptp(a) or np.ptp(b))
    squares = len(a) * np.var(a) + len(b) * np.var(b)
    spread = float(np.sqrt(squares / max(1, len(pooled) - 2)))
    effect = float(np.mean(b) - np.mean(a)) / spread if varies else None
    return Shift(distance, effect, (1 + far) / (1 + 10 * batch))


def drift_findings(
    category: str, seen: Sequence[SeenImage], *, joined: Sequence[tuple[int, ...]]
) -> list[Finding]:
    """The measures in which the good test images of a category differ from its other good ones.

    Images of one group (``joined``: indexes into ``seen``) count once, with their mean: they are
    not independent.
    """
    train = _units(seen, joined, test=False)
    test = _units(seen, joined, test=True)
    numbers = {"independent_training_images": len(train), "independent_test_images": len(test)}
    if min(len(train), len(test)) < FEWEST:
        if not test:
            return []
        return [
            Finding(
                "info", "drift", category,
                f"too few independent good images to compare training ({len(train)}) with test "
                f"({len(test)}); {FEWEST} of each are needed",
                numbers=numbers,
            )
        ]  # fmt: skip
    found = []
    for name, (unit, measure) in _MEASURED.items():
        a, b = (_measures(units, measure) for units in (train, test))
        difference = shift(a, b)
        if difference.p * len(_MEASURED) < P and difference.distance >= DISTANCE:
            found.append(
                Finding(
                    "warning", "drift", category,
                    f"the good test images differ in {name} from those of training: "
                    f"{_middle(b)} against {_middle(a)}{unit and f' ({unit})'}; "
                    f"{_words(difference)}",
                    "Find out why (light, camera, cropping, another batch). If the line looks like "
                    "the test, train on such images; thresholds from other images do not hold.",
                    numbers=numbers | {"measure": name} | difference._asdict(),
                )
            )  # fmt: skip
    return found


def _measures(
    units: list[list[SeenImage]], measure: Callable[[SeenImage], float]
) -> NDArray[np.float64]:
    """The mean of each unit. Rounded: means of equal numbers differ in their last bits."""
    return np.round([np.mean([measure(one) for one in unit]) for unit in units], 6)


def _words(found: Shift) -> str:
    size = "neither varies" if found.effect is None else f"{found.effect:+.1f} standard deviations"
    return f"{size}, distributions {found.distance:.2f} apart of 1, p = {found.p:.2g}"


def _middle(values: NDArray[np.float64]) -> str:
    low, middle, high = np.percentile(values, [10, 50, 90])
    return f"{middle:.3g} (80 % in {low:.3g}–{high:.3g})"


def _units(
    seen: Sequence[SeenImage], joined: Sequence[tuple[int, ...]], *, test: bool
) -> list[list[SeenImage]]:
    """The good images in the test, or outside of it, in independent units."""
    unit = {i: group[0] for group in joined for i in group}
    members: dict[int, list[SeenImage]] = {}
    for i, one in enumerate(seen):
        if one.record.label == GOOD and (one.record.split == "test") == test:
            members.setdefault(unit.get(i, i), []).append(one)
    return list(members.values())


def _distances(pooled: NDArray[np.float64], picks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Of P ways (P, n) to pick the first sample out of the pooled one (n,): their distances (P,)."""
    order = np.argsort(pooled)
    last = np.flatnonzero(np.append(np.diff(pooled[order]) > 0, True))  # of equal values
    first = np.cumsum(picks[:, order], axis=1, dtype=np.int32)[:, last]
    count = int(picks[0].sum())
    second = last + 1 - first
    return np.asarray(np.abs(first / count - second / (len(pooled) - count)).max(axis=1))
