"""Score maps as colour, alone and over their image, on one absolute scale.

The scale has three fixed places: score 0 is black, the threshold is the middle of the colours, and
score 1 is their bright end. It never looks at a map's own minimum or maximum, so one score has one
colour in every image of a category, and a good image stays cold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_u2net.errors import InputError
from anomaly_u2net.types import Image, Mask, ScoreMap
from anomaly_u2net.visual.checks import (
    check_finite,
    check_fits,
    check_image,
    check_mask_fits,
    check_score_map,
)

Colour: TypeAlias = tuple[int, int, int]

#: RGB of the contours: told apart by every kind of colour vision, and absent from the heat colours.
PREDICTED: Colour = (255, 255, 255)
TRUE: Colour = (40, 190, 255)
_RIM: Colour = (0, 0, 0)

#: RGB (256, 3), even in perceived brightness: black, violet, red, orange, pale yellow.
_HEAT: NDArray[np.uint8] = np.ascontiguousarray(
    cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_INFERNO)[:, 0, ::-1]
)


def scale_position(score_map: ScoreMap, *, threshold: float) -> NDArray[np.float64]:
    """Where scores stand on the colour scale: 0 → 0, threshold → 0.5, 1 → 1, straight between.

    score_map: float (H, W) in 0..1. Returns float64 (H, W) in 0..1, above 0.5 exactly where
    ``score > threshold``. Raises MapError for another type, shape or range, or NaN; InputError for
    a threshold that is not finite.

    >>> scale_position(np.array([[0.0, 0.1, 0.2, 0.6, 1.0]]), threshold=0.2)
    array([[0.  , 0.25, 0.5 , 0.75, 1.  ]])
    """
    scores = check_score_map(score_map)
    limit = check_finite(threshold)
    above = scores > limit
    limit = min(max(limit, 0.0), 1.0)
    wide = scores.astype(np.float64)
    below = 0.5 * np.minimum(wide, limit) / limit if limit > 0.0 else np.zeros_like(wide)
    over = 0.5 + 0.5 * (wide - limit) / (1.0 - limit) if limit < 1.0 else np.full_like(wide, 0.5)
    return np.where(above, np.maximum(over, np.nextafter(0.5, 1.0)), np.minimum(below, 0.5))


def heatmap(score_map: ScoreMap, *, threshold: float) -> Image:
    """The map in colour, uint8 (H, W, 3): equal scores have equal colours in every image.

    Raises as `scale_position` does.

    >>> quiet = heatmap(np.array([[0.1, 0.2]]), threshold=0.4)
    >>> loud = heatmap(np.array([[0.1, 0.9]]), threshold=0.4)
    >>> bool((quiet[0, 0] == loud[0, 0]).all()), bool(loud[0, 1].sum() > quiet[0, 1].sum())
    (True, True)
    """
    return heat_colours(scale_position(score_map, threshold=threshold))


def heat_colours(position: NDArray[np.floating[Any]]) -> Image:
    """The colours, uint8 (H, W, 3), of places (H, W) on the scale, 0..1."""
    return _HEAT[np.rint(position * 255.0).astype(np.uint8)]


def overlay(
    image: Image,
    score_map: ScoreMap,
    *,
    threshold: float,
    mask: Mask | None = None,
    alpha: float = 0.6,
) -> Image:
    """The image under its heatmap, uint8 (H, W, 3), with contours where something is predicted.

    image: uint8 (H, W, 3). score_map: float (H, W) in 0..1. mask: bool (H, W), the truth if known.
    alpha: how much of the image the heat covers at the threshold and above, 0..1; below it the
    cover fades with the square of the score, so good areas stay readable.

    White outlines ``score > threshold``, blue outlines the mask. Raises InputError for an image of
    another type, an alpha outside 0..1 or a threshold that is not finite; MapError for a map or
    mask of another type, range or size.

    >>> grey = np.full((8, 8, 3), 128, np.uint8)
    >>> bool((overlay(grey, np.zeros((8, 8), np.float32), threshold=0.5) == grey).all())
    True
    """
    if not 0.0 <= alpha <= 1.0:
        raise InputError(f"expected an alpha in 0..1, got {alpha}; 0 shows no heat at all")
    base = check_image(image)
    truth = check_mask_fits(mask, image=base)
    position = scale_position(score_map, threshold=threshold)
    check_fits("the map", position.shape, image=base)
    weight = (alpha * np.minimum(position / 0.5, 1.0) ** 2).astype(np.float32)[..., None]
    mixed = base + weight * (heat_colours(position).astype(np.float32) - base)
    drawn = np.rint(mixed).astype(np.uint8)
    known = [] if truth is None else [(truth, TRUE)]
    return outline(drawn, [*known, (position > 0.5, PREDICTED)])


def outline(image: Image, layers: Sequence[tuple[Mask, Colour]]) -> Image:
    """A copy of the image, uint8 (H, W, 3), with the borders of masks (H, W), holes too, in colour.

    layers: masks and colours, lowest first; a lower line is wider, so that it shows beside one that
    runs on top of it. Lines are as thick as the image is large: about 1 pixel for each 320 of the
    shorter side, and from 2 pixels on with a dark rim, so that they show on bright parts too.

    >>> dot = np.zeros((9, 9), bool)
    >>> dot[4, 4] = True
    >>> outline(np.zeros((9, 9, 3), np.uint8), [(dot, PREDICTED)])[4, 3:6, 0]
    array([  0, 255,   0], dtype=uint8)
    """
    drawn = np.ascontiguousarray(image).copy()
    shorter = min(image.shape[:2])
    thinnest, step = max(1, round(shorter / 320)), 2 if shorter >= 128 else 0
    lines = []
    for above, (mask, colour) in enumerate(reversed(layers)):
        borders, _ = cv2.findContours(
            np.ascontiguousarray(mask).view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
        )
        lines.append((borders, colour, thinnest + step * above))
    if thinnest > 1:
        for borders, _, thickness in lines:
            cv2.drawContours(drawn, borders, -1, _RIM, thickness + 2)
    for borders, colour, thickness in reversed(lines):
        cv2.drawContours(drawn, borders, -1, colour, thickness)
    return drawn
