"""Exact numbers from score maps and masks: numpy in, floats out, no torch.

A defect is predicted where ``score > threshold``, everywhere. What is undefined for the data at
hand (no defect pixel, no good pixel, no image) raises `NotComputable`; it is never 0 or NaN.
"""

from anomaly_u2net.metrics.counts import SegmentationCounts, f1, iou, segmentation_counts
from anomaly_u2net.metrics.curves import BestF1, PixelCurve, RankCurve
from anomaly_u2net.metrics.image import (
    image_ap,
    image_auroc,
    image_best_f1,
    image_curve,
    image_f1_max,
)
from anomaly_u2net.metrics.image_scores import IMAGE_SCORES, max_score, topk_mean
from anomaly_u2net.metrics.pixel import (
    aupro,
    pixel_ap,
    pixel_auroc,
    pixel_best_f1,
    pixel_curve,
    pixel_f1_max,
)
from anomaly_u2net.metrics.regions import defect_regions, label_regions

__all__ = [
    "IMAGE_SCORES",
    "BestF1",
    "PixelCurve",
    "RankCurve",
    "SegmentationCounts",
    "aupro",
    "defect_regions",
    "f1",
    "image_ap",
    "image_auroc",
    "image_best_f1",
    "image_curve",
    "image_f1_max",
    "iou",
    "label_regions",
    "max_score",
    "pixel_ap",
    "pixel_auroc",
    "pixel_best_f1",
    "pixel_curve",
    "pixel_f1_max",
    "segmentation_counts",
    "topk_mean",
]
