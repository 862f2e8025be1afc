"""Images that show nearly the same thing: a sign that groups are missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_u2net.data.images import read_image
from anomaly_u2net.types import Image, ImageRecord

#: Thumbnails are this many pixels wide and high.
SIZE = 16
#: Pairs that correlate more are near-duplicates. On 1 012 magnetic tile images, whose groups are the
#: exposures of one tile, 99 % of the reported pairs are of one group, 80 % of the images that have
#: another exposure are in such a pair, and 85 % of these groups are noticed; one image of each of
#: the 304 groups gives one pair.
ALIKE = 0.98
_ROWS = 256


def near_duplicates(
    records: Sequence[ImageRecord], *, alike: float = ALIKE
) -> list[tuple[Path, Path]]:
    """Of N images each one that looks nearly like an earlier one: pairs (earlier, later) of paths.

    Reads every image once and keeps 1 KiB of it; N × 256 correlations are held at a time.
    Raises `ImageError` for an image that cannot be read.
    """
    thumbnails = np.array([thumbnail(read_image(record.path)) for record in records])
    paths = [record.path for record in records]
    return [(paths[i], paths[j]) for i, j in alike_pairs(thumbnails, alike=alike)]


def thumbnail(image: Image) -> NDArray[np.float32]:
    """The grey image uint8 (H, W, 3) averaged to 16 × 16, mean 0 and length 1: float32 (256,).

    An image of one grey value gives zeros.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    small = cv2.resize(grey, (SIZE, SIZE), interpolation=cv2.INTER_AREA).ravel()
    return _normed((small - small.mean())[None])[0]


def alike_pairs(thumbnails: NDArray[np.float32], *, alike: float = ALIKE) -> list[tuple[int, int]]:
    """For each of N thumbnails (N, 256) that has one, the earlier one it resembles most.

    What all images of a category share (an aligned part, a light from the left) says nothing, so
    the mean thumbnail is taken away first; two images resemble each other when the correlation of
    what is left exceeds ``alike``, or when the thumbnails are the same to the bit. Images of one
    grey value resemble nothing, and the same thing shifted or turned is not found.

    >>> rows = np.zeros((3, 256), np.float32)
    >>> rows[[0, 1, 2], [3, 7, 3]] = 1
    >>> alike_pairs(rows)
    [(0, 2)]
    """
    rest = _normed(thumbnails - thumbnails.mean(axis=0)) if len(thumbnails) else thumbnails
    pairs = []
    first: dict[bytes, int] = {}
    twins = [first.setdefault(row.tobytes(), i) for i, row in enumerate(thumbnails)]
    for start in range(0, len(thumbnails), _ROWS):
        rows = slice(start, start + _ROWS)
        found = rest[rows] @ rest.T
        # Each row looks at earlier ones only.
        found[np.arange(len(rest)) >= np.arange(len(rest))[rows, None]] = -1.0
        for place, twin in enumerate(twins[rows]):
            if twin < start + place and thumbnails[twin].any():
                found[place, twin] = 1.0
        best = found.argmax(axis=1)
        close = np.flatnonzero(found[np.arange(len(best)), best] > alike)
        pairs += [(int(best[i]), int(start + i)) for i in close]
    return pairs


def _normed(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row at length 1; a row of next to nothing as zeros."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.where(length > 1e-4, rows / np.maximum(length, 1e-4), 0).astype(np.float32)
