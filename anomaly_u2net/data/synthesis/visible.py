"""What of a change can be seen, and so may be marked as a defect."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_u2net.types import Image, Mask

#: Gray levels by which a pixel must differ at least to be called changed.
LEAST = 8.0
#: How many standard deviations of the texture a region must differ by: on average, or as a whole
#: (darker, or brighter). One piece of a texture put onto another piece of it differs by 2/√π = 1.13
#: on average (the mean distance of two normal numbers), and hardly at all as a whole.
HIDDEN, SHIFTED = 1.6, 1.0
#: Sides in pixels of what counts as the texture around a pixel, and of the neighbourhood that a change
#: is averaged over.
SURROUNDINGS, AROUND = 9, 5
#: Pixels; smaller specks of change are taken back.
SPECK = 8


def settle(image: Image, changed: NDArray[np.uint8], region: Mask) -> tuple[Image, Mask]:
    """(image, mask): of ``changed``, what is seen, and its mask; the rest is put back.

    image, changed: uint8 (H, W, 3), before and after. region: bool (H, W), where the defect may be.
    Of its connected regions those stay that are not hidden by the texture (`HIDDEN`, `SHIFTED`). In
    them, a pixel is marked where it and its neighbours differ by `LEAST` gray levels on average, in
    the channel that differs most, and where that makes `SPECK` pixels together. Every pixel that is
    not marked is that of ``image``, so the mask tells exactly where the two differ. Nothing visible:
    an empty mask, and ``image``.
    """
    mask = np.zeros(region.shape, bool)
    box = _around(region)
    before, after = image[box], changed[box]
    inside = _not_hidden(before, after, region[box]).view(np.uint8)
    apart = change(before, after) * inside
    kernel = (AROUND, AROUND)
    total, count = (
        cv2.boxFilter(field, cv2.CV_32F, kernel, normalize=False, borderType=cv2.BORDER_CONSTANT)
        for field in (apart, inside)
    )
    seen = (total >= LEAST * np.maximum(count, 1)) & (inside > 0)
    mask[box] = _without_specks(seen)
    if not mask.any():
        return image, mask
    made = image.copy()
    cv2.copyTo(changed, mask.view(np.uint8), made)
    return made, mask


def change(image: Image, changed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """How far each pixel of two uint8 (H, W, 3) is apart, uint8 (H, W): the most of its channels."""
    red, green, blue = cv2.split(cv2.absdiff(image, changed))
    return np.asarray(cv2.max(cv2.max(red, green), blue), np.uint8)


def roughness(image: Image) -> NDArray[np.float32]:
    """The standard deviation of the green channel around each pixel, float32 (H, W), gray levels.

    >>> stripes = np.where(np.arange(16) % 2, 90, 130).astype(np.uint8)
    >>> rough = roughness(np.repeat(np.tile(stripes, (16, 1))[..., None], 3, axis=2))
    >>> bool(19 < rough.min() and rough.max() <= 20)
    True
    """
    gray = np.ascontiguousarray(image[..., 1])
    size = (SURROUNDINGS, SURROUNDINGS)
    mean = cv2.boxFilter(gray, cv2.CV_32F, size)
    variance = cv2.sqrBoxFilter(gray, cv2.CV_32F, size) - mean * mean
    return np.sqrt(np.maximum(variance, np.float32(0)))


def _around(region: Mask) -> tuple[slice, slice]:
    """The box of ``region`` and what is near enough to count for its pixels."""
    x, y, width, height = cv2.boundingRect(region.view(np.uint8))
    near = SURROUNDINGS // 2
    return slice(max(0, y - near), y + height + near), slice(max(0, x - near), x + width + near)


def _not_hidden(image: Image, changed: NDArray[np.uint8], region: Mask) -> Mask:
    """The connected regions in which the change is more than the texture, before and after, hides."""
    count, labels = cv2.connectedComponents(region.view(np.uint8), connectivity=8)
    pixels = np.flatnonzero(region)
    label = labels.ravel()[pixels]

    def sums(field: NDArray[np.generic]) -> NDArray[np.float64]:
        return np.bincount(label, weights=field.ravel()[pixels], minlength=count).astype(float)

    texture = np.minimum(sums(roughness(image)), sums(roughness(changed)))
    apart = sums(change(image, changed))
    shift = np.abs(sums(changed[..., 1]) - sums(image[..., 1]))
    seen = (apart >= HIDDEN * texture) | (shift >= SHIFTED * texture)
    seen[0] = False
    return np.asarray(seen[labels])


def _without_specks(mask: Mask) -> Mask:
    _, labels, about, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    large = about[:, cv2.CC_STAT_AREA] >= SPECK
    large[0] = False
    return np.asarray(large[labels])
