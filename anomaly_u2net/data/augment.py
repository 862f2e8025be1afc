"""Changes to a training image, its mask and its weight together.

Randomness comes from one seed per sample, so a sample does not depend on what was drawn before it:
a resumed run sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_u2net.recipe import AugmentRecipe
from anomaly_u2net.types import Image, Mask

Weight = NDArray[np.float32]
Parts = tuple[Image, Mask, Weight]


def augment(image: Image, mask: Mask, *, weight: Weight, recipe: AugmentRecipe, seed: int) -> Parts:
    """Return a changed (image, mask, weight).

    image: uint8 (h, w, 3). mask: bool (h, w). weight: float32 (h, w). With ``recipe.crop`` the
    results are crop × crop, otherwise (h, w). Pixels from outside the image get weight 0.
    """
    rng = np.random.default_rng(seed)
    if recipe.crop is not None:
        image, mask, weight = _crop(image, mask, weight, recipe, rng)
    image, mask, weight = _move((image, mask, weight), recipe, rng)
    if recipe.crop is not None:
        image, mask, weight = (_middle(part, recipe.crop) for part in (image, mask, weight))
    return _light(image, recipe, rng), mask.copy(), weight.copy()


def crop_corner(
    mask: Mask, side: int, *, real: tuple[int, int], rng: np.random.Generator, on_defect: bool
) -> tuple[int, int]:
    """The (top, left) of a ``side`` × ``side`` window on a canvas that holds a random pixel.

    mask: bool (h, w), the canvas. real: how much of it, from the top left, is the image; the pixel
    is drawn from there, or from the defect with ``on_defect`` and if there is one. A window that
    would leave the canvas is pushed back onto it, and one with more padding than image onto the
    image. So the borders of images are seen half as often as their middle, and with their padding,
    as they will be later; of all windows that fit, drawn evenly, hardly any touches a border.
    A canvas shorter than ``side`` is centred in the window (a negative corner).
    """
    pixels = np.argwhere(mask) if on_defect else np.empty((0, 2), int)
    pixel = pixels[rng.integers(len(pixels))] if len(pixels) else rng.integers(real)
    corner = []
    for at, length, inside in zip(pixel, mask.shape, real, strict=True):
        if length <= side:
            corner.append((length - side) // 2)
            continue
        last = max(0, min(length - side, inside - side // 2))
        corner.append(int(np.clip(at - rng.integers(side), 0, last)))
    return corner[0], corner[1]


def _crop(
    image: Image, mask: Mask, weight: Weight, recipe: AugmentRecipe, rng: np.random.Generator
) -> Parts:
    """Cut a random window, with the margin that a rotation or a zoom out will need around it."""
    assert recipe.crop is not None
    # Padding lies below and to the right of the image and has no weight.
    height, width = (int(np.flatnonzero(weight.any(axis=axis))[-1]) + 1 for axis in (1, 0))
    on_defect = bool(rng.random() < recipe.crop_on_defect)
    top, left = crop_corner(mask, recipe.crop, real=(height, width), rng=rng, on_defect=on_defect)
    diagonal = math.sqrt(2) if recipe.rotate else 1.0
    margin = math.ceil(recipe.crop * (max(1.0, diagonal / recipe.scale[0]) - 1) / 2)
    window = (top - margin, left - margin, recipe.crop + 2 * margin)
    return (
        _window(image, *window, outside="symmetric"),
        _window(mask, *window, outside="symmetric"),
        _window(weight, *window, outside="constant"),
    )


def _window(array: NDArray[Any], top: int, left: int, side: int, *, outside: Any) -> NDArray[Any]:
    height, width = array.shape[:2]
    inside = array[max(top, 0) : top + side, max(left, 0) : left + side]
    if inside.shape[:2] == (side, side):
        return inside
    pad = [
        (max(-top, 0), max(top + side - height, 0)),
        (max(-left, 0), max(left + side - width, 0)),
    ]
    return np.pad(inside, pad + [(0, 0)] * (array.ndim - 2), mode=outside)


def _move(parts: Parts, recipe: AugmentRecipe, rng: np.random.Generator) -> Parts:
    """Mirror, turn and zoom (image, mask, weight) about their middle, all three alike."""
    moved: Sequence[NDArray[Any]] = parts
    if recipe.flip:
        down, right = (slice(None, None, int(rng.choice([-1, 1]))) for _ in range(2))
        moved = [part[down, right] for part in moved]
    if recipe.quarter_turns:  # the recipe sees to it that images are square then
        turns = int(rng.integers(4))
        moved = [np.rot90(part, turns) for part in moved]
    image, mask, weight = moved
    if recipe.rotate or recipe.scale != (1.0, 1.0):
        angle, zoom = rng.uniform(-recipe.rotate, recipe.rotate), rng.uniform(*recipe.scale)
        image = _warp(image, angle, zoom, cv2.INTER_LINEAR)
        mask = _warp(mask.astype(np.uint8), angle, zoom, cv2.INTER_NEAREST).astype(bool)
        weight = _warp(weight, angle, zoom, cv2.INTER_NEAREST)
    return image, mask, weight


def _warp(array: NDArray[Any], angle: float, zoom: float, interpolation: int) -> NDArray[Any]:
    """``array`` turned by ``angle`` degrees and zoomed about its middle; 0 comes from outside."""
    height, width = array.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, zoom)
    return cv2.warpAffine(np.ascontiguousarray(array), matrix, (width, height), flags=interpolation)


def _middle(array: NDArray[Any], side: int) -> NDArray[Any]:
    top, left = ((length - side) // 2 for length in array.shape[:2])
    return array[top : top + side, left : left + side]


def _light(image: Image, recipe: AugmentRecipe, rng: np.random.Generator) -> Image:
    """A copy of ``image`` in another light: a new curve of gray levels, out of focus, grainy."""
    levels = np.arange(256) / 255
    levels **= (1 + recipe.gamma) ** rng.uniform(-1, 1)
    levels *= 1 + rng.uniform(-recipe.brightness, recipe.brightness)
    middle = np.average(levels, weights=np.bincount(image.ravel(), minlength=256))
    levels += (levels - middle) * rng.uniform(-recipe.contrast, recipe.contrast)
    lit: NDArray[Any] = cv2.LUT(image, (255 * levels).round().clip(0, 255).astype(np.uint8))
    if recipe.blur:
        lit = cv2.GaussianBlur(lit, (0, 0), max(0.01, rng.uniform(0, recipe.blur)))
    if recipe.noise:
        grain = rng.standard_normal(image.shape[:2], np.float32)[..., None]
        grain *= 255 * rng.uniform(0, recipe.noise)
        lit = (lit + grain).round().clip(0, 255)
    return lit.astype(np.uint8, copy=False)
