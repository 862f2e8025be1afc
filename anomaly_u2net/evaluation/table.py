"""What an evaluation says: numbers with their intervals, per category, defect type and size."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from anomaly_u2net.evaluation.memory import Engine, Memory
from anomaly_u2net.files import write_aside, write_json

Number: TypeAlias = float | None

#: The numbers that need no threshold: what each is and on what it is measured.
RANKING = {
    "image_auroc": "area under the ROC curve of image scores",
    "image_ap": "average precision of image scores",
    "image_f1_max": "highest F1 of image scores, chosen on these very images: an upper bound",
    "pixel_auroc": "area under the ROC curve of all pixels",
    "pixel_ap": "average precision of all pixels",
    "aupro_0.30": "per-region overlap, area to FPR 0.30, normalised",
    "aupro_0.05": "per-region overlap, area to FPR 0.05, normalised",
    "aupimo": "per-image overlap, over the logarithm of FPR 1e-5 to 1e-4 on good images",
    "pixel_f1_max": "highest F1 over all thresholds, chosen on these very images: an upper bound",
}
#: The numbers at the thresholds of a calibration.
AT_THRESHOLDS = {
    "pixel_f1": "F1 (Dice) of the defect, pooled over images, at the calibrated pixel threshold",
    "pixel_iou": "IoU of the defect, pooled over images, at the calibrated pixel threshold",
    "mean_f1": "F1 (Dice) of a defective image at that threshold, mean over them",
    "mean_iou": "IoU of a defective image at that threshold, mean over them",
    "pixel_iou_best_f1": "pooled IoU at the pixel threshold of highest F1 on calibration images",
    "region_recall": "defect regions with any pixel above the calibrated pixel threshold",
    "false_reject": "good images called NG at the calibrated image threshold",
    "missed": "defective images called OK at the calibrated image threshold",
    "review_good": "good images called REVIEW: left to a person, neither OK nor NG",
    "review_defective": "defective images called REVIEW: neither found nor missed",
}
#: The columns of the table, in order.
METRICS = RANKING | AT_THRESHOLDS

#: The numbers of one defect type: its images against all good ones; from "found" on, at thresholds.
LABEL_METRICS = {
    "image_auroc": "area under the ROC curve of image scores",
    "pixel_auroc": "area under the ROC curve of pixels",
    "pixel_ap": "average precision of pixels",
    "aupro_0.30": "per-region overlap, area to FPR 0.30, normalised",
    "found": "images of this type called NG at the calibrated image threshold",
    "iou": "IoU pooled over the images of this type at the calibrated pixel threshold",
    "mean_iou": "IoU of an image of this type at that threshold, mean over them",
    "iou_best_f1": "pooled IoU at the pixel threshold of highest F1 on calibration images",
    "mean_iou_best_f1": "IoU of an image of this type at that threshold, mean over them",
}
#: The numbers of the regions of one size, at the calibrated pixel threshold.
SIZE_METRICS = {
    "recall": "regions with any pixel above the threshold",
    "overlap": "share of a region above the threshold, mean over regions",
}

LEVEL = 0.95
RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Measured:
    """A number; the limits of its 95 % interval; where it was streamed, its certificate.

    low, high: bootstrap over images, ``None`` where there is no interval: not asked for, streamed
    within too little memory, scores too close together, or fewer than five images (or groups).
    certified: the exact number provably lies within it; ``None`` where the value is the exact one.
    too_close: streamed scores lie too close together for an interval; the exact engine gives it.
    """

    value: float
    low: Number = None
    high: Number = None
    certified: tuple[float, float] | None = None
    too_close: bool = False

    def to_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {"value": self.value, "low": self.low, "high": self.high}
        return found if self.certified is None else found | {"certified": list(self.certified)}


#: By name; ``None`` for a number that is undefined or lacks a calibration.
Numbers: TypeAlias = dict[str, Measured | None]


@dataclass(frozen=True, slots=True)
class Part:
    """The numbers of one defect type, or of one bucket of region sizes.

    count: its images, or its regions. numbers: by the names of `LABEL_METRICS`, `SIZE_METRICS`.
    """

    name: str
    count: int
    numbers: Numbers

    @property
    def metrics(self) -> dict[str, Number]:
        """The values alone."""
        return _values(self.numbers)


@dataclass(frozen=True, slots=True)
class CategoryScores:
    """One category's row: good and defective images, and the numbers of `METRICS`.

    labels: a part per defect type. sizes: a part per bucket of region areas; without a calibration
    there is none. miou: the mean of the IoU of the defect and that of the background, pooled, at the
    threshold of ``pixel_f1_max``, so chosen on these very images too; ``None`` when streamed.
    """

    category: str
    good: int
    defective: int
    numbers: Numbers
    labels: tuple[Part, ...] = ()
    sizes: tuple[Part, ...] = ()
    miou: Measured | None = None

    @property
    def metrics(self) -> dict[str, Number]:
        """The values alone."""
        return _values(self.numbers)

    def to_dict(self) -> dict[str, Any]:
        return {
            "category": self.category,
            "good": self.good,
            "defective": self.defective,
            "metrics": _content(self.numbers),
            "miou": self.miou and self.miou.to_dict(),
            "labels": {
                part.name: {"images": part.count, "metrics": _content(part.numbers)}
                for part in self.labels
            },
            "region_sizes": {
                part.name: {"regions": part.count, "metrics": _content(part.numbers)}
                for part in self.sizes
            },
        }


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All categories, their mean, and what produced them.

    engine: "exact", or "streaming" where pixel numbers carry certificates.
    images_hash: SHA-256 over the sorted SHA-256 of the image files measured.
    resamples: bootstrap resamples behind the intervals; 0 where none were made.
    memory: how the engine was chosen; it is of this machine and moment, and not saved.
    """

    categories: tuple[CategoryScores, ...]
    split: str
    engine: Engine
    images_hash: str
    model_hash: str
    recipe_hash: str
    calibration_hash: str
    resamples: int = 0
    memory: Memory | None = field(default=None, compare=False)

    @property
    def mean_numbers(self) -> Numbers:
        """Mean over categories; ``None`` when a metric is undefined in any of them."""
        return {name: mean_of([row.numbers[name] for row in self.categories]) for name in METRICS}

    @property
    def mean_miou(self) -> Measured | None:
        """The mean over categories of `CategoryScores.miou`; ``None`` when it is in any of them."""
        return mean_of([row.miou for row in self.categories])

    @property
    def mean(self) -> dict[str, Number]:
        """The values of `mean_numbers` alone."""
        return _values(self.mean_numbers)

    @property
    def certified_within(self) -> float:
        """The widest certificate of any number: no value is farther from the exact one."""
        certificates = [
            n.certified for row in self._rows for n in row.values() if n and n.certified
        ]
        return max((high - low for low, high in certificates), default=0.0)

    @property
    def too_close(self) -> tuple[str, ...]:
        """The metrics that lack an interval somewhere as streamed scores lie too close together."""
        found = {name for row in self._rows for name, n in row.items() if n and n.too_close}
        return tuple(name for name in METRICS if name in found)

    @property
    def _rows(self) -> list[Numbers]:
        """The numbers of each category and of each of its defect types."""
        rows = [row.numbers for row in self.categories]
        return rows + [part.numbers for row in self.categories for part in row.labels]

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": "anomaly_u2net.evaluation/2",
            "split": self.split,
            "engine": self.engine,
            "certified_within": self.certified_within,
            "too_close": list(self.too_close),
            "interval": {"level": LEVEL, "resamples": self.resamples} if self.resamples else None,
            "images_hash": self.images_hash,
            "model_hash": self.model_hash,
            "recipe_hash": self.recipe_hash,
            "calibration_hash": self.calibration_hash,
            "categories": [row.to_dict() for row in self.categories],
            "mean": _content(self.mean_numbers),
            "mean_miou": self.mean_miou and self.mean_miou.to_dict(),
        }

    def save(self, folder: str | Path) -> None:
        """Write evaluation.json and evaluation.csv (undefined: null, and ``n/a``)."""
        folder = Path(folder)
        write_json(folder / "evaluation.json", self.to_dict())
        path = folder / "evaluation.csv"
        with write_aside(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            columns = [f"{name}{end}" for name in METRICS for end in ("", "_low", "_high")]
            writer.writerow(["category", "good", "defective", "engine", *columns])
            for row in self.categories:
                named = [row.category, row.good, row.defective, self.engine]
                writer.writerow([*named, *_cells(row.numbers)])
            writer.writerow(["mean", "", "", self.engine, *_cells(self.mean_numbers)])


def mean_of(numbers: Sequence[Measured | None]) -> Measured | None:
    """The mean of numbers of k categories, whose images are independent.

    Its limits are those of `mean_limits`, its certificate is the mean of the certificates.
    ``None`` when any number is.

    >>> found = mean_of([Measured(0.75, 0.5, 0.875), Measured(0.25, 0.25, 0.25)])
    >>> found.value, found.low, found.high
    (0.5, 0.375, 0.5625)
    """
    known = [number for number in numbers if number is not None]
    if not known or len(known) < len(numbers):
        return None
    k = len(known)
    value = sum(number.value for number in known) / k
    low = high = certified = None
    limits = [(n.value, n.low, n.high) for n in known if n.low is not None and n.high is not None]
    if len(limits) == k:
        low, high = mean_limits(limits)
        low, high = max(low, 0.0), min(high, 1.0)
    if any(number.certified for number in known):
        ends = [number.certified or (number.value, number.value) for number in known]
        certified = sum(low for low, _ in ends) / k, sum(high for _, high in ends) / k
    return Measured(value, low, high, certified, any(number.too_close for number in known))


def mean_limits(found: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    """The limits of a mean from k independent numbers: (value, low, high) of each.

    The spread of each is recovered from its own interval, and variances add (MOVER; Zou and
    Donner, Statistics in Medicine 27, 2008, eq. 4): ``low = mean - sqrt(sum((value - low)**2)) / k``,
    and likewise above.

    >>> mean_limits([(0.5, -0.25, 0.75), (0.25, -0.75, 0.25)])
    (-0.25, 0.5)
    """
    k, mean = len(found), sum(value for value, _, _ in found) / len(found)
    below = math.hypot(*(value - low for value, low, _ in found)) / k
    return mean - below, mean + math.hypot(*(high - value for value, _, high in found)) / k


def _values(numbers: Numbers) -> dict[str, Number]:
    return {name: None if number is None else number.value for name, number in numbers.items()}


def _content(numbers: Mapping[str, Measured | None]) -> dict[str, dict[str, Any] | None]:
    return {name: number.to_dict() if number else None for name, number in numbers.items()}


def _cells(numbers: Numbers) -> list[str]:
    cells: list[Number] = []
    for number in numbers.values():
        cells += [number.value, number.low, number.high] if number else [None, None, None]
    return ["n/a" if cell is None else repr(cell) for cell in cells]
