"""A line of tiny images whose rows are known by hand, and a segmenter that needs no model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from anomaly_u2net.errors import CalibrationError, MapError
from anomaly_u2net.types import Image, Region, ScoreMap, Verdict

NAN_RED = 13  # an image whose first pixel has this red makes the fake return a NaN map


@dataclass
class FakeSegmenter:
    """The score of a pixel is its red / 255; thresholds are 0.9 (image) and 0.5 (pixel)."""

    categories: tuple[str, ...] = ("brick", "tile")
    model_hash: str = "model-1"
    recipe_hash: str = "recipe-1"
    calibration_hash: str = "calibration-1"
    before: Callable[[int], None] = lambda call: None
    calls: int = field(default=0, init=False)

    def predict(self, image: Image) -> ScoreMap:
        self.calls += 1
        self.before(self.calls)
        if image[0, 0, 0] == NAN_RED:
            return np.full(image.shape[:2], np.nan, dtype=np.float32)
        return (image[..., 0] / np.float32(255)).astype(np.float32)

    def judge(self, score_map: ScoreMap, *, category: str | None = None) -> Verdict:
        if category not in self.categories:
            raise CalibrationError(
                f"unknown category {category!r}: expected {', '.join(self.categories)}"
            )
        if not np.isfinite(score_map).all():
            raise MapError("expected finite scores, got NaN")
        rows, columns = np.nonzero(score_map > 0.5)
        score = float(score_map.max())
        regions = ()
        if len(rows):
            x, y = int(columns.min()), int(rows.min())
            box = (x, y, int(columns.max()) - x + 1, int(rows.max()) - y + 1)
            centroid = (float(columns.mean()), float(rows.mean()))
            regions = (Region(len(rows), box, centroid, score),)
        return Verdict("NG" if score > 0.9 else "OK", score, 0.9, 0.5, regions)


def write_image(path: Path, box: tuple[int, int, int, int] | None = None, red: int = 255) -> Path:
    """A black PNG of 8 × 6 pixels (width × height) with one red box (x, y, width, height)."""
    pixels = np.zeros((6, 8, 3), dtype=np.uint8)
    if box is not None:
        x, y, width, height = box
        pixels[y : y + height, x : x + width, 0] = red
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(pixels).save(path, format="PNG")
    return path


def write_line(folder: Path, count: int = 5) -> Path:
    """``brick/0.png`` …; every odd image has a defect of 2 × 3 pixels at (1, 2)."""
    for number in range(count):
        write_image(folder / "brick" / f"{number}.png", (1, 2, 2, 3) if number % 2 else None)
    return folder
