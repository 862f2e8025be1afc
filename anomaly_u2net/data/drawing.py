"""Defects drawn into a gray crop, each with its exact mask; seeded.

A defect is a coverage in 0..1 with soft edges and a way to change the gray under it. The mask is
where the coverage is at least one half.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_u2net.types import Mask

Gray = NDArray[np.float64]

#: Half the width of a soft edge in pixels.
_EDGE = 1.0


def draw_defect(crop: Gray, kind: str, *, rng: np.random.Generator) -> tuple[Gray, Mask]:
    """Draw one defect of ``kind`` (a key of ``DEFECTS``) into ``crop``, gray (H, W) in 0..255.

    Returns the new crop and its mask, bool (H, W).

    >>> rng = np.random.default_rng(0)
    >>> flat = np.full((64, 64), 120.0)
    >>> drawn, mask = draw_defect(flat, "hole", rng=rng)
    >>> bool(mask.any()), bool((drawn[mask] < 120).all()), bool((drawn[~mask] > 60).all())
    (True, True, True)
    """
    inside, change = DEFECTS[kind](crop, rng)
    coverage = np.clip(0.5 + inside / (2 * _EDGE), 0, 1)
    return crop + coverage * (change - crop), coverage >= 0.5


def _scratch(crop: Gray, rng: np.random.Generator) -> tuple[Gray, Gray]:
    """A thin curved line, bright or dark, fading along its way."""
    height, width = crop.shape
    size = min(height, width)
    start = rng.uniform(0.15, 0.85, 2) * (width, height)
    angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 0.6) * size
    if (abs(start + length * _direction(angle) - (width / 2, height / 2)) > size / 2).any():
        angle += np.pi  # towards the middle
    middle = start + 0.5 * length * _direction(angle + rng.uniform(-0.4, 0.4))
    end = start + length * _direction(angle)
    t = np.linspace(0, 1, 80)[:, None]
    way = (1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end
    half_width = rng.uniform(1.6, 2.6)
    level = rng.uniform(10, 30) if rng.random() < 0.3 else rng.uniform(215, 250)
    distance, nearest = _along(way, crop.shape, reach=half_width + _EDGE)
    way_level = level + 0.25 * nearest / (len(t) - 1) * (crop.mean() - level)
    change = way_level + 0.1 * (crop - crop.mean())
    return half_width - distance, change


def _crack(crop: Gray, rng: np.random.Generator) -> tuple[Gray, Gray]:
    """A dark line that runs on in jerks and thins out, with a branch or two."""
    height, width = crop.shape
    size = min(height, width)
    start, angle = rng.uniform(0.2, 0.8, 2) * (width, height), rng.uniform(0, 2 * np.pi)
    length, thick = rng.uniform(0.4, 0.9) * size, rng.uniform(1.0, 1.8)
    main = _jagged(start, angle, length, rng)
    arms = [main] + [
        _jagged(
            main[rng.integers(len(main) // 4, len(main) // 2)],
            angle + rng.choice([-1, 1]) * rng.uniform(0.4, 1.0),
            length * rng.uniform(0.2, 0.5),
            rng,
        )
        for _ in range(rng.integers(3))
    ]
    inside = np.full(crop.shape, -np.inf)
    for arm in arms:
        distance, nearest = _along(arm, crop.shape, reach=thick + _EDGE)
        inside = np.maximum(inside, thick * (1 - 0.4 * nearest / len(arm)) - distance)
    return inside, crop * rng.uniform(0.1, 0.35)


def _stain(crop: Gray, rng: np.random.Generator) -> tuple[Gray, Gray]:
    """A wide blot, darker or brighter; the texture shows through."""
    inside, _ = _blob(crop.shape, rng, radius=rng.uniform(0.11, 0.18), wobble=0.22)
    factor = rng.uniform(0.35, 0.5) if rng.random() < 0.6 else rng.uniform(1.6, 1.8)
    smooth = crop.mean() + 0.5 * (crop - crop.mean())
    return inside, smooth * factor


def _hole(crop: Gray, rng: np.random.Generator) -> tuple[Gray, Gray]:
    """A small dark pit, darkest in its middle, with nothing of the texture left."""
    inside, distance = _blob(crop.shape, rng, radius=rng.uniform(0.04, 0.075), wobble=0.12)
    floor = rng.uniform(8, 22)
    return inside, floor + 12 * np.clip(distance, 0, 1.2) + 0.06 * crop


def _foreign_body(crop: Gray, rng: np.random.Generator) -> tuple[Gray, Gray]:
    """A smooth ellipse that lies on the part, lit from one side."""
    height, width = crop.shape
    x, y = _centred(crop.shape, rng.uniform(0.2, 0.8, 2))
    angle = rng.uniform(0, np.pi)
    along, across = _direction(angle), _direction(angle + np.pi / 2)
    long = rng.uniform(0.09, 0.14) * min(height, width)
    short = long * rng.uniform(0.35, 0.7)
    u = (x * along[0] + y * along[1]) / long
    v = (x * across[0] + y * across[1]) / short
    radius = np.hypot(u, v)
    light = _direction(rng.uniform(0, 2 * np.pi))
    shade = np.clip(u * light[0] + v * light[1], -1, 1)
    # Radii to pixels by the slope of the radius, which lies between 1/long and 1/short.
    slope = np.hypot(u / long, v / short) / np.maximum(radius, 1e-9)
    inside = (1 - radius) / np.maximum(slope, 1 / long)
    return inside, rng.uniform(175, 205) + 35 * shade + 0.05 * crop


DEFECTS: dict[str, Callable[[Gray, np.random.Generator], tuple[Gray, Gray]]] = {
    "scratch": _scratch,
    "stain": _stain,
    "hole": _hole,
    "foreign_body": _foreign_body,
    "crack": _crack,
}


def _jagged(
    start: NDArray[np.float64], angle: float, length: float, rng: np.random.Generator
) -> Gray:
    """Points (N, 2) as (x, y), at most a pixel apart, of a way that turns every few pixels."""
    steps = max(12, math.ceil(length))
    turns = np.repeat(rng.normal(0, 0.5, steps // 8 + 1), 8)[:steps]
    angles = angle + turns + np.cumsum(rng.normal(0, 0.04, steps))
    ways = np.stack([np.cos(angles), np.sin(angles)], axis=1) * length / steps
    return np.concatenate([start[None], start + np.cumsum(ways, axis=0)])


def _along(way: Gray, shape: tuple[int, ...], *, reach: float) -> tuple[Gray, Gray]:
    """How far each pixel is from the nearest point of ``way`` (N, 2), and which point that is.

    Both are exact for pixels up to ``reach`` from the way; the others are infinitely far.
    """
    band = np.zeros(shape, np.uint8)
    thickness = 2 * int(np.ceil(reach)) + 4
    cv2.polylines(
        band, [way.round().astype(np.int32)], isClosed=False, color=1, thickness=thickness
    )
    y, x = np.nonzero(band)
    apart = np.hypot(x[:, None] - way[:, 0], y[:, None] - way[:, 1])
    distance, nearest = np.full(shape, np.inf), np.zeros(shape)
    distance[y, x], nearest[y, x] = apart.min(axis=1), apart.argmin(axis=1)
    return distance, nearest


def _blob(
    shape: tuple[int, ...], rng: np.random.Generator, *, radius: float, wobble: float
) -> tuple[Gray, Gray]:
    """(pixels inside the edge, distance from the centre in radii) of a round shape that wobbles."""
    x, y = _centred(shape, rng.uniform(0.2, 0.8, 2))
    theta = np.arctan2(y, x)
    edge = np.ones(shape)
    for harmonic in (2, 3, 5):
        phase = rng.uniform(0, 2 * np.pi)
        edge += wobble * rng.uniform(0.3, 1) * np.cos(harmonic * theta + phase) / harmonic
    edge *= radius * min(shape)
    distance = np.hypot(x, y)
    return edge - distance, distance / edge


def _centred(shape: tuple[int, ...], centre: NDArray[np.float64]) -> tuple[Gray, Gray]:
    y, x = np.mgrid[: shape[0], : shape[1]]
    return x - centre[0] * shape[1], y - centre[1] * shape[0]


def _direction(angle: float) -> NDArray[np.float64]:
    return np.array([np.cos(angle), np.sin(angle)])
