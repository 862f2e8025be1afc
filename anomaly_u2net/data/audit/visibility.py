"""Does a mask lie on anything that can be seen? Compared with other places of the same image."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_u2net.metrics.regions import label_regions
from anomaly_u2net.types import Mask

#: Places of the same image that a region is compared with.
PLACES = 99
#: Fewer places than this say nothing.
FEWEST = 20
#: Pixels of a region, and of the ring around it, that are looked at.
_SAMPLE = 400
#: Images are shrunk to this longer side, in pixels.
_LONGEST = 640


class Standing(NamedTuple):
    """How the largest region of a mask stands out from the ring around it.

    contrast: 0..1, the larger of |Cliff's delta| of gray and of edge strength between the region
    and its ring: 0 when they are alike, 1 when they do not overlap. places: how many other places
    of the image the same shape was laid on. elsewhere: the share of these, the region itself
    counted, with at least this contrast: small where something is seen, any value where not.
    """

    contrast: float
    elsewhere: float
    places: int


def standing(gray: NDArray[np.uint8], mask: Mask, *, seed: int = 0) -> Standing | None:
    """Compare the largest region of a mask bool (H, W) with other places of its image (H, W).

    A permutation test over places: were the region put anywhere, ``elsewhere`` would be uniform.
    ``None`` where fewer than 20 different places without marks are found: the region is too large.

    >>> gray = np.random.default_rng(0).integers(90, 110, (96, 96), dtype=np.uint8)
    >>> mask = np.zeros((96, 96), bool)
    >>> mask[40:48, 30:44] = True
    >>> gray[mask] = 60
    >>> standing(gray, mask)
    Standing(contrast=1.0, elsewhere=0.01, places=99)
    """
    gray, mask = _shrunk(gray, mask)
    region = _largest(mask)
    wide = max(2, round(np.sqrt(region.sum()) / 3))
    near = _grown(region, 1)
    ring = _grown(region, 1 + wide) & ~near & ~mask
    if not ring.any():
        return None
    rng = np.random.default_rng(seed)
    inside, around = (_sampled(np.argwhere(part), rng) for part in (region, ring))
    shifts = _shifts(np.vstack([inside, around]), inside, mask, rng=rng)
    if len(shifts) <= FEWEST:
        return None
    planes = [gray, _edges(gray)]
    found = np.max([_deltas(plane, inside, around, shifts) for plane in planes], axis=0)
    as_high = int((found >= found[0]).sum())  # the first is the region itself
    return Standing(float(found[0]), as_high / len(found), len(found) - 1)


def _shrunk(gray: NDArray[np.uint8], mask: Mask) -> tuple[NDArray[np.uint8], Mask]:
    scale = _LONGEST / max(gray.shape)
    if scale >= 1:
        return gray, mask
    size = (max(1, round(gray.shape[1] * scale)), max(1, round(gray.shape[0] * scale)))
    small = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    covered = small >= min(0.5, float(small.max()))
    return np.asarray(cv2.resize(gray, size, interpolation=cv2.INTER_AREA), np.uint8), covered


def _largest(mask: Mask) -> Mask:
    labels, _ = label_regions(mask)
    return np.asarray(labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:])))


def _grown(mask: Mask, radius: int) -> Mask:
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return cv2.dilate(mask.astype(np.uint8), disc).astype(bool)


def _sampled(points: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
    if len(points) <= _SAMPLE:
        return points
    return points[rng.choice(len(points), _SAMPLE, replace=False)]


def _shifts(
    points: NDArray[np.intp], inside: NDArray[np.intp], mask: Mask, *, rng: np.random.Generator
) -> NDArray[np.intp]:
    """(P, 2), (0, 0) first: where ``points`` stay in the image and ``inside`` off the marks."""
    low, high = -points.min(axis=0), np.array(mask.shape) - points.max(axis=0)
    tries = np.unique(rng.integers(low, high, (8 * PLACES, 2)), axis=0)
    rng.shuffle(tries)
    marked = mask[tuple((inside[None] + tries[:, None]).transpose(2, 0, 1))]
    free = tries[marked.mean(axis=1) < 0.05][:PLACES]
    return np.vstack([np.zeros((1, 2), np.intp), free])


def _edges(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Edge strength, uint8 (H, W), clipped."""
    smooth = cv2.GaussianBlur(gray.astype(np.float32), (0, 0), 1)
    across, down = (cv2.Sobel(smooth, cv2.CV_32F, dx, 1 - dx) for dx in (1, 0))
    return np.clip(np.hypot(across, down), 0, 255).astype(np.uint8)


def _deltas(
    plane: NDArray[np.uint8],
    inside: NDArray[np.intp],
    around: NDArray[np.intp],
    shifts: NDArray[np.intp],
) -> NDArray[np.float64]:
    """|Cliff's delta| of the plane's values inside and around, at each of P shifts: (P,).

    Cliff 1993: the share of pairs where the one is larger, less that where the other is.
    """
    count = len(shifts)

    def histograms(points: NDArray[np.intp]) -> NDArray[np.float64]:
        values = plane[tuple((points[None] + shifts[:, None]).transpose(2, 0, 1))].astype(np.intp)
        at = values + 256 * np.arange(count)[:, None]
        return np.bincount(at.ravel(), minlength=256 * count).reshape(count, 256) / len(points)

    a, b = histograms(inside), histograms(around)
    below = np.cumsum(b, axis=1) - b
    above = 1 - np.cumsum(b, axis=1)
    return np.round(np.abs((a * (below - above)).sum(axis=1)), 9)
