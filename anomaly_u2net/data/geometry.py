"""The one way to bring an image to the network's size, and its map back to the original size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_u2net.errors import ImageError
from anomaly_u2net.types import STRIDE, Image, ScoreMap

Fit = Literal["letterbox", "stretch", "native"]

#: `native` images above this would need tiles; the activations of one take gigabytes.
MAX_NATIVE_PIXELS = 4_000_000

#: ImageNet's, as in U²-Net's public code; a fixed scale, not each image's own maximum as there.
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where an image lies on the network's canvas. All sizes are (height, width) in pixels.

    original: the image's own size. resized: its size on the canvas. canvas: what the network sees.
    The image lies in the canvas's top-left corner; the rest is padding.
    """

    original: tuple[int, int]
    resized: tuple[int, int]
    canvas: tuple[int, int]

    @property
    def inside(self) -> tuple[slice, slice]:
        """The part of the canvas that is image."""
        return slice(self.resized[0]), slice(self.resized[1])

    def image(self, image: NDArray[Any]) -> NDArray[Any]:
        """(H, W, 3) uint8 → (h, w, 3) uint8; padding mirrors the image, so it adds no edge."""
        return _pad(resize(image, self.resized), self.canvas, border=cv2.BORDER_REFLECT_101)

    def mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(H, W) bool → (h, w) bool; a pixel is defective when at least half of what it covers is.

        A defect too thin for that keeps the pixel of its region that is covered most, so that no
        region of the original vanishes.
        """
        share = resize(mask.astype(np.float32), self.resized)
        small = share >= 0.5
        if self.resized != self.original and mask.any():
            small |= _rescued(mask, share, small)
        return _pad(small.astype(np.uint8), self.canvas, border=cv2.BORDER_CONSTANT).astype(bool)

    def weight(self) -> NDArray[np.float32]:
        """(h, w) float32: 1 on the image, 0 on the padding."""
        weight = np.zeros(self.canvas, np.float32)
        weight[self.inside] = 1
        return weight

    def back(self, score_map: NDArray[np.float32]) -> ScoreMap:
        """(h, w) float32 on the canvas → (H, W) float32 at the original size (bilinear)."""
        inside = score_map[self.inside]
        if self.resized == self.original:
            return np.ascontiguousarray(inside, dtype=np.float32)
        height, width = self.original
        # OpenCV's bilinear fixed point stays within the input's range, so 0..1 stays 0..1.
        resized = cv2.resize(inside, (width, height), interpolation=cv2.INTER_LINEAR)
        return resized.astype(np.float32, copy=False)


def plan(
    original: tuple[int, int], fit: Fit, *, size: tuple[int, int] = (STRIDE, STRIDE)
) -> Geometry:
    """Decide where an image of ``original`` (H, W) lies for a network of ``size`` (h, w).

    letterbox: the largest size of the same shape that fits. stretch: exactly ``size``.
    native: the image's own pixels, padded to a multiple of 32; ``size`` is not used.

    >>> plan((100, 200), "letterbox", size=(64, 64))
    Geometry(original=(100, 200), resized=(32, 64), canvas=(64, 64))
    >>> plan((100, 200), "native").canvas
    (128, 224)
    """
    height, width = original
    if fit == "stretch":
        return Geometry(original, size, size)
    if fit == "native":
        if height * width > MAX_NATIVE_PIXELS:
            raise ImageError(
                f"an image of {height}×{width} pixels is too large for input.fit native "
                f"(at most {MAX_NATIVE_PIXELS} pixels): use letterbox with a larger input.size"
            )
        canvas = (math.ceil(height / STRIDE) * STRIDE, math.ceil(width / STRIDE) * STRIDE)
        return Geometry(original, original, canvas)
    scale = min(size[0] / height, size[1] / width)
    resized = (max(1, round(height * scale)), max(1, round(width * scale)))
    return Geometry(original, resized, size)


def normalise(image: Image) -> NDArray[np.float32]:
    """(h, w, 3) uint8 RGB → (3, h, w) float32: (x / 255 − mean) / std per channel."""
    scaled = image.astype(np.float32)
    scaled *= 1 / (255 * STD)
    scaled -= MEAN / STD
    return np.ascontiguousarray(scaled.transpose(2, 0, 1))


def resize(array: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    height, width = size
    if array.shape[:2] == (height, width):
        return array
    smaller = height < array.shape[0] or width < array.shape[1]
    return cv2.resize(
        array, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    )


def _pad(array: NDArray[Any], canvas: tuple[int, int], *, border: int) -> NDArray[Any]:
    bottom, right = canvas[0] - array.shape[0], canvas[1] - array.shape[1]
    if bottom == 0 and right == 0:
        return array
    if border == cv2.BORDER_REFLECT_101 and (bottom >= array.shape[0] or right >= array.shape[1]):
        # A narrow image is mirrored again and again until the canvas is full.
        return np.pad(array, ((0, bottom), (0, right), (0, 0)), mode="symmetric")
    return cv2.copyMakeBorder(array, 0, bottom, 0, right, border, value=0)


def _rescued(
    mask: NDArray[np.bool_], share: NDArray[np.float32], small: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """The pixels to add so that every region of ``mask`` keeps at least one."""
    count, labels, _, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    rows = (np.arange(mask.shape[0]) * share.shape[0]) // mask.shape[0]
    cols = (np.arange(mask.shape[1]) * share.shape[1]) // mask.shape[1]
    extra = np.zeros_like(small)
    for region in range(1, count):
        y, x = np.nonzero(labels == region)
        ys, xs = rows[y], cols[x]
        if not small[ys, xs].any():
            best = int(np.argmax(share[ys, xs]))
            extra[ys[best], xs[best]] = True
    return extra
