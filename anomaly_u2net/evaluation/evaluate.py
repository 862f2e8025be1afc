"""Exact numbers per category and their mean, at the original image size."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from anomaly_u2net.calibration import CategoryThresholds, decide
from anomaly_u2net.errors import CalibrationError, DatasetError, NotComputable
from anomaly_u2net.evaluation.predictions import Predictions, predict_records
from anomaly_u2net.files import sha256_file, sha256_json, write_aside, write_json
from anomaly_u2net.inference.segmenter import Segmenter
from anomaly_u2net.metrics import (
    SegmentationCounts,
    f1,
    image_ap,
    image_auroc,
    iou,
    pixel_curve,
    segmentation_counts,
)
from anomaly_u2net.types import GOOD, Decision, ImageRecord

Number = float | None

#: The columns of the table, in order: what each is and on what it is measured.
METRICS = {
    "image_auroc": "area under the ROC curve of image scores",
    "image_ap": "average precision of image scores",
    "pixel_auroc": "area under the ROC curve of all pixels",
    "pixel_ap": "average precision of all pixels",
    "aupro_0.30": "per-region overlap, area to FPR 0.30, normalised",
    "aupro_0.05": "per-region overlap, area to FPR 0.05, normalised",
    "pixel_f1_max": "highest F1 over all thresholds, chosen on these very images: an upper bound",
    "pixel_f1": "F1 at the calibrated pixel threshold",
    "pixel_iou": "IoU of the defect, pooled over images, at the calibrated pixel threshold",
    "pixel_iou_best_f1": "the same at the pixel threshold of highest F1 on the calibration images",
    "false_reject": "good images called NG at the calibrated image threshold",
    "missed": "defective images called OK at the calibrated image threshold",
}


@dataclass(frozen=True, slots=True)
class CategoryScores:
    """One category's row. A metric that is undefined, or lacks a calibration, is ``None``.

    labels: per defect type, the images, the share of them called NG, and the pooled IoU, at the
    calibrated thresholds.
    """

    category: str
    good: int
    defective: int
    metrics: dict[str, Number]
    labels: dict[str, dict[str, Number]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All categories, their mean, and what produced them.

    images_hash: SHA-256 over the sorted SHA-256 of the image files measured.
    """

    categories: tuple[CategoryScores, ...]
    split: str
    images_hash: str
    model_hash: str
    recipe_hash: str
    calibration_hash: str

    @property
    def mean(self) -> dict[str, Number]:
        """Mean over categories; ``None`` when a metric is undefined in any of them."""
        means: dict[str, Number] = {}
        for name in METRICS:
            values = [row.metrics[name] for row in self.categories]
            known = [value for value in values if value is not None]
            means[name] = sum(known) / len(known) if len(known) == len(values) else None
        return means

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": "anomaly_u2net.evaluation/1",
            **{k: v for k, v in asdict(self).items() if k != "categories"},
            "categories": [asdict(row) for row in self.categories],
            "mean": self.mean,
        }

    def save(self, folder: str | Path) -> None:
        """Write evaluation.json and evaluation.csv (undefined: null, and ``n/a``)."""
        folder = Path(folder)
        write_json(folder / "evaluation.json", self.to_dict())
        path = folder / "evaluation.csv"
        with write_aside(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["category", "good", "defective", *METRICS])
            for row in self.categories:
                cells = [_cell(row.metrics[name]) for name in METRICS]
                writer.writerow([row.category, row.good, row.defective, *cells])
            writer.writerow(["mean", "", "", *(_cell(value) for value in self.mean.values())])


def evaluate(
    segmenter: Segmenter, records: Iterable[ImageRecord], *, split: str = "test"
) -> Evaluation:
    """Measure ``segmenter`` on labelled images, each at its original size.

    Metrics that need a threshold use the segmenter's calibration of that category and are ``None``
    without one. Raises `DatasetError` for no records, `ImageError` or `MaskError` for a file that
    cannot be read: an evaluation without all of its images would be another number.
    """
    calibration = segmenter.calibration
    rows, hashes = [], []
    for name, found in predict_records(segmenter, records):
        thresholds = calibration.categories.get(name) if calibration else None
        rows.append(_category(name, found, thresholds))
        hashes += [sha256_file(record.path) for record in found.records]
    if not rows:
        raise DatasetError(f"no images in split {split!r}: nothing to evaluate")
    return Evaluation(
        tuple(rows),
        split,
        sha256_json(sorted(hashes)),
        segmenter.model_hash,
        segmenter.recipe_hash,
        segmenter.calibration_hash,
    )


def score_records(segmenter: Segmenter, records: Iterable[ImageRecord]) -> dict[str, Number]:
    """Four numbers over all categories pooled, for choosing weights while training."""
    predictions = Predictions()
    for _, found in predict_records(segmenter, records):
        predictions.records += found.records
        predictions.maps += found.maps
        predictions.masks += found.masks
        predictions.scores += found.scores
    if not predictions.records:
        return {}
    curve = pixel_curve(predictions.maps, predictions.masks)
    return {
        "pixel_auroc": _or_none(curve.auroc),
        "pixel_ap": _or_none(curve.ap),
        "aupro": _or_none(curve.aupro),
        "image_auroc": _or_none(lambda: image_auroc(predictions.scores, predictions.defective)),
    }


def _category(
    name: str, found: Predictions, thresholds: CategoryThresholds | None
) -> CategoryScores:
    curve = pixel_curve(found.maps, found.masks)
    metrics: dict[str, Number] = {
        "image_auroc": _or_none(lambda: image_auroc(found.scores, found.defective)),
        "image_ap": _or_none(lambda: image_ap(found.scores, found.defective)),
        "pixel_auroc": _or_none(curve.auroc),
        "pixel_ap": _or_none(curve.ap),
        "aupro_0.30": _or_none(lambda: curve.aupro(fpr_limit=0.30)),
        "aupro_0.05": _or_none(lambda: curve.aupro(fpr_limit=0.05)),
        "pixel_f1_max": _or_none(curve.f1_max),
    }
    labels: dict[str, dict[str, Number]] = {}
    if thresholds is not None:
        at_thresholds, labels = _at_thresholds(found, thresholds)
        metrics |= at_thresholds
    good = found.defective.count(False)
    complete = {key: metrics.get(key) for key in METRICS}
    return CategoryScores(name, good, found.defective.count(True), complete, labels)


def _at_thresholds(
    found: Predictions, thresholds: CategoryThresholds
) -> tuple[dict[str, Number], dict[str, dict[str, Number]]]:
    """The metrics that need a threshold, and the row of each defect type."""
    if thresholds.pixel is None:
        raise CalibrationError("this calibration has no pixel threshold: calibrate on images")
    decisions: dict[str, list[Decision]] = {}
    for record, score in zip(found.records, found.scores, strict=True):
        decisions.setdefault(record.label, []).append(decide(score, thresholds))
    on_good = decisions.pop(GOOD, [])
    on_defects = [decision for events in decisions.values() for decision in events]
    counts = _counts_by_label(found, thresholds.pixel.value)
    total = sum(counts.values(), SegmentationCounts())
    metrics: dict[str, Number] = {
        "pixel_f1": _or_none(lambda: f1(total)),
        "pixel_iou": _or_none(lambda: iou(total)),
        "false_reject": _share([decision == "NG" for decision in on_good]),
        "missed": _share([decision == "OK" for decision in on_defects]),
    }
    if thresholds.pixel_best_f1 is not None:
        best = _counts_by_label(found, thresholds.pixel_best_f1.value)
        pooled = sum(best.values(), SegmentationCounts())
        metrics["pixel_iou_best_f1"] = _or_none(lambda: iou(pooled))
    labels: dict[str, dict[str, Number]] = {
        label: {
            "images": float(len(events)),
            "found": _share([decision == "NG" for decision in events]),
            "iou": _or_none(partial(iou, counts[label])),
        }
        for label, events in sorted(decisions.items())
    }
    return metrics, labels


def _counts_by_label(found: Predictions, threshold: float) -> dict[str, SegmentationCounts]:
    counts: dict[str, SegmentationCounts] = {}
    for record, score_map, mask in zip(found.records, found.maps, found.masks, strict=True):
        one = segmentation_counts(score_map, mask, threshold=threshold)
        counts[record.label] = counts.get(record.label, SegmentationCounts()) + one
    return counts


def _share(events: list[bool]) -> Number:
    return sum(events) / len(events) if events else None


def _or_none(number: Callable[[], float]) -> Number:
    try:
        return number()
    except NotComputable:
        return None


def _cell(value: Number) -> str:
    return "n/a" if value is None else repr(value)
