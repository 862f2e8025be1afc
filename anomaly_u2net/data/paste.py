"""A real defect of one training image, cut out and pasted into another.

The few defects of a new product are learnt by heart together with the part they were seen on. Seen
on many parts, only the defect stays the same. Known from segmentation as copy-paste (Ghiasi et al.,
"Simple copy-paste is a strong data augmentation method", arXiv 2012.07177).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_u2net.metrics import label_regions
from anomaly_u2net.types import Image, Mask

#: Pixels around a region that are cut out with it, and from it, the ring where brightness is taken.
MARGIN = 12
#: Pixels around a region over which the pasted patch fades out.
FADE = 3
#: The zoom of a pasted region, at least and at most.
ZOOM = 0.7, 1.4
#: How many times darker or brighter a region may become; beyond that it would not be seen.
RELIGHT = 2.0
#: Places that are tried before the image is left as it is.
TRIES = 8


def paste_defect(
    image: Image,
    mask: Mask,
    *,
    donor: tuple[Image, Mask],
    largest: int,
    rng: np.random.Generator,
) -> tuple[Image, Mask]:
    """Return (image, mask) with one defect region of ``donor`` in it.

    image: uint8 (h, w, 3). mask: bool (h, w). donor: another such pair. The region is mirrored,
    turned by a multiple of 90° and zoomed, brought to the brightness of its new place, and its
    surroundings fade out over a few pixels. Both are returned as they are where the region is
    longer than ``largest`` pixels or finds no free place in `TRIES` tries.

    >>> scratch = np.zeros((64, 64), bool)
    >>> scratch[30:33, 20:40] = True
    >>> part = np.full((64, 64, 3), 90, np.uint8)
    >>> marked = np.where(scratch[..., None], np.uint8(200), part)
    >>> image, mask = paste_defect(
    ...     part, np.zeros((64, 64), bool), donor=(marked, scratch), largest=48,
    ...     rng=np.random.default_rng(0),
    ... )
    >>> bool(image[mask].mean() > 150 > image[~mask].mean())
    True
    """
    cut = _cut(*donor, largest=largest, rng=rng)
    if cut is None:
        return image, mask
    patch, region = cut
    (height, width), (room_y, room_x) = region.shape, mask.shape
    if height > room_y or width > room_x:
        return image, mask
    grown = cv2.dilate(region.astype(np.uint8), np.ones((2 * FADE + 1,) * 2))
    around = grown == 0  # never empty: only FADE of the MARGIN pixels around are grown into
    alpha = cv2.GaussianBlur(grown.astype(np.float32), (0, 0), FADE / 2)[..., None]
    for _ in range(TRIES):
        top, left = rng.integers(room_y - height + 1), rng.integers(room_x - width + 1)
        place = slice(top, top + height), slice(left, left + width)
        ground = image[place].astype(np.float32)
        light = (ground[around].mean() + 1) / (patch[around].mean() + 1)
        if mask[place].any() or not 1 / RELIGHT <= light <= RELIGHT:
            continue
        image, mask = image.copy(), mask.copy()
        blended = alpha * patch * light + (1 - alpha) * ground
        image[place] = blended.round().clip(0, 255).astype(np.uint8)
        mask[place] |= region
        break
    return image, mask


def _cut(
    image: Image, mask: Mask, *, largest: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], Mask] | None:
    """A random region of ``mask`` with its surroundings: (h, w, 3) and (h, w), or none that fits."""
    labels, regions = label_regions(mask)
    if not regions:
        return None
    region = labels == 1 + rng.integers(regions)
    rows, columns = (np.flatnonzero(region.any(axis=axis)) for axis in (1, 0))
    if max(np.ptp(rows), np.ptp(columns)) + 1 > largest:
        return None
    window = tuple(
        slice(max(0, along[0] - MARGIN), along[-1] + MARGIN + 1) for along in (rows, columns)
    )
    patch, region = image[window], region[window]
    turns, mirrored = int(rng.integers(4)), slice(None, None, int(rng.choice([-1, 1])))
    patch, region = (np.rot90(part, turns)[:, mirrored] for part in (patch, region))
    zoom = float(rng.uniform(*ZOOM))
    height, width = (max(1, round(side * zoom)) for side in region.shape)
    patch = cv2.resize(np.ascontiguousarray(patch), (width, height))
    region = cv2.resize(region.astype(np.float32), (width, height)) >= 0.5
    return (patch.astype(np.float32), region) if region.any() else None
