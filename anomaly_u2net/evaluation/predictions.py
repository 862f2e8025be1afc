"""The score maps of labelled images, gathered per category."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

from anomaly_u2net.data.images import read_sample
from anomaly_u2net.inference.segmenter import Segmenter
from anomaly_u2net.metrics import image_score
from anomaly_u2net.types import ImageRecord, Mask, ScoreMap


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


def predict_records(segmenter: Segmenter, records: Iterable[ImageRecord]) -> Predictions:
    """Read and predict every record at its original size; all maps are held."""
    predictions = Predictions()
    for record in records:
        predictions.add(predict_record(segmenter, record))
    return predictions


def by_category(records: Iterable[ImageRecord]) -> Iterator[tuple[str, list[ImageRecord]]]:
    """The records of each category, categories sorted."""
    ordered = sorted(records, key=lambda record: record.category)
    for category, group in groupby(ordered, key=lambda record: record.category):
        yield category, list(group)


def predict_record(segmenter: Segmenter, record: ImageRecord) -> Prediction:
    """Read and predict one record at its original size; raises as `read_sample`."""
    sample = read_sample(record)
    score_map = segmenter.predict(sample.image)
    score_of = image_score(segmenter.spec.score.image_score)
    return Prediction(record, score_map, sample.mask, score_of(score_map))
