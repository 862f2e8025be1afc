"""Is model A better than model B? Paired bootstrap differences on the same images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from anomaly_u2net.errors import DatasetError, NotComputable
from anomaly_u2net.evaluation.evaluate import OnImage, images_hash, measure_category
from anomaly_u2net.evaluation.facts import fact_numbers
from anomaly_u2net.evaluation.memory import format_bytes, plan_memory
from anomaly_u2net.evaluation.pixels import Found
from anomaly_u2net.evaluation.predictions import by_category
from anomaly_u2net.evaluation.table import LEVEL, METRICS, RESAMPLES
from anomaly_u2net.files import write_json
from anomaly_u2net.inference.segmenter import Segmenter
from anomaly_u2net.metrics import ByImage, Difference, paired_difference
from anomaly_u2net.types import ImageRecord

#: Of these, less is better; of all others, more.
LESS_IS_BETTER = ("false_reject", "missed")


@dataclass(frozen=True, slots=True)
class Comparison:
    """A's numbers minus B's, by category and metric; ``None`` where either is undefined.

    model_hashes: of A and of B. images_hash: as `Evaluation` has it.
    """

    categories: Mapping[str, Mapping[str, Difference | None]]
    split: str
    images_hash: str
    model_hashes: tuple[str, str]

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": "anomaly_u2net.comparison/1",
            "split": self.split,
            "images_hash": self.images_hash,
            "model_hashes": list(self.model_hashes),
            "categories": {
                category: {name: found and asdict(found) for name, found in row.items()}
                for category, row in self.categories.items()
            },
        }

    def save(self, folder: str | Path) -> None:
        """Write comparison.json (undefined: null)."""
        write_json(Path(folder) / "comparison.json", self.to_dict())


def verdict(name: str, difference: Difference) -> str:
    """Which of A and B is better in the metric ``name``: "A", "B", or "" where it is open.

    It is open as long as the 95 % interval of the difference holds 0.

    >>> worse = Difference(-0.2, -0.3, -0.1, 0.002, 0.95, 1000, 0)
    >>> verdict("pixel_ap", worse), verdict("missed", worse)
    ('B', 'A')
    """
    if difference.low <= 0.0 <= difference.high:
        return ""
    return "A" if (difference.value > 0.0) != (name in LESS_IS_BETTER) else "B"


def compare(
    a: Segmenter,
    b: Segmenter,
    records: Iterable[ImageRecord],
    *,
    split: str = "test",
    memory: int | None = None,
    on_image: OnImage | None = None,
) -> Comparison:
    """Measure two models on the same images, each by its own thresholds, and take the differences.

    Each resample draws the same images, or groups of them, for both; see `paired_difference`.
    A category has ``None`` for what either model lacks (thresholds, say) and where fewer than five
    images of a kind are left to resample. memory: bytes that may be used, as in `evaluate`.

    Raises `DatasetError` for no records or more images than fit into memory, and as `evaluate`.
    """
    records = list(records)
    if not records:
        raise DatasetError(f"no images in split {split!r}: nothing to compare on")
    plan = plan_memory(records, allowed=memory)
    if plan.engine != "exact":
        raise DatasetError(
            f"a comparison needs all maps of a category, {format_bytes(plan.needed)}, and may use "
            f"{format_bytes(plan.allowed)}: allow more memory, or compare on fewer images"
        )
    categories = {}
    for category, own in by_category(records):
        groups, of_a = _numbers(a, category, own, on_image)
        _, of_b = _numbers(b, category, own, on_image)
        categories[category] = {
            name: _difference(of_a.get(name), of_b.get(name), groups) for name in METRICS
        }
    return Comparison(categories, split, images_hash(records), (a.model_hash, b.model_hash))


def same_images(a: Sequence[ImageRecord], b: Sequence[ImageRecord]) -> None:
    """Raise `DatasetError` unless both hold the same images, byte for byte."""
    if images_hash(a) != images_hash(b):
        raise DatasetError(
            f"two models are compared on the same images, but these runs have others in this "
            f"split ({len(a)} and {len(b)}): compare runs of one split.csv, or give --data-root "
            "with images that neither has seen"
        )


def _numbers(
    segmenter: Segmenter, category: str, records: Sequence[ImageRecord], on_image: OnImage | None
) -> tuple[list[str | None], dict[str, Found]]:
    """The groups of one category's images as measured, and its numbers by image."""
    calibration = segmenter.calibration
    thresholds = calibration.categories.get(category) if calibration else None
    facts, pixels = measure_category(segmenter, records, thresholds, on_image=on_image)
    return [one.record.group for one in facts], dict(pixels.numbers) | fact_numbers(facts)


def _difference(a: Found, b: Found, groups: Sequence[str | None]) -> Difference | None:
    if not isinstance(a, ByImage) or not isinstance(b, ByImage):
        return None
    try:
        return paired_difference(a, b, groups=groups, resamples=RESAMPLES, level=LEVEL)
    except NotComputable:
        return None
