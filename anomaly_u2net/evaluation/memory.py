"""How much memory an exact evaluation needs, how much there is, and the engine that follows."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from PIL import Image as Pillow

from anomaly_u2net.data.images import read_image, read_mask
from anomaly_u2net.errors import InputError
from anomaly_u2net.evaluation.predictions import by_category
from anomaly_u2net.types import ImageRecord

Engine: TypeAlias = Literal["exact", "streaming"]

#: Bytes that the exact engine holds for each pixel of a category: the map (4), the mask (1), a
#: sorted copy of the good ones (4), and what Python adds.
PER_PIXEL = 10
#: Bytes more for each defect pixel, which is sorted by score and by region. Measured in all, per
#: pixel: 11 where 1 % of the pixels are defective, 20 where 10 % are, 67 where 40 % are; without
#: intervals 10, 18 and 50.
PER_DEFECT_PIXEL = 150
#: Bytes that the intervals take for each image, in columns of 4096 corners in float64, and for each
#: image and defect type. Measured: 18.5 columns with one type, 25.2 with four.
PER_IMAGE = 16 * 4096 * 8
PER_IMAGE_AND_TYPE = 3 * 4096 * 8

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_UNITS |= {f"{unit}i": 1 << (10 * power) for power, unit in enumerate("kmgt", start=1)}


@dataclass(frozen=True, slots=True)
class Memory:
    """What an exact evaluation would hold at a time, and what it may hold, in bytes.

    stated: whether ``allowed`` was asked for; else it is half of the memory that was available.
    """

    needed: int
    allowed: int
    stated: bool

    @property
    def engine(self) -> Engine:
        """Exact when it fits, else streaming."""
        return "exact" if self.needed <= self.allowed else "streaming"


def plan_memory(
    records: Iterable[ImageRecord], *, allowed: int | None = None, intervals: bool = True
) -> Memory:
    """Compare what the largest category of ``records`` needs with ``allowed`` bytes.

    Sizes come from the headers of the image files; the masks are read, as large defects take far
    more than good pixels do. Raises `ImageError` for what is not an image, `MaskError` for what is
    not a mask, InputError for fewer than 1 byte.
    """
    if allowed is not None and allowed < 1:
        raise InputError(f"expected 1 byte of memory or more, got {allowed}")
    needed = [_needed(own, intervals=intervals) for _, own in by_category(records)]
    return Memory(
        needed=max(needed, default=0),
        allowed=available_memory() // 2 if allowed is None else allowed,
        stated=allowed is not None,
    )


def _needed(records: list[ImageRecord], *, intervals: bool) -> int:
    """Bytes that the exact engine takes for the records of one category."""
    pixels = sum(_pixels(record.path) for record in records)
    masks = [record.mask for record in records if record.mask is not None]
    defect = sum(int(np.count_nonzero(read_mask(mask))) for mask in masks)
    types = len({record.label for record in records if record.defective})
    per_image = (PER_IMAGE + PER_IMAGE_AND_TYPE * types) * intervals
    return PER_PIXEL * pixels + PER_DEFECT_PIXEL * defect + per_image * len(records)


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
