"""The score maps of labelled images, gathered per category."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

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


def predict_records(segmenter: Segmenter, records: Iterable[ImageRecord]) -> dict[str, Predictions]:
    """Read and predict every record, at the original size; category → predictions, sorted."""
    image_score = IMAGE_SCORES[segmenter.spec.score.image_score]
    found: dict[str, Predictions] = {}
    for record in records:
        sample = read_sample(record)
        score_map = segmenter.predict(sample.image)
        predictions = found.setdefault(record.category, Predictions())
        predictions.records.append(record)
        predictions.maps.append(score_map)
        predictions.masks.append(sample.mask)
        predictions.scores.append(image_score(score_map))
    return dict(sorted(found.items()))
