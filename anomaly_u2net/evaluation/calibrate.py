"""Thresholds of every category from a model's scores on held-out images."""

from __future__ import annotations

from collections.abc import Iterable

from anomaly_u2net.calibration import Calibration, CategoryThresholds, Costs, calibrate_category
from anomaly_u2net.errors import CalibrationError, LeakError
from anomaly_u2net.evaluation.predictions import predict_records
from anomaly_u2net.inference.segmenter import Segmenter
from anomaly_u2net.types import ImageRecord

HELD_OUT = "calibration"


def calibrate(
    segmenter: Segmenter,
    records: Iterable[ImageRecord],
    *,
    rule: str = "false_reject",
    pixel_rule: str = "false_reject",
    false_reject: float = 0.05,
    missed: float = 0.05,
    delta: float | None = None,
    costs: Costs | None = None,
    sigmas: float = 3.0,
    allow_weaker: bool = False,
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
            rule=rule,
            pixel_rule=pixel_rule,
            false_reject=false_reject,
            missed=missed,
            delta=delta,
            costs=costs,
            sigmas=sigmas,
            groups=[record.group for record in found.records],
            allow_weaker=allow_weaker,
        )
        defective = sum(found.defective)
        images[name] = {"good": len(found.records) - defective, "defective": defective}
    return Calibration(
        categories=categories,
        model_hash=segmenter.model_hash,
        recipe_hash=segmenter.recipe_hash,
        split=HELD_OUT,
        images=images,
        image_score=segmenter.spec.score.image_score,
    )
