"""Time against quality, of a table made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from anomaly_u2net.benchmark import DesignTable, Row, cells, draw_frontier
from anomaly_u2net.benchmark.frontier import PANELS, Point, frontier, points
from anomaly_u2net.benchmark.table import COLUMNS, failed_row
from anomaly_u2net.evaluation import Measured
from anomaly_u2net.recipe import Recipe

RECIPE = Recipe.from_dict({"name": "mine"})
GRID = cells(RECIPE, vary={"model.arch": ["u2netp", "unet", "dilated"]}, seeds=[0, 1])


def made() -> DesignTable:
    """u2netp twice, unet once, dilated without a time and failed."""

    def row(index: int, ms: float | None, aupro: Measured, miou: float) -> Row:
        numbers = dict.fromkeys(COLUMNS) | {"aupro_0.30": aupro, "pixel_miou": Measured(miou)}
        return Row(GRID[index], numbers | {"milliseconds": None if ms is None else Measured(ms)})

    by_cell = {(cell.design, cell.seed): index for index, cell in enumerate(GRID)}
    rows = [
        row(by_cell["u2netp", 0], 60, Measured(0.8, 0.7, 0.85), 0.5),
        row(by_cell["u2netp", 1], 80, Measured(0.9, 0.8, 0.95), 1.0),
        row(by_cell["unet", 0], 10, Measured(0.7), 0.8),
        failed_row(GRID[by_cell["unet", 1]], "out of memory"),
        row(by_cell["dilated", 0], None, Measured(0.99), 0.9),
    ]
    return DesignTable(tuple(rows), RECIPE.digest, images=12)


def test_a_point_is_the_mean_over_seeds() -> None:
    found = {point.design: point for point in points(made(), "aupro_0.30")}
    assert list(found) == ["u2netp", "unet"]
    whole, alone = found["u2netp"], found["unet"]
    assert (whole.milliseconds, whole.seeds) == (70, (0.8, 0.9))
    assert [whole.value, whole.low, whole.high] == pytest.approx([0.85, 0.75, 0.9])
    assert (alone.value, alone.low, alone.high) == (0.7, None, None)


def test_a_design_with_an_undefined_number_is_left_out() -> None:
    unet = next(cell for cell in GRID if (cell.design, cell.seed) == ("unet", 1))
    half = Row(unet, dict.fromkeys(COLUMNS) | {"milliseconds": Measured(9)})
    table = DesignTable((*made().rows, half), RECIPE.digest, images=12)
    assert [point.design for point in points(table, "aupro_0.30")] == ["u2netp"]


def test_the_second_panel_is_miou() -> None:
    assert [column for _, column in PANELS] == ["aupro_0.30", "pixel_miou"]
    found = points(made(), PANELS[1][1])[0]
    assert (found.seeds, found.value) == ((0.5, 1.0), 0.75)


def test_the_frontier_leaves_out_what_is_beaten() -> None:
    designs = [
        Point(name, time, value, ())
        for name, time, value in [
            ("slow and best", 30, 0.9),
            ("beaten", 20, 0.5),
            ("fast", 10, 0.6),
            ("as fast and worse", 10, 0.55),
            ("slower and no better", 40, 0.9),
        ]
    ]
    assert [point.design for point in frontier(designs)] == ["fast", "slow and best"]
    assert frontier([]) == []


def test_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "compare.png"
    draw_frontier(made(), path)
    picture = np.asarray(Pillow.open(path).convert("RGB")).astype(int)
    height, width = picture.shape[:2]
    assert width > 2 * height
    red = (picture[..., 0] > 150) & (picture[..., 1] < 90)  # what is on the frontier
    assert red[:, : width // 2].any()
    assert red[:, width // 2 :].any()
    assert [file.name for file in tmp_path.iterdir()] == ["compare.png"]
