"""Exact numbers from score maps and masks: numpy in, floats out, no torch.

A defect is predicted where ``score > threshold``, everywhere. What is undefined for the data at
hand (no defect pixel, no good pixel, no image) raises `NotComputable`; it is never 0 or NaN.
"""

from anomaly_u2net.metrics.by_image import (
    ByImage,
    CurvesByImage,
    f1_by_image,
    iou_by_image,
    pixels_by_image,
    ratio_by_image,
    scores_by_image,
    share_by_image,
)
from anomaly_u2net.metrics.certified import BinnedCurve, Certified
from anomaly_u2net.metrics.counts import (
    SegmentationCounts,
    class_mean_iou,
    f1,
    iou,
    mean_f1,
    mean_iou,
    segmentation_counts,
)
from anomaly_u2net.metrics.curves import BestF1, CurvePoints, PixelCurve, RankCurve
from anomaly_u2net.metrics.image import (
    image_ap,
    image_auroc,
    image_best_f1,
    image_curve,
    image_f1_max,
)
from anomaly_u2net.metrics.image_histograms import ImageHistograms
from anomaly_u2net.metrics.image_scores import (
    IMAGE_SCORES,
    area_above,
    image_score,
    inside,
    max_score,
    split_margin,
    topk_mean,
)
from anomaly_u2net.metrics.intervals import (
    Difference,
    Interval,
    Resampled,
    bootstrap_interval,
    paired_difference,
    resampled,
    sampled_difference,
)
from anomaly_u2net.metrics.pimo import PimoCurve, aupimo, fpr_per_image, pimo_curve
from anomaly_u2net.metrics.pixel import (
    aupro,
    pixel_ap,
    pixel_auroc,
    pixel_best_f1,
    pixel_curve,
    pixel_f1_max,
)
from anomaly_u2net.metrics.recall import (
    RegionCounts,
    mean_region_overlap,
    region_counts,
    region_recall,
)
from anomaly_u2net.metrics.regions import defect_regions, label_regions
from anomaly_u2net.metrics.streaming import PixelHistogram
from anomaly_u2net.metrics.zoom import F1Zoom

__all__ = [
    "IMAGE_SCORES",
    "BestF1",
    "BinnedCurve",
    "ByImage",
    "Certified",
    "CurvePoints",
    "CurvesByImage",
    "Difference",
    "F1Zoom",
    "ImageHistograms",
    "Interval",
    "PimoCurve",
    "PixelCurve",
    "PixelHistogram",
    "RankCurve",
    "RegionCounts",
    "Resampled",
    "SegmentationCounts",
    "area_above",
    "aupimo",
    "aupro",
    "bootstrap_interval",
    "class_mean_iou",
    "defect_regions",
    "f1",
    "f1_by_image",
    "fpr_per_image",
    "image_ap",
    "image_auroc",
    "image_best_f1",
    "image_curve",
    "image_f1_max",
    "image_score",
    "inside",
    "iou",
    "iou_by_image",
    "label_regions",
    "max_score",
    "mean_f1",
    "mean_iou",
    "mean_region_overlap",
    "paired_difference",
    "pimo_curve",
    "pixel_ap",
    "pixel_auroc",
    "pixel_best_f1",
    "pixel_curve",
    "pixel_f1_max",
    "pixels_by_image",
    "ratio_by_image",
    "region_counts",
    "region_recall",
    "resampled",
    "sampled_difference",
    "scores_by_image",
    "segmentation_counts",
    "share_by_image",
    "split_margin",
    "topk_mean",
]
