"""From maps to labels and masks, by our calibration."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from anomalib.data import ImageBatch, InferenceBatch
from lightning.pytorch import Callback
from torch import nn

from anomaly_u2net.calibration import Calibration


class Verdicts(nn.Module, Callback):
    """Labels and masks by a calibration's thresholds; maps and scores stay as they are.

    Without a calibration, labels and masks are None. Only ``pred_score > threshold`` is defective,
    as everywhere here.
    """

    calibration: Calibration | None = None

    def forward(self, predictions: InferenceBatch) -> InferenceBatch:
        if self.calibration is None:
            return predictions
        (thresholds,) = self.calibration.categories.values()
        score, maps = predictions.pred_score, predictions.anomaly_map
        return predictions._replace(
            pred_label=score > below(thresholds.image.value),
            pred_mask=thresholds.pixel and maps > below(thresholds.pixel.value),
        )

    def on_test_batch_end(self, _: Any, __: Any, outputs: ImageBatch, *___: Any) -> None:
        found = self(InferenceBatch(outputs.pred_score, None, outputs.anomaly_map, None))
        outputs.update(pred_label=found.pred_label, pred_mask=found.pred_mask)

    on_predict_batch_end = on_test_batch_end

    def checkpoint_config(self) -> dict[str, Any]:
        return {"calibration": self.calibration and self.calibration.to_dict()}

    def load_checkpoint_config(self, config: dict[str, Any]) -> None:
        saved = config["calibration"]
        self.calibration = None if saved is None else Calibration.from_dict(saved)


def below(value: float) -> float:
    """The highest float32 that is not above ``value``: no float32 score changes sides."""
    rounded = np.float32(value)
    if float(rounded) > value:
        rounded = np.nextafter(rounded, np.float32(-math.inf))
    return float(rounded)
