"""Industrial defect segmentation with U²-Net: masks in, exact numbers and kept promises out.

The public names are loaded on first use; importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anomaly_u2net.calibration import Calibration
    from anomaly_u2net.data.demo import write_demo
    from anomaly_u2net.data.index import index_dataset
    from anomaly_u2net.evaluation import calibrate, evaluate
    from anomaly_u2net.inference.segmenter import Segmenter
    from anomaly_u2net.models.u2net import U2Net
    from anomaly_u2net.recipe import Recipe
    from anomaly_u2net.scoring import score_line
    from anomaly_u2net.training import train

__version__ = "0.1.0"

_PUBLIC = {
    "Calibration": "anomaly_u2net.calibration",
    "Recipe": "anomaly_u2net.recipe",
    "Segmenter": "anomaly_u2net.inference.segmenter",
    "U2Net": "anomaly_u2net.models",
    "calibrate": "anomaly_u2net.evaluation",
    "evaluate": "anomaly_u2net.evaluation",
    "index_dataset": "anomaly_u2net.data.index",
    "score_line": "anomaly_u2net.scoring",
    "train": "anomaly_u2net.training",
    "write_demo": "anomaly_u2net.data.demo",
}

__all__ = [
    "Calibration",
    "Recipe",
    "Segmenter",
    "U2Net",
    "calibrate",
    "evaluate",
    "index_dataset",
    "score_line",
    "train",
    "write_demo",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
