"""From a score map and a category's thresholds to a decision."""

from __future__ import annotations

from anomaly_u2net.calibration.thresholds import CategoryThresholds
from anomaly_u2net.errors import CalibrationError
from anomaly_u2net.metrics import defect_regions
from anomaly_u2net.metrics import image_score as named_image_score
from anomaly_u2net.types import Decision, ScoreMap, Verdict


def judge(
    score_map: ScoreMap,
    thresholds: CategoryThresholds,
    *,
    image_score: str = "max",
    min_area: int = 1,
) -> Verdict:
    """Decide one image: NG when its image score is strictly above the image threshold, else OK;
    with a review threshold below that, REVIEW when it is strictly above the review threshold.

    score_map: float (H, W). image_score: a name that `metrics.image_score` takes, the one that the
    thresholds were calibrated with. min_area: pixels; smaller regions are not listed.

    The regions are those above the pixel threshold. They describe the decision and do not make it:
    with an image score other than "max" an image can be OK with a region, or NG without one.

    Raises MapError for a map of another type or shape or with NaN or infinity, InputError for an
    unknown image score or a min_area below 1, CalibrationError for thresholds that were calibrated
    from image scores alone and have no pixel threshold.

    >>> import numpy as np
    >>> from anomaly_u2net.calibration import Threshold
    >>> limit = Threshold(0.5, "false_reject", "At most 5 %.", 19, {"alpha": 0.05}, attained=0.05)
    >>> thresholds = CategoryThresholds(limit, limit)
    >>> verdict = judge(np.array([[0.1, 0.5], [0.1, 0.875]], np.float32), thresholds)
    >>> verdict.decision, verdict.image_score, verdict.area
    ('NG', 0.875, 1)
    """
    score_of = named_image_score(image_score)
    if thresholds.pixel is None:
        raise CalibrationError(
            "these thresholds come from image scores alone and have no pixel threshold; "
            "calibrate with the maps of the held-out images to judge a map"
        )
    score = score_of(score_map)
    return Verdict(
        decision=decide(score, thresholds),
        image_score=score,
        image_threshold=thresholds.image.value,
        pixel_threshold=thresholds.pixel.value,
        regions=defect_regions(score_map, threshold=thresholds.pixel.value, min_area=min_area),
        review_threshold=None if thresholds.review is None else thresholds.review.value,
    )


def decide(score: float, thresholds: CategoryThresholds) -> Decision:
    """OK, REVIEW or NG for an image score, each threshold being passed only when exceeded.

    >>> from anomaly_u2net.calibration import Threshold
    >>> upper = Threshold(0.5, "false_reject", "At most 5 %.", 19, attained=0.05)
    >>> lower = Threshold(0.3, "missed_defects", "At most 5 %.", 19, attained=0.05)
    >>> both = CategoryThresholds(upper, None, review=lower)
    >>> decide(0.3, both), decide(0.5, both), decide(0.6, both)
    ('OK', 'REVIEW', 'NG')
    """
    if score > thresholds.image.value:
        return "NG"
    if thresholds.review is not None and score > thresholds.review.value:
        return "REVIEW"
    return "OK"
