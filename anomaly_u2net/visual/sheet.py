"""Many pictures on one sheet."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from anomaly_u2net.errors import InputError
from anomaly_u2net.types import Image
from anomaly_u2net.visual.checks import check_image

_PAPER = (28, 30, 34)
_GAP = 4


def sheet(panels: Sequence[Image], *, columns: int, cell: int) -> Image:
    """A contact sheet of N pictures, uint8 (h, w, 3), row by row, ``columns`` a row.

    panels: N pictures uint8 (H, W, 3), sizes may differ. cell: pixels; each picture is scaled, its
    shape kept, until its longer side is ``cell``. A row is as high as its highest picture.

    Raises InputError without pictures, for one of another type, columns below 1 or cell below 8.

    >>> sheet([np.zeros((20, 40, 3), np.uint8)] * 3, columns=2, cell=40).shape
    (52, 92, 3)
    """
    if not panels:
        raise InputError("expected at least one picture for a sheet, got none")
    if columns < 1 or cell < 8:
        raise InputError(
            f"expected 1 column or more and cells of 8 pixels or more, got {columns} columns "
            f"and cells of {cell} pixels"
        )
    fitted = [
        _fit(check_image(picture, name=f"picture {index}"), cell)
        for index, picture in enumerate(panels)
    ]
    columns = min(columns, len(fitted))
    rows = [fitted[start : start + columns] for start in range(0, len(fitted), columns)]
    width = columns * cell + (columns + 1) * _GAP
    height = sum(_height(row) for row in rows) + (len(rows) + 1) * _GAP
    page = np.full((height, width, 3), _PAPER, np.uint8)
    top = _GAP
    for row in rows:
        for column, picture in enumerate(row):
            high, wide = picture.shape[:2]
            y = top + (_height(row) - high) // 2
            x = _GAP + column * (cell + _GAP) + (cell - wide) // 2
            page[y : y + high, x : x + wide] = picture
        top += _height(row) + _GAP
    return page


def _height(row: list[Image]) -> int:
    return max(picture.shape[0] for picture in row)


def _fit(picture: Image, cell: int) -> Image:
    scale = cell / max(picture.shape[:2])
    height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
    how = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(picture, (width, height), interpolation=how), np.uint8)
