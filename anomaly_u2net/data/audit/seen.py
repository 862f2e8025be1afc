"""One look at every image and mask: what the checks need is kept, the pixels are not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from anomaly_u2net.data.audit.visibility import Standing, standing
from anomaly_u2net.data.duplicates import thumbnail
from anomaly_u2net.data.images import image_files, read_image, read_mask
from anomaly_u2net.errors import ImageError, MaskError
from anomaly_u2net.files import sha256_file
from anomaly_u2net.metrics.regions import label_regions
from anomaly_u2net.types import Image, ImageRecord, Mask


@dataclass(frozen=True, slots=True)
class SeenMask:
    """A mask: its size (H, W), marked pixels, and the R regions it has.

    between: pixels that are neither black nor white, 0 of label numbers. widths: (R,), see `region_widths`.
    standing: how its largest region stands out; ``None`` where that cannot be said.
    """

    size: tuple[int, int]
    marked: int
    between: int
    widths: tuple[float, ...]
    standing: Standing | None


@dataclass(frozen=True, slots=True, eq=False)
class SeenImage:
    """An image: its size (H, W), the mean and standard deviation of its gray, hashes, thumbnail.

    pixels: a hash of the decoded pixels and their shape.
    mask: ``None`` for a good image. mask_error: why the mask could not be read.
    """

    record: ImageRecord
    size: tuple[int, int]
    mean: float
    contrast: float
    bytes: str
    pixels: str
    thumbnail: NDArray[np.float32]
    mask: SeenMask | None = None
    mask_error: str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The image and, where there is one, its mask."""
        return tuple(path for path in (self.record.path, self.record.mask) if path is not None)


def look(
    records: Iterable[ImageRecord], *, on_image: Callable[[ImageRecord], None] | None = None
) -> tuple[list[SeenImage], dict[ImageRecord, str]]:
    """Look at every image once: those that can be read, and what was wrong with the others."""
    seen: list[SeenImage] = []
    broken: dict[ImageRecord, str] = {}
    for record in records:
        try:
            seen.append(_look_at(record))
        except ImageError as error:
            broken[record] = str(error)
        if on_image is not None:
            on_image(record)
    return seen, broken


def region_widths(mask: Mask) -> tuple[float, ...]:
    """The width of each of R regions in pixels: the diameter of the largest circle inside it.

    A line of 2 pixels has width 2 however long it is. The mask is doubled for this, so that even
    widths are exact; the border of the image bounds a region as background does.

    >>> mask = np.zeros((20, 40), bool)
    >>> mask[2:4, 1:39] = mask[8:18, 5:15] = True
    >>> region_widths(mask)
    (2.0, 10.0)
    """
    labels, count = label_regions(mask)
    widths = []
    for label, (rows, columns) in enumerate(find_objects(labels, max_label=count), start=1):
        own = np.pad((labels[rows, columns] == label).astype(np.uint8), 1)
        double = own.repeat(2, axis=0).repeat(2, axis=1)
        inside = cv2.distanceTransform(double, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        widths.append(float(inside.max()))
    return tuple(widths)


def _look_at(record: ImageRecord) -> SeenImage:
    image = read_image(record.path)
    gray = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
    mean, deviation = cv2.meanStdDev(gray)
    mask, mask_error = None, None
    if record.mask is not None:
        try:
            mask = _look_at_mask(record, gray)
        except (MaskError, ImageError) as error:
            mask_error = str(error)
    return SeenImage(
        record=record,
        size=image.shape[:2],
        mean=float(mean[0, 0]),
        contrast=float(deviation[0, 0]),
        bytes=sha256_file(record.path),
        pixels=_pixel_hash(image),
        thumbnail=thumbnail(image),
        mask=mask,
        mask_error=mask_error,
    )


def _look_at_mask(record: ImageRecord, gray: NDArray[np.uint8]) -> SeenMask:
    assert record.mask is not None
    mask = read_mask(record.mask, values=record.mask_values)
    fits = mask.shape == gray.shape and mask.any() and not mask.all()
    return SeenMask(
        size=mask.shape,
        marked=int(mask.sum()),
        between=_between(record.mask) if record.mask_values == "white" else 0,
        widths=region_widths(mask),
        standing=standing(gray, mask) if fits else None,
    )


def _between(path: Path) -> int:
    """Pixels of a mask, or of a folder of masks, that are neither black nor white."""
    files = image_files(path) if path.is_dir() else [path]
    planes = (read_image(file)[..., 0] for file in files)
    return sum(int(((v > 0) & (v < 255)).sum()) for v in planes if v.max() > 1)


def _pixel_hash(image: Image) -> str:
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()
