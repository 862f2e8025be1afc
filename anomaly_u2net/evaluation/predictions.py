"""The score maps of labelled images, gathered per category."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

from anomaly_u2net.data.images import read_sample
from anomaly_u2net.inference.segmenter import Segmenter
from anomaly_u2net.metrics import IMAGE_SCORES
from anomaly_u2net.types import ImageRecord, Mask, ScoreMap


@dataclass(slots=True)
class Predictions:
    """N labelled images of one category: records, maps and masks (H, W), image scores (N,)."""

    records: list[ImageRecord] = field(default_factory=list)
    maps: list[ScoreMap] = field(default_factory=list)
    masks: list[Mask] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)

    @property
    def defective(self) -> list[bool]:
        return [record.defective for record in self.records]


def predict_records(
    segmenter: Segmenter, records: Iterable[ImageRecord]
) -> Iterator[tuple[str, Predictions]]:
    """Read and predict every record at its original size; one category at a time, sorted.

    Only one category's maps are held; the caller lets them go before it asks for the next.
    """
    image_score = IMAGE_SCORES[segmenter.spec.score.image_score]
    ordered = sorted(records, key=lambda record: record.category)
    for category, group in groupby(ordered, key=lambda record: record.category):
        predictions = Predictions()
        for record in group:
            sample = read_sample(record)
            score_map = segmenter.predict(sample.image)
            predictions.records.append(record)
            predictions.maps.append(score_map)
            predictions.masks.append(sample.mask)
            predictions.scores.append(image_score(score_map))
        yield category, predictions
