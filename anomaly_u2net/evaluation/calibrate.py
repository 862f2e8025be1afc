"""Thresholds of every category from a model's scores on held-out images."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

from anomaly_u2net.calibration import (
    Calibration,
    CategoryThresholds,
    HeldOutImages,
    ImageScores,
    Terms,
)
from anomaly_u2net.data.duplicates import near_duplicates
from anomaly_u2net.errors import CalibrationError, LeakError
from anomaly_u2net.evaluation.evaluate import OnImage
from anomaly_u2net.evaluation.memory import available_memory
from anomaly_u2net.evaluation.predictions import Prediction, by_category, predict_record
from anomaly_u2net.inference.segmenter import Segmenter
from anomaly_u2net.types import ImageRecord

logger = logging.getLogger(__name__)

HELD_OUT = "calibration"


def calibrate(
    segmenter: Segmenter,
    records: Iterable[ImageRecord],
    *,
    terms: Terms | None = None,
    memory: int | None = None,
    on_image: OnImage | None = None,
) -> Calibration:
    """Calibrate each category on its images of the split ``calibration``; see `calibrate_category`.

    terms: what is asked for, by default `Terms()`. A record's group names its part; several images
    of one part then count once. memory: bytes of pixels that may be held, half of what is available
    when not given; beyond it the highest pixel F1 and the rule pixel_false_share are streamed, and
    their promises say so (see `HeldOutImages`). A warning is logged for near-duplicates among a
    category's images without a group (see `near_duplicates`).

    Raises `LeakError` when any record is of another split (test images would choose their own
    threshold; training images look better than new ones do), `CalibrationError`, naming the
    category, for no images or too few for the rule.
    """
    terms = Terms() if terms is None else terms
    memory = available_memory() // 2 if memory is None else memory
    records = _held_out(records)
    categories: dict[str, CategoryThresholds] = {}
    images: dict[str, dict[str, int]] = {}
    for name, members in by_category(records):
        members.sort(key=lambda record: record.group or "")  # a part's images one after another
        held = HeldOutImages(terms, memory=memory)
        for one in _predictions(segmenter, members, on_image):
            held.add(one.score, one.score_map, one.mask, group=one.record.group)
        try:
            categories[name] = held.thresholds()
        except CalibrationError as error:
            raise CalibrationError(f"{name}: {error}") from error
        defective = sum(record.defective for record in members)
        images[name] = {"good": len(members) - defective, "defective": defective}
    return Calibration(
        categories=categories,
        model_hash=segmenter.model_hash,
        recipe_hash=segmenter.recipe_hash,
        split=HELD_OUT,
        images=images,
        image_score=segmenter.spec.score.image_score,
    )


def held_out_scores(
    segmenter: Segmenter,
    records: Iterable[ImageRecord],
    *,
    on_image: OnImage | None = None,
) -> dict[str, ImageScores]:
    """The image scores of held-out images by category, for `what_if` and `calibrate_scores`.

    No map is kept. Raises and warns as `calibrate` does.
    """
    return {
        name: ImageScores(
            labels=tuple(record.label for record in members),
            scores=tuple(one.score for one in _predictions(segmenter, members, on_image)),
            groups=tuple(record.group for record in members),
        )
        for name, members in by_category(_held_out(records))
    }


def _predictions(
    segmenter: Segmenter, records: list[ImageRecord], on_image: OnImage | None
) -> Iterator[Prediction]:
    for record in records:
        yield predict_record(segmenter, record)
        if on_image is not None:
            on_image(record)


def _held_out(records: Iterable[ImageRecord]) -> list[ImageRecord]:
    records = list(records)
    for record in records:
        if record.split != HELD_OUT:
            raise LeakError(
                f"{record.path} is of the split {record.split!r}: thresholds come from held-out "
                f"images only (split {HELD_OUT!r}); hold some out with data.calibration_fraction "
                "or a validation/ folder"
            )
    if not records:
        raise CalibrationError(
            "there are no held-out images: set data.calibration_fraction above 0, or add a "
            "validation/ folder"
        )
    _warn_of_duplicates(records)
    return records


def _warn_of_duplicates(records: list[ImageRecord]) -> None:
    for category, members in by_category(records):
        members = [record for record in members if not record.group]
        alike = near_duplicates(members)
        if alike:
            logger.warning(
                "%s: %d of %d calibration images without a group look nearly like another one "
                "(%s and %s): images of one part are not independent, so the promise may not "
                "hold; say which belong together in groups.csv, and train again",
                *(category, len({path for pair in alike for path in pair}), len(members)),
                *(path.name for path in alike[0]),
            )
