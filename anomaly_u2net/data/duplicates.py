"""Images that show the same thing, at another exposure, cut or size: a sign of missing groups.

Thumbnails whose light is taken away are compared with each other; the nearest are laid on top of
each other, and what then still agrees is the same thing. How much it finds, and how often it is
wrong, is measured in docs/learn/audit.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_u2net.data.images import read_image
from anomaly_u2net.types import Image, ImageRecord

#: Thumbnails are this many pixels wide and high.
SIDE = 64
#: Thumbnails that correlate more, once laid on top of each other, show the same thing. Set on
#: magnetic_tile; bsdata_pitting and mvtec_leather_mini were looked at afterwards.
ALIKE = 0.8
#: How many of its nearest an image is compared with closely.
_NEAREST = 8
#: Below this correlation before they are laid on top of each other, a pair is left out.
_FAR = 0.1
#: Standard deviation, in thumbnail pixels, of what counts as light rather than as detail.
_LIGHT = 4.0
#: Of a category of this many images, half of the mean thumbnail counts as what all images share.
_HALF_SHARED = 16
#: One more direction of what they share for so many images, up to four.
_PER_DIRECTION, _DIRECTIONS = 50, 4
_ROWS = 256
_STEPS = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 15, 1e-3)


def near_duplicates(
    records: Sequence[ImageRecord], *, alike: float = ALIKE
) -> list[tuple[Path, Path]]:
    """The pairs (earlier, later) among N images of one category that show the same thing.

    Enough pairs to join every group of such images, not all of them; see `alike_pairs`. Reads
    every image once and keeps 16 KiB of it. Raises `ImageError` for one that cannot be read.
    """
    thumbnails = [thumbnail(read_image(record.path)) for record in records]
    pairs = alike_pairs(np.array(thumbnails).reshape(-1, SIDE, SIDE), alike=alike)
    return [(records[i].path, records[j].path) for i, j in pairs]


def picture_groups(records: Sequence[ImageRecord]) -> dict[Path, int]:
    """Image → number of its group, for the images that show the same thing as another one.

    The search goes through each category by itself, and costs about 7 s for 1,000 small images on
    one core; large ones take longer to read. Images that are like no other are left out. Raises
    `ImageError` for an image that cannot be read.
    """
    by_category: dict[str, list[ImageRecord]] = defaultdict(list)
    for record in records:
        by_category[record.category].append(record)
    groups: dict[Path, int] = {}
    for _, own in sorted(by_category.items()):
        place = {record.path: i for i, record in enumerate(own)}
        pairs = [(place[a], place[b]) for a, b in near_duplicates(own)]
        for number, group in enumerate(join_pairs(len(own), pairs), start=len(groups)):
            groups |= {own[i].path: number for i in group}
    return groups


def thumbnail(image: Image) -> NDArray[np.float32]:
    """The detail of an image uint8 (H, W, 3), whatever its light: float32 (64, 64).

    The logarithm of the gray, averaged to 64 × 64, less its Gaussian mean (sigma 4) and divided by
    the standard deviation around it; then mean 0 and standard deviation 1. An image without detail
    gives zeros.
    """
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    light = np.log(cv2.resize(gray, (SIDE, SIDE), interpolation=cv2.INTER_AREA) + 8)
    detail = light - cv2.GaussianBlur(light, (0, 0), _LIGHT)
    around = np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), _LIGHT))
    even = detail / (around + 0.02)
    even -= even.mean()
    spread = float(even.std())
    flat = np.zeros_like(even)
    return np.asarray(flat if spread < 0.05 else even / spread, np.float32)


def alike_pairs(thumbnails: NDArray[np.float32], *, alike: float = ALIKE) -> list[tuple[int, int]]:
    """Pairs i < j of N thumbnails (N, 64, 64) that show the same thing, sorted.

    What all images of a category share (an aligned part, a light from the left) says nothing, so
    most of the mean thumbnail and, from 50 images on, of up to four directions of largest variance
    is taken away first. Each image is then compared with its eight nearest: one is laid on top of
    the other (shift, scale, turn and shear found by ECC, Evangelidis and Psarakis 2008), and they
    show the same thing when the correlation where both lie exceeds ``alike``. Identical thumbnails
    always do, those without detail never. Two images that are joined by other pairs already are not
    compared, so there may be fewer pairs than alike images. The same thing mirrored, or turned by
    more than a few degrees, is not found.

    >>> rows = np.random.default_rng(0).normal(size=(3, 64, 64)).astype(np.float32)
    >>> rows[2] = np.roll(rows[0], 1, axis=1)
    >>> alike_pairs(cv2.GaussianBlur(rows.transpose(1, 2, 0), (0, 0), 2).transpose(2, 0, 1))
    [(0, 2)]
    """
    first: dict[bytes, int] = {}
    keys = [row.tobytes() for row in thumbnails]
    twins = [(first.setdefault(key, i), i) for i, key in enumerate(keys) if thumbnails[i].any()]
    pairs = [(i, j) for i, j in twins if i != j]
    places = sorted(first.values())
    own = _own(thumbnails[places])
    joined = _Joined(len(places))
    for i, j in _candidates(own):
        # Which lies on which must not depend on the order of the images.
        over, under = sorted((i, j), key=lambda place: keys[places[place]])
        if not joined.together(i, j) and _aligned(own[over], own[under]) > alike:
            joined.join(i, j)
            pairs.append((places[i], places[j]))
    return sorted(pairs)


def join_pairs(count: int, pairs: Iterable[tuple[int, int]]) -> list[tuple[int, ...]]:
    """The groups of 2 or more of ``count`` things that pairs join, directly or by others.

    >>> join_pairs(6, [(0, 3), (5, 4), (3, 5)])
    [(0, 3, 4, 5)]
    """
    joined = _Joined(count)
    for i, j in pairs:
        joined.join(i, j)
    members: dict[int, list[int]] = defaultdict(list)
    for i in range(count):
        members[joined.root(i)].append(i)
    return sorted(tuple(group) for group in members.values() if len(group) > 1)


class _Joined:
    """Union-find over ``count`` things."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def root(self, i: int) -> int:
        while self._parent[i] != i:
            self._parent[i] = self._parent[self._parent[i]]
            i = self._parent[i]
        return i

    def join(self, i: int, j: int) -> None:
        a, b = sorted((self.root(i), self.root(j)))
        self._parent[b] = a

    def together(self, i: int, j: int) -> bool:
        return self.root(i) == self.root(j)


def _own(thumbnails: NDArray[np.float32]) -> NDArray[np.float32]:
    """What each of N thumbnails (N, 64, 64) does not share with the others."""
    count = len(thumbnails)
    if not count:
        return thumbnails
    rows = thumbnails.reshape(count, -1)
    rows = rows - np.float32(count / (count + _HALF_SHARED)) * rows.mean(axis=0)
    directions = min(_DIRECTIONS, count // _PER_DIRECTION)
    if directions:
        start = np.random.default_rng(0).normal(size=(rows.shape[1], directions))
        basis = np.linalg.qr(start.astype(np.float32))[0]
        for _ in range(10):  # subspace iteration: the leading right singular vectors
            basis = np.linalg.qr(rows.T @ (rows @ basis))[0]
        rows = rows - (rows @ basis) @ basis.T
    return np.ascontiguousarray(rows.reshape(thumbnails.shape), np.float32)


def _candidates(own: NDArray[np.float32]) -> list[tuple[int, int]]:
    """Pairs i < j of which one is among the nearest of the other, most alike first."""
    small = np.array([cv2.resize(one, (16, 16), interpolation=cv2.INTER_AREA) for one in own])
    rows = small.reshape(len(own), 256)
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-4)
    found: dict[tuple[int, int], float] = {}
    for start in range(0, len(rows), _ROWS):
        block = rows[start : start + _ROWS] @ rows.T
        block[np.arange(len(block)), start + np.arange(len(block))] = -1
        nearest = np.argsort(-block, axis=1)[:, :_NEAREST]
        for i, columns in enumerate(nearest):
            for j in columns[block[i, columns] > _FAR]:
                pair = (min(start + i, int(j)), max(start + i, int(j)))
                found[pair] = float(block[i, j])
    return sorted(found, key=lambda pair: -found[pair])


def _aligned(over: NDArray[np.float32], under: NDArray[np.float32]) -> float:
    """The correlation of two thumbnails where both lie, the second brought onto the first."""
    inner = np.zeros((SIDE, SIDE), np.uint8)
    inner[4:-4, 4:-4] = 255
    start = np.eye(2, 3, dtype=np.float32)
    try:
        _, found = cv2.findTransformECC(over, under, start, cv2.MOTION_AFFINE, _STEPS, inner, 5)
    except cv2.error:  # it found no way to lay them on top of each other
        return -1.0
    back = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(under, found, (SIDE, SIDE), flags=back)
    both = cv2.warpAffine(np.ones((SIDE, SIDE), np.float32), found, (SIDE, SIDE), flags=back) > 0.99
    if both.mean() < 0.6:
        return -1.0
    a, b = over[both] - over[both].mean(), moved[both] - moved[both].mean()
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / length if length > 1e-4 else -1.0
