"""From a score map and a category's thresholds to a decision."""

from __future__ import annotations

from anomaly_u2net.calibration.thresholds import CategoryThresholds
from anomaly_u2net.errors import InputError
from anomaly_u2net.metrics import IMAGE_SCORES, defect_regions
from anomaly_u2net.types import ScoreMap, Verdict


def judge(
    score_map: ScoreMap,
    thresholds: CategoryThresholds,
    *,
    image_score: str = "max",
    min_area: int = 1,
) -> Verdict:
    """Decide one image: NG when its image score is strictly above the image threshold, else OK.

    score_map: float (H, W). image_score: a name in ``metrics.IMAGE_SCORES``, the same one that the
    thresholds were calibrated with. min_area: pixels; smaller regions are not listed.

    The regions are those above the pixel threshold. They describe the decision and do not make it:
    with an image score other than "max" an image can be OK with a region, or NG without one.

    Raises MapError for a map of another type or shape or with NaN or infinity, InputError for an
    unknown image score or a min_area below 1.

    >>> import numpy as np
    >>> from anomaly_u2net.calibration import Threshold
    >>> limit = Threshold(0.5, "false_reject", "At most 5 %.", 19, 0.05, 0.05)
    >>> thresholds = CategoryThresholds(limit, limit, None, None)
    >>> verdict = judge(np.array([[0.1, 0.5], [0.1, 0.875]], np.float32), thresholds)
    >>> verdict.decision, verdict.image_score, verdict.area
    ('NG', 0.875, 1)
    """
    if image_score not in IMAGE_SCORES:
        raise InputError(
            f"expected an image score, one of {', '.join(IMAGE_SCORES)}, got {image_score!r}"
        )
    score = IMAGE_SCORES[image_score](score_map)
    return Verdict(
        decision="NG" if score > thresholds.image.value else "OK",
        image_score=score,
        image_threshold=thresholds.image.value,
        pixel_threshold=thresholds.pixel.value,
        regions=defect_regions(score_map, threshold=thresholds.pixel.value, min_area=min_area),
    )
