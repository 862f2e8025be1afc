"""Is model A better than model B? Paired bootstrap differences on the same images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from anomaly_u2net.errors import DatasetError
from anomaly_u2net.evaluation.evaluate import OnImage, images_hash, measure_category
from anomaly_u2net.evaluation.facts import ImageFacts, fact_numbers, or_none
from anomaly_u2net.evaluation.memory import Engine, format_bytes, plan_memory
from anomaly_u2net.evaluation.pixels import CURVE_NUMBERS, Streamed
from anomaly_u2net.evaluation.predictions import Predictor, by_category
from anomaly_u2net.evaluation.table import LEVEL, METRICS, RESAMPLES, mean_limits
from anomaly_u2net.files import write_json
from anomaly_u2net.metrics import ByImage, Difference, paired_difference
from anomaly_u2net.types import ImageRecord

Better: TypeAlias = Literal["A", "B", ""]

#: Of these, less is better; of all others, more.
LESS_IS_BETTER = ("false_reject", "missed", "review_good", "review_defective")


@dataclass(frozen=True, slots=True)
class MeanDifference:
    """The mean over categories of A's number minus B's, and the limits of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """A's numbers minus B's, by category and metric; ``None`` where either is undefined.

    model_hashes: of A and of B. images_hash: as `Evaluation` has it.
    engine: "exact", or "streaming": no pixel difference is then farther than ``certified_within``
    from the exact one. AUPIMO is not streamed. too_close: the metrics that are ``None`` somewhere
    as the streamed scores of a model lie too close together for intervals.
    """

    categories: Mapping[str, Mapping[str, Difference | None]]
    split: str
    images_hash: str
    model_hashes: tuple[str, str]
    engine: Engine = "exact"
    certified_within: float = 0.0
    too_close: tuple[str, ...] = ()

    @property
    def mean(self) -> dict[str, MeanDifference | None]:
        """The mean over categories; ``None`` when a metric has no difference in any of them.

        The differences are paired within each category; the images of different categories are
        independent, so variances add as in the mean row of `evaluate` (see `mean_limits`).
        """
        rows = self.categories.values()
        return {name: _mean([row[name] for row in rows]) for name in METRICS}

    def within(self, name: str) -> float:
        """How far the differences of the metric ``name`` can be from the exact ones."""
        return self.certified_within if name in CURVE_NUMBERS else 0.0

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": "anomaly_u2net.comparison/1",
            "split": self.split,
            "engine": self.engine,
            "certified_within": self.certified_within,
            "too_close": list(self.too_close),
            "images_hash": self.images_hash,
            "model_hashes": list(self.model_hashes),
            "categories": {category: _content(row) for category, row in self.categories.items()},
            "mean": _content(self.mean),
        }

    def save(self, folder: str | Path) -> None:
        """Write comparison.json (undefined: null)."""
        write_json(Path(folder) / "comparison.json", self.to_dict())


def verdict(name: str, difference: Difference | MeanDifference, *, within: float = 0.0) -> Better:
    """Which of A and B is better in the metric ``name``: "A", "B", or "" where it is open.

    It is open as long as the 95 % interval of the difference holds 0. within: how far a streamed
    difference can be from the exact one; the interval is then taken as that much wider.

    >>> worse = Difference(-0.2, -0.3, -0.1, 0.002, 0.95, 1000, 0)
    >>> verdict("pixel_ap", worse), verdict("missed", worse)
    ('B', 'A')
    """
    if difference.low - within <= 0.0 <= difference.high + within:
        return ""
    return "A" if (difference.value > 0.0) != (name in LESS_IS_BETTER) else "B"


def compare(
    a: Predictor,
    b: Predictor,
    records: Iterable[ImageRecord],
    *,
    split: str = "test",
    memory: int | None = None,
    on_image: OnImage | None = None,
) -> Comparison:
    """Measure two models on the same images, each by its own thresholds, and take the differences.

    Each resample draws the same images, or groups of them, for both; see `paired_difference`.
    A category has ``None`` for what either model lacks (thresholds, say) and where fewer than five
    images of a kind are left to resample. memory: bytes that may be used, as in `evaluate`; where
    the maps of a category do not fit, both models are streamed, and what either has too close
    together for an interval is ``None`` (`Comparison.too_close`).

    Raises `DatasetError` for no records and where even what each image adds to the streamed numbers
    does not fit, and as `evaluate`.
    """
    records = list(records)
    if not records:
        raise DatasetError(f"no images in split {split!r}: nothing to compare on")
    plan = plan_memory(records, allowed=memory, models=2)
    if not plan.pixel_intervals:
        raise DatasetError(
            f"a comparison keeps what each image of a category adds to the numbers, "
            f"{format_bytes(plan.streamed)}, and may use {format_bytes(plan.allowed)}: allow more "
            "memory, or compare on fewer images"
        )
    categories, within, close = {}, 0.0, set[str]()
    for category, own in by_category(records):
        of_a, of_b = (_measure(model, category, own, plan.engine, on_image) for model in (a, b))
        groups = [one.record.group for one in of_a.facts]
        categories[category] = {
            name: _difference(of_a.numbers.get(name), of_b.numbers.get(name), groups)
            for name in METRICS
        }
        given = [name for name in of_a.widths if categories[category][name] is not None]
        within = max([within, *(of_a.widths[name] + of_b.widths[name] for name in given)])
        close |= of_a.too_close | of_b.too_close
    return Comparison(
        categories,
        split,
        images_hash(records),
        (a.model_hash, b.model_hash),
        plan.engine,
        within,
        too_close=tuple(name for name in METRICS if name in close),
    )


def same_images(a: Sequence[ImageRecord], b: Sequence[ImageRecord]) -> None:
    """Raise `DatasetError` unless both hold the same images, byte for byte."""
    if images_hash(a) != images_hash(b):
        raise DatasetError(
            f"two models are compared on the same images, but these runs have others in this "
            f"split ({len(a)} and {len(b)}): compare runs of one split.csv, or give --data-root "
            "with images that neither has seen"
        )


@dataclass(frozen=True, slots=True)
class _OfModel:
    """One model on one category: facts and numbers by image, widths of the certificates.

    too_close: the numbers whose scores lie too close together for intervals.
    """

    facts: Sequence[ImageFacts]
    numbers: Mapping[str, ByImage | None]
    widths: Mapping[str, float]
    too_close: set[str]


def _measure(
    predictor: Predictor,
    category: str,
    records: Sequence[ImageRecord],
    engine: Engine,
    on_image: OnImage | None,
) -> _OfModel:
    calibration = predictor.calibration
    thresholds = calibration.categories.get(category) if calibration else None
    facts, pixels = measure_category(
        predictor, records, thresholds, engine=engine, on_image=on_image
    )
    widths = {
        name: number.certified.width
        for name, number in pixels.numbers.items()
        if isinstance(number, Streamed)
    }
    return _OfModel(facts, pixels.by_image | fact_numbers(facts), widths, pixels.too_close)


def _difference(
    a: ByImage | None, b: ByImage | None, groups: Sequence[str | None]
) -> Difference | None:
    if a is None or b is None:
        return None
    return or_none(lambda: paired_difference(a, b, groups=groups, resamples=RESAMPLES, level=LEVEL))


def _mean(differences: Sequence[Difference | None]) -> MeanDifference | None:
    known = [(d.value, d.low, d.high) for d in differences if d is not None]
    if len(known) < len(differences):
        return None
    low, high = mean_limits(known)
    return MeanDifference(sum(value for value, _, _ in known) / len(known), low, high)


def _content(row: Mapping[str, Difference | MeanDifference | None]) -> dict[str, Any]:
    return {name: found and asdict(found) for name, found in row.items()}
