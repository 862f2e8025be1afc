"""From held-out scores to a threshold per category, with what it promises."""

from anomaly_u2net.calibration.calibration import Calibration
from anomaly_u2net.calibration.rules import (
    conformal_rank,
    false_reject_threshold,
    needed_images,
    smallest_false_reject,
)
from anomaly_u2net.calibration.thresholds import (
    RULES,
    CategoryThresholds,
    Rule,
    Threshold,
    calibrate_category,
)
from anomaly_u2net.calibration.verdict import judge

__all__ = [
    "RULES",
    "Calibration",
    "CategoryThresholds",
    "Rule",
    "Threshold",
    "calibrate_category",
    "conformal_rank",
    "false_reject_threshold",
    "judge",
    "needed_images",
    "smallest_false_reject",
]
