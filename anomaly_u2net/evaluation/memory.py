"""How much memory an evaluation needs, how much there is, and the engine that follows.

N images of a category, of them G good; K defect types, V corners of a curve.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from PIL import Image as Pillow

from anomaly_u2net.data.images import read_image, read_mask
from anomaly_u2net.errors import InputError
from anomaly_u2net.evaluation.predictions import by_category
from anomaly_u2net.metrics.by_image import CORNERS
from anomaly_u2net.metrics.image_histograms import DEFECT_BIN_BYTES, GOOD_BIN_BYTES, KEY_BITS
from anomaly_u2net.metrics.keys import score_keys
from anomaly_u2net.types import GOOD, ImageRecord

Engine: TypeAlias = Literal["exact", "streaming"]

#: Bytes that the exact engine holds for each pixel of a category: the map (4), the mask (1), a
#: sorted copy of the good ones (4), and what Python adds.
PER_PIXEL = 10
#: Bytes more for each defect pixel, which is sorted by score and by region. Measured in all, per
#: pixel: 11 where 1 % of the pixels are defective, 20 where 10 % are, 67 where 40 % are; without
#: intervals 10, 18 and 50.
PER_DEFECT_PIXEL = 150
#: Bytes of the streaming engine's histograms, whatever the number of images, and of the numbers
#: made of them.
STREAM_STATE = 160_000_000
#: Bytes in which 1000 resamples of one number are made, whatever the number of images.
RESAMPLING = 50_000_000
#: The bins that a score in 0..1 can fall into; an image has no more of them than pixels.
_UNIT_BINS = int(np.ptp(score_keys(np.array([0, 1], np.float32), bits=KEY_BITS))) + 1

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_UNITS |= {f"{unit}i": 1 << (10 * power) for power, unit in enumerate("kmgt", start=1)}


class ImageSize(NamedTuple):
    """What an image costs by: its pixels, the defect pixels among them, and its defect type."""

    pixels: int
    defect: int
    label: str


@dataclass(frozen=True, slots=True)
class Memory:
    """What an evaluation would hold at a time, and what it may hold, in bytes.

    needed: by the exact engine. streamed: by the streaming engine, intervals included.
    stated: whether ``allowed`` was asked for; else it is half of the memory that was available.
    """

    needed: int
    streamed: int
    allowed: int
    stated: bool

    @property
    def engine(self) -> Engine:
        """Exact when it fits, else streaming."""
        return "exact" if self.needed <= self.allowed else "streaming"

    @property
    def pixel_intervals(self) -> bool:
        """Whether that engine can give pixel numbers an interval within what is allowed."""
        return self.engine == "exact" or self.streamed <= self.allowed


def plan_memory(
    records: Iterable[ImageRecord],
    *,
    allowed: int | None = None,
    intervals: bool = True,
    models: int = 1,
) -> Memory:
    """Compare what the largest category of ``records`` needs with ``allowed`` bytes.

    models: how many are measured one after another, the numbers of all by image kept to the end.
    Sizes come from the headers of the image files; the masks are read, as large defects take far
    more than good pixels do. Raises `ImageError` for what is not an image, `MaskError` for what is
    not a mask, InputError for fewer than 1 byte.
    """
    if allowed is not None and allowed < 1:
        raise InputError(f"expected 1 byte of memory or more, got {allowed}")
    needed, streamed = [0], [0]
    for _, own in by_category(records):
        sizes = [_size(record) for record in own]
        kept = (models - 1) * len(sizes) * _row_bytes(sizes)
        needed.append(exact_bytes(sizes, intervals=intervals) + kept)
        streamed.append(streamed_bytes(sizes) + kept)
    return Memory(
        needed=max(needed),
        streamed=max(streamed),
        allowed=available_memory() // 2 if allowed is None else allowed,
        stated=allowed is not None,
    )


def exact_bytes(images: Sequence[ImageSize], *, intervals: bool = True) -> int:
    """Bytes that the exact engine takes for the N images of one category."""
    pixels, defect = sum(one.pixels for one in images), sum(one.defect for one in images)
    return PER_PIXEL * pixels + PER_DEFECT_PIXEL * defect + intervals * _interval_bytes(images)


def streamed_bytes(images: Sequence[ImageSize]) -> int:
    """Bytes that the streaming engine takes for the N images of one category, and their intervals.

    Of an image's own histogram the largest possible size counts: every bin occupied.
    """
    bins = sum(
        GOOD_BIN_BYTES * min(one.pixels - one.defect, _UNIT_BINS)
        + DEFECT_BIN_BYTES * min(one.defect, _UNIT_BINS)
        for one in images
    )
    return STREAM_STATE + bins + _interval_bytes(images)


def _interval_bytes(images: Sequence[ImageSize]) -> int:
    """A row of counts for each image, again for each type it is measured with, and while drawing."""
    good = sum(one.label == GOOD for one in images)
    types = len({one.label for one in images} - {GOOD})
    rows = 2 * len(images) + types * good + (len(images) - good)
    return RESAMPLING + rows * _row_bytes(images)


def _row_bytes(images: Sequence[ImageSize]) -> int:
    """float64 at V corners: three counts of the pixel curve, two of that of the image scores."""
    defective = sum(one.label != GOOD for one in images)
    return 8 * (3 * CORNERS + 2 * min(CORNERS, 2 * defective))


def _size(record: ImageRecord) -> ImageSize:
    defect = (
        0
        if record.mask is None
        else int(np.count_nonzero(read_mask(record.mask, values=record.mask_values)))
    )
    return ImageSize(_pixels(record.path), defect, record.label)


def available_memory() -> int:
    """Bytes that can be taken without swapping: what Linux says, else half of the machine's.

    A limit of the control group (containers) counts where it is lower.
    """
    limits = []
    info = Path("/proc/meminfo")
    if info.is_file():
        found = re.search(r"^MemAvailable:\s+(\d+) kB", info.read_text(), flags=re.MULTILINE)
        limits += [int(found[1]) << 10] if found else []
    group = Path("/sys/fs/cgroup/memory.max")
    if group.is_file() and (text := group.read_text().strip()).isdigit():
        limits.append(int(text))
    if not limits:
        if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
            raise InputError(
                "this system does not say how much memory it has: state what may be used, as "
                "--memory 4GiB"
            )
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    return min(limits)


def parse_bytes(text: str) -> int:
    """A number of bytes as people write it; raises InputError for anything else.

    >>> parse_bytes("8GiB"), parse_bytes("1.5 GB"), parse_bytes("500m"), parse_bytes("4096")
    (8589934592, 1500000000, 500000000, 4096)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?", text.strip().lower())
    if found is None or found[2] not in _UNITS:
        raise InputError(f"{text!r} is no amount of memory: write it as 8GiB, 500MB or in bytes")
    return int(float(found[1]) * _UNITS[found[2]])


def format_bytes(number: int) -> str:
    """Bytes for people.

    >>> format_bytes(8 << 30), format_bytes(1536)
    ('8.0 GiB', '1.5 KiB')
    """
    size, units = float(number), iter(("B", "KiB", "MiB", "GiB"))
    unit = next(units)
    for larger in units:
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.1f} {unit}"


def _pixels(path: Path) -> int:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Pillow.DecompressionBombWarning)  # only the header
            with Pillow.open(path) as image:
                return image.width * image.height
    except (OSError, ValueError, SyntaxError, Pillow.DecompressionBombError):
        height, width = read_image(path).shape[:2]  # which also says what is wrong with the file
        return height * width
