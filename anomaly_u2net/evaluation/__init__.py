"""Numbers of a model on labelled images, and thresholds from held-out ones."""

from anomaly_u2net.evaluation.calibrate import calibrate, held_out_scores
from anomaly_u2net.evaluation.evaluate import evaluate, score_records
from anomaly_u2net.evaluation.table import (
    AT_THRESHOLDS,
    LABEL_METRICS,
    METRICS,
    RANKING,
    SIZE_METRICS,
    CategoryScores,
    Evaluation,
    Measured,
    Part,
)

__all__ = [
    "AT_THRESHOLDS",
    "LABEL_METRICS",
    "METRICS",
    "RANKING",
    "SIZE_METRICS",
    "CategoryScores",
    "Evaluation",
    "Measured",
    "Part",
    "calibrate",
    "evaluate",
    "held_out_scores",
    "score_records",
]
