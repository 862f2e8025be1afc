from __future__ import annotations

import numpy as np
import pytest

from anomaly_u2net.errors import InputError
from anomaly_u2net.visual import sheet


def plain(height: int, width: int, level: int) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def test_row_by_row() -> None:
    page = sheet([plain(10, 10, level) for level in (50, 100, 150)], columns=2, cell=10)
    assert page.shape == (4 + 10 + 4 + 10 + 4, 4 + 10 + 4 + 10 + 4, 3)
    assert (page[4:14, 4:14] == 50).all()
    assert (page[4:14, 18:28] == 100).all()
    assert (page[18:28, 4:14] == 150).all()
    assert (page[18:28, 18:28] == page[0, 0]).all()


def test_sizes_may_differ_and_shapes_are_kept() -> None:
    page = sheet([plain(100, 50, 255), plain(5, 20, 255)], columns=2, cell=40)
    white = (page == 255).all(axis=-1)
    assert page.shape == (48, 92, 3)
    assert white[:, :46].sum() == 40 * 20
    assert white[:, 46:].sum() == 10 * 40


def test_no_empty_columns() -> None:
    assert sheet([plain(10, 10, 0)], columns=7, cell=10).shape == (18, 18, 3)


def test_bad_input() -> None:
    with pytest.raises(InputError, match="at least one picture"):
        sheet([], columns=2, cell=10)
    with pytest.raises(InputError, match="got 0 columns and cells of 10 pixels"):
        sheet([plain(9, 9, 0)], columns=0, cell=10)
    with pytest.raises(InputError, match="cells of 1 pixels"):
        sheet([plain(9, 9, 0)], columns=1, cell=1)
    with pytest.raises(InputError, match="picture 1: expected uint8 RGB"):
        sheet([plain(9, 9, 0), np.zeros((9, 9), np.uint8)], columns=1, cell=10)
