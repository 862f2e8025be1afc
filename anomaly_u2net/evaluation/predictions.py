"""The score maps of labelled images, gathered per category."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Protocol

from anomaly_u2net.calibration import Calibration
from anomaly_u2net.data.images import read_sample
from anomaly_u2net.types import Image, ImageRecord, Mask, ScoreMap


class Predictor(Protocol):
    """What can be measured: a `Segmenter`, or the model of a neighbour (`benchmark.peers`)."""

    @property
    def calibration(self) -> Calibration | None: ...

    @property
    def model_hash(self) -> str: ...

    @property
    def recipe_hash(self) -> str: ...

    @property
    def calibration_hash(self) -> str: ...

    def predict_scored(self, image: Image) -> tuple[ScoreMap, float]:
        """uint8 (H, W, 3) → map (H, W) and image score, both on one scale for all images."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """One labelled image: its record, map and mask (H, W), and image score."""

    record: ImageRecord
    score_map: ScoreMap
    mask: Mask
    score: float


@dataclass(slots=True)
class Predictions:
    """N labelled images: records, maps and masks (H, W), image scores (N,)."""

    records: list[ImageRecord] = field(default_factory=list)
    maps: list[ScoreMap] = field(default_factory=list)
    masks: list[Mask] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)

    def add(self, one: Prediction) -> None:
        self.records.append(one.record)
        self.maps.append(one.score_map)
        self.masks.append(one.mask)
        self.scores.append(one.score)

    @property
    def defective(self) -> list[bool]:
        return [record.defective for record in self.records]


def predict_records(predictor: Predictor, records: Iterable[ImageRecord]) -> Predictions:
    """Read and predict every record at its original size; all maps are held."""
    predictions = Predictions()
    for record in records:
        predictions.add(predict_record(predictor, record))
    return predictions


def by_category(records: Iterable[ImageRecord]) -> Iterator[tuple[str, list[ImageRecord]]]:
    """The records of each category, categories sorted."""
    ordered = sorted(records, key=lambda record: record.category)
    for category, group in groupby(ordered, key=lambda record: record.category):
        yield category, list(group)


def predict_record(predictor: Predictor, record: ImageRecord) -> Prediction:
    """Read and predict one record at its original size; raises as `read_sample`."""
    sample = read_sample(record)
    score_map, score = predictor.predict_scored(sample.image)
    return Prediction(record, score_map, sample.mask, score)
