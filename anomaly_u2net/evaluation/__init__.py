"""Numbers of a model on labelled images, and thresholds from held-out ones."""

from anomaly_u2net.evaluation.calibrate import calibrate
from anomaly_u2net.evaluation.evaluate import (
    METRICS,
    CategoryScores,
    Evaluation,
    evaluate,
    score_records,
)

__all__ = [
    "METRICS",
    "CategoryScores",
    "Evaluation",
    "calibrate",
    "evaluate",
    "score_records",
]
