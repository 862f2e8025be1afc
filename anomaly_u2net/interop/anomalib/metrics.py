"""The exact metrics for anomalib's Evaluator."""

from __future__ import annotations

from anomalib.metrics import AnomalibMetric

from anomaly_u2net.interop import torchmetrics as exact


# Named here, and not made by anomalib's create_anomalib_metric, so that models can be pickled.
class PixelAUROC(AnomalibMetric, exact.PixelAUROC):
    """`anomaly_u2net.metrics.pixel_auroc` in anomalib's Evaluator."""


class PixelAP(AnomalibMetric, exact.PixelAP):
    """`anomaly_u2net.metrics.pixel_ap` in anomalib's Evaluator."""


class AUPRO(AnomalibMetric, exact.AUPRO):
    """`anomaly_u2net.metrics.aupro` in anomalib's Evaluator."""


class ImageAUROC(AnomalibMetric, exact.ImageAUROC):
    """`anomaly_u2net.metrics.image_auroc` in anomalib's Evaluator."""


class ImageAP(AnomalibMetric, exact.ImageAP):
    """`anomaly_u2net.metrics.image_ap` in anomalib's Evaluator."""
