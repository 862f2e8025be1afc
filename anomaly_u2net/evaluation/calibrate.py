"""Thresholds of every category from a model's scores on held-out images."""

from __future__ import annotations

from collections.abc import Iterable

from anomaly_u2net.calibration import Calibration, CategoryThresholds, Rule, calibrate_category
from anomaly_u2net.errors import CalibrationError, LeakError
from anomaly_u2net.evaluation.predictions import predict_records
from anomaly_u2net.inference.segmenter import Segmenter
from anomaly_u2net.types import ImageRecord

HELD_OUT = "calibration"


def calibrate(
    segmenter: Segmenter,
    records: Iterable[ImageRecord],
    *,
    false_reject: float = 0.05,
    allow_weaker: bool = False,
    pixel_rule: Rule = "false_reject",
) -> Calibration:
    """Calibrate each category on its images of the split ``calibration``; see `calibrate_category`.

    Raises `LeakError` when any record is of another split (test images would choose their own
    threshold; training images look better than new ones do), `CalibrationError` for no images or
    too few good ones.
    """
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
    categories: dict[str, CategoryThresholds] = {}
    images: dict[str, dict[str, int]] = {}
    for name, found in predict_records(segmenter, records):
        categories[name] = calibrate_category(
            found.scores,
            found.maps,
            found.masks,
            false_reject=false_reject,
            allow_weaker=allow_weaker,
            pixel_rule=pixel_rule,
        )
        defective = sum(found.defective)
        images[name] = {"good": len(found.records) - defective, "defective": defective}
    return Calibration(
        categories=categories,
        model_hash=segmenter.model_hash,
        recipe_hash=segmenter.recipe_hash,
        split=HELD_OUT,
        images=images,
    )
