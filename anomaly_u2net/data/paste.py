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

#: Pixels around a defect that are cut out with it.
MARGIN = 12
#: Pixels around a defect over which the pasted patch fades out. Regions closer than twice that are
#: one defect.
FADE = 3
#: The zoom of a pasted defect, at least and at most.
ZOOM = 0.7, 1.4
#: How many times darker or brighter a defect may become; beyond that it would not be seen.
RELIGHT = 2.0
#: Places that are tried before the image is left as it is.
TRIES = 8

_NEIGHBOURS = np.ones((2 * FADE + 1, 2 * FADE + 1), np.uint8)


def paste_defect(
    image: Image,
    mask: Mask,
    *,
    donor: tuple[Image, Mask],
    largest: int,
    rng: np.random.Generator,
    part: Mask | None = None,
) -> tuple[Image, Mask]:
    """Return (image, mask) with one defect of ``donor`` in it.

    image: uint8 (h, w, 3). mask: bool (h, w). donor: another such pair. Neither has padding. part:
    bool (h, w), where the whole defect must lie; None: anywhere. The defect is mirrored, turned by a
    multiple of 90° and zoomed, brought to the brightness of its new place, and its surroundings fade
    out over a few pixels. Both are returned as they are where the defect is longer than ``largest``
    pixels, has no sound surroundings to compare brightness with, or finds no free place in `TRIES`
    tries.

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
    patch, defect, sound = cut
    (height, width), (room_y, room_x) = defect.shape, mask.shape
    if height > room_y or width > room_x:
        return image, mask
    alpha = cv2.GaussianBlur(
        cv2.dilate(defect.astype(np.float32), _NEIGHBOURS),
        (0, 0),
        FADE / 2,
        borderType=cv2.BORDER_CONSTANT,
    )[..., None]
    own = None if part is None else np.argwhere(part)
    for _ in range(TRIES):
        top, left = _corner(own, (room_y - height, room_x - width), (height, width), rng)
        place = slice(top, top + height), slice(left, left + width)
        if part is not None and not part[place][defect].all():
            continue
        ground = image[place].astype(np.float32)
        light = (ground[sound].mean() + 1) / (patch[sound].mean() + 1)
        if mask[place].any() or not 1 / RELIGHT <= light <= RELIGHT:
            continue
        image, mask = image.copy(), mask.copy()
        blended = alpha * patch * light + (1 - alpha) * ground
        image[place] = blended.round().clip(0, 255).astype(np.uint8)
        mask[place] = defect
        break
    return image, mask


def _corner(
    own: NDArray[np.intp] | None,
    last: tuple[int, int],
    sides: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[int, int]:
    """Where a patch of ``sides`` begins: up to ``last``, about one of the pixels ``own`` (N, 2)."""
    if own is None or not len(own):
        return int(rng.integers(last[0] + 1)), int(rng.integers(last[1] + 1))
    middle = own[rng.integers(len(own))]
    top, left = np.clip(middle - np.array(sides) // 2, 0, last)
    return int(top), int(left)


def _cut(
    image: Image, mask: Mask, *, largest: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], Mask, Mask] | None:
    """A random defect with its surroundings, mirrored, turned and zoomed, if there is one that fits.

    The pixels (h, w, 3), and (h, w) which of them are the defect and which are far from any.
    """
    labels, defects = label_regions(cv2.dilate(mask.astype(np.uint8), _NEIGHBOURS) > 0)
    if not defects:
        return None
    defect = mask & (labels == 1 + rng.integers(defects))
    rows, columns = (np.flatnonzero(defect.any(axis=axis)) for axis in (1, 0))
    if max(np.ptp(rows), np.ptp(columns)) + 1 > largest:
        return None
    window = tuple(
        slice(max(0, along[0] - MARGIN), along[-1] + MARGIN + 1) for along in (rows, columns)
    )
    turns, mirrored = int(rng.integers(4)), slice(None, None, int(rng.choice([-1, 1])))
    zoom = float(rng.uniform(*ZOOM))
    patch, share, ground = (
        _zoomed(np.rot90(part[window], turns)[:, mirrored].astype(np.float32), zoom)
        for part in (image, defect, labels == 0)
    )
    defect, sound = share >= 0.5, ground >= 0.5
    return (patch, defect, sound) if defect.any() and sound.any() else None


def _zoomed(array: NDArray[np.float32], zoom: float) -> NDArray[np.float32]:
    height, width = (max(1, round(side * zoom)) for side in array.shape[:2])
    resized = cv2.resize(np.ascontiguousarray(array), (width, height))
    return np.asarray(resized, np.float32)
