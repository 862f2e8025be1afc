"""Miniatures of data sets: files of a few pixels at the paths that the true sets have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from anomaly_u2net.data.index import index_dataset
from anomaly_u2net.types import ImageRecord

#: (path, value of the pixels in the upper left quarter); the rest is 0.
Files = dict[str, int]


@pytest.fixture
def miniature(tmp_path: Path) -> Callable[[Files], Path]:
    """Write gray images of 8 x 8 pixels under a new root and return it."""

    def write(files: Files) -> Path:
        root = tmp_path / "set"
        for name, value in files.items():
            pixels = np.zeros((8, 8), np.uint8)
            pixels[:4, :4] = value
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Pillow.fromarray(pixels).save(path)
        return root

    return write


@pytest.fixture
def rows() -> Callable[..., list[tuple[str, ...]]]:
    """(category, split, label, image, mask, group) of a set's records, paths below the root."""

    def read(root: Path, card: str) -> list[tuple[str, ...]]:
        def name(path: Path | None) -> str:
            return path.relative_to(root).as_posix() if path else ""

        def row(r: ImageRecord) -> tuple[str, ...]:
            return r.category, r.split, r.label, name(r.path), name(r.mask), r.group or ""

        return [row(record) for record in index_dataset(root, card=card)]

    return read
