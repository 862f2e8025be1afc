"""One picture that explains one image: what came in, the scores, and what was found."""

from __future__ import annotations

import math

import cv2
import numpy as np

from anomaly_u2net.types import Image, Mask, ScoreMap
from anomaly_u2net.visual.checks import (
    check_finite,
    check_fits,
    check_image,
    check_mask_fits,
    check_score_map,
)
from anomaly_u2net.visual.overlay import (
    TRUE,
    Colour,
    heatmap,
    outline,
    overlay,
)

#: The longer side of a view, in pixels: smaller images are magnified, larger ones shrunk.
_SMALLEST, _LARGEST = 384, 1024
#: No view is narrower than its caption.
_NARROWEST = 200

_PAPER: Colour = (28, 30, 34)
_INK: Colour = (232, 232, 232)
_FAINT: Colour = (150, 154, 160)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def panel(
    image: Image,
    score_map: ScoreMap,
    *,
    threshold: float,
    mask: Mask | None = None,
    title: str = "",
) -> Image:
    """Image, heatmap and overlay in one picture, with the colour scale and a key, uint8 (h, w, 3).

    image: uint8 (H, W, 3). score_map: float (H, W) in 0..1. mask: bool (H, W), outlined where
    given. title: one line; characters besides ASCII become "?", what does not fit is cut.

    The views stand side by side, or below each other when the image is more than twice as wide as
    high. Small images are magnified in whole steps, large ones shrunk, to a longer side of
    384 to 1024 pixels. Raises as `overlay` does.

    >>> picture = panel(np.zeros((32, 48, 3), np.uint8), np.zeros((32, 48)), threshold=0.5)
    >>> picture.shape[1] > 3 * 384, picture.dtype
    (True, dtype('uint8'))
    """
    base = check_image(image)
    scores = check_score_map(score_map)
    limit = check_finite(threshold)
    truth = check_mask_fits(mask, image=base)
    check_fits("the map", scores.shape, image=base)

    times = max(1, math.ceil(_SMALLEST / max(base.shape[:2])))
    large = _magnify(base, times)
    large_map = _magnify(scores.astype(np.float32, copy=False), times)
    large_mask = None if truth is None else _magnify(truth, times)
    views = [
        ("image", large if large_mask is None else outline(large, large_mask, colour=TRUE)),
        (f"score, highest {_number(float(scores.max()))}", heatmap(large_map, threshold=limit)),
        ("overlay", overlay(large, large_map, threshold=limit, mask=large_mask)),
    ]
    size = max(0.45, min(1.0, max(large.shape[:2]) / 1024))
    body = _arrange([_captioned(view, caption, size=size) for caption, view in views], size=size)
    width = body.shape[1]
    rows = [
        *([_line(title, width=width, size=1.25 * size)] if title else []),
        body,
        _scale(width, threshold=limit, size=size),
        _key(width, known=truth is not None, size=size),
    ]
    return _frame(np.vstack(rows), margin=round(24 * size))
