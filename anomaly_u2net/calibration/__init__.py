"""From held-out scores to thresholds with a promise.

The rules are functions, numpy in and a number out: `false_reject`, `false_reject_pac`,
`missed_defects`, `any_missed` and their ``_pac`` versions, `both`, `pixel_false_share`,
`cross_conformal`, `least_cost`, `mean_sigma`. `calibrate_category` and `calibrate_scores` put them
to work on `Terms` and say in words what came of it.
"""

from anomaly_u2net.calibration.bounds import (
    hoeffding_bentkus_p,
    rate_interval,
    rate_lower,
    rate_upper,
    rate_upper_anywhere,
)
from anomaly_u2net.calibration.calibration import Calibration
from anomaly_u2net.calibration.category import HeldOutImages, calibrate_category
from anomaly_u2net.calibration.cost import Costs, LeastCost, expected_cost, least_cost
from anomaly_u2net.calibration.cross import CrossConformal, cross_conformal, cross_conformal_p
from anomaly_u2net.calibration.habits import mean_sigma, pixel_mean_sigma
from anomaly_u2net.calibration.miss import (
    any_missed,
    any_missed_pac,
    missed_defects,
    missed_defects_pac,
    missed_share,
    region_peaks,
)
from anomaly_u2net.calibration.pixel_share import pixel_false_share
from anomaly_u2net.calibration.reject import (
    conformal_rank,
    false_reject,
    false_reject_pac,
    false_reject_upper,
    needed_images,
    needed_images_pac,
    pac_rank,
    smallest_false_reject,
    smallest_false_reject_pac,
)
from anomaly_u2net.calibration.review import Both, both
from anomaly_u2net.calibration.scores import ImageScores, calibrate_scores, read_scores
from anomaly_u2net.calibration.terms import Terms
from anomaly_u2net.calibration.thresholds import (
    IMAGE_RULES,
    PIXEL_RULES,
    RULES,
    CategoryThresholds,
    Rule,
    Threshold,
)
from anomaly_u2net.calibration.verdict import decide, judge
from anomaly_u2net.calibration.whatif import WhatIf, what_if

__all__ = [
    "IMAGE_RULES",
    "PIXEL_RULES",
    "RULES",
    "Both",
    "Calibration",
    "CategoryThresholds",
    "Costs",
    "CrossConformal",
    "HeldOutImages",
    "ImageScores",
    "LeastCost",
    "Rule",
    "Terms",
    "Threshold",
    "WhatIf",
    "any_missed",
    "any_missed_pac",
    "both",
    "calibrate_category",
    "calibrate_scores",
    "conformal_rank",
    "cross_conformal",
    "cross_conformal_p",
    "decide",
    "expected_cost",
    "false_reject",
    "false_reject_pac",
    "false_reject_upper",
    "hoeffding_bentkus_p",
    "judge",
    "least_cost",
    "mean_sigma",
    "missed_defects",
    "missed_defects_pac",
    "missed_share",
    "needed_images",
    "needed_images_pac",
    "pac_rank",
    "pixel_false_share",
    "pixel_mean_sigma",
    "rate_interval",
    "rate_lower",
    "rate_upper",
    "rate_upper_anywhere",
    "read_scores",
    "region_peaks",
    "smallest_false_reject",
    "smallest_false_reject_pac",
    "what_if",
]
