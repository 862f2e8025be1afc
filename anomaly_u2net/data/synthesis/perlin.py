"""Perlin noise and the shapes that it is cut into (DRAEM, arXiv 2108.07610, section 3.2)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_u2net.recipe import PerlinRecipe
from anomaly_u2net.types import Mask

#: Scale and threshold as published.
PUBLISHED = PerlinRecipe()


def perlin_mask(
    shape: tuple[int, int], rng: np.random.Generator, *, recipe: PerlinRecipe = PUBLISHED
) -> Mask:
    """Odd shapes all over a field, bool (H, W): large blobs, stripes or small spots, turned.

    Noise of ``recipe.scale`` cells along each axis, 2^0 to 2^5, turned by up to 90° either way
    about the middle and cut at ``recipe.threshold``, 0.5; outside the turned field there is none.

    >>> mask = perlin_mask((64, 64), np.random.default_rng(1))
    >>> mask.shape, mask.dtype.name, bool(0 < mask.mean() < 0.5)
    ((64, 64), 'bool', True)
    """
    height, width = shape
    low, high = recipe.scale
    down, across = (int(2**power) for power in rng.integers(low, high + 1, size=2))
    noise = perlin_noise(shape, cells=(down, across), rng=rng)
    middle = ((width - 1) / 2, (height - 1) / 2)
    turn = cv2.getRotationMatrix2D(middle, float(rng.uniform(-90, 90)), 1)
    return np.asarray(cv2.warpAffine(noise, turn, (width, height)) > recipe.threshold)


def perlin_noise(
    shape: tuple[int, int], *, cells: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Gradient noise of ``cells`` (down, across) on float32 (H, W), in −1..1.

    Each corner of a cell has a random direction; a pixel is the sum over its four corners of
    (direction · way from the corner) · fade, times √2. The fade is a product of one factor per axis,
    so the whole field is two products of small matrices: no pixel is looked at by itself.
    """
    angles = rng.uniform(0, 2 * np.pi, (cells[0] + 1, cells[1] + 1)).astype(np.float32)
    (fade_y, way_y), (fade_x, way_x) = (
        _axis(side, count) for side, count in zip(shape, cells, strict=True)
    )
    noise = fade_y @ np.cos(angles) @ way_x.T + way_y @ np.sin(angles) @ fade_x.T
    return np.asarray(np.sqrt(np.float32(2)) * noise, np.float32)


def _axis(side: int, cells: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Per pixel and corner, both (side, cells + 1): its fade, and fade × way from the corner."""
    at = np.arange(side, dtype=np.float32) * np.float32(cells / side)
    way = at[:, None] - np.arange(cells + 1, dtype=np.float32)
    near = np.clip(1 - np.abs(way), 0, 1)
    fade = near**3 * (near * (6 * near - 15) + 10)
    return fade, fade * way
