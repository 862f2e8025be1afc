"""What a picture can be made from: one place that looks, and says what is wrong."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_u2net.errors import InputError, MapError
from anomaly_u2net.metrics.checks import check_map, check_mask
from anomaly_u2net.types import Image, Mask, ScoreMap


def check_image(image: Image, *, name: str = "the image") -> Image:
    """Return ``image`` if it is uint8 (H, W, 3) with at least one pixel; else raise InputError."""
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise InputError(
            f"{name}: expected uint8 RGB of shape (H, W, 3), got {array.dtype} of shape "
            f"{array.shape}; read it with this package's reader, which makes every image so"
        )
    return array


def check_score_map(score_map: ScoreMap) -> NDArray[np.floating[Any]]:
    """Return ``score_map`` as a finite float array (H, W) in 0..1; else raise MapError."""
    scores = check_map(score_map)
    low, high = float(scores.min()), float(scores.max())
    if low < 0.0 or high > 1.0:
        raise MapError(
            f"the map: expected scores in 0..1, got {low:.4g}..{high:.4g}; these look like logits "
            "or raw distances: pictures show the scores that thresholds are made for"
        )
    return scores


def check_fits(what: str, shape: tuple[int, ...], *, image: Image) -> None:
    """Raise MapError when a map or mask of ``shape`` (H, W) is not the size of ``image``."""
    if shape != image.shape[:2]:
        raise MapError(
            f"{what} is {shape} but the image is {image.shape[:2]}; both must have the same "
            "(H, W): bring the map back to the original image size"
        )


def check_mask_fits(mask: Mask | None, *, image: Image) -> Mask | None:
    """Return ``mask`` as bool (H, W) of the size of ``image``, None as None; else MapError."""
    if mask is None:
        return None
    checked = check_mask(mask)
    check_fits("the mask", checked.shape, image=image)
    return checked


def check_finite(threshold: float) -> float:
    """Return ``threshold`` as a float; InputError when it is NaN or infinite."""
    value = float(threshold)
    if not math.isfinite(value):
        raise InputError(
            f"expected a finite threshold, got {value}; take it from the category's calibration"
        )
    return value
