"""The table of a grid, made by hand: seeds, undefined numbers, errors, files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from anomaly_u2net.benchmark import Cell, DesignTable, Row, cells
from anomaly_u2net.benchmark.table import COLUMNS, failed_row
from anomaly_u2net.evaluation import Measured
from anomaly_u2net.recipe import Recipe

RECIPE = Recipe.from_dict({"name": "mine"})
GRID = cells(RECIPE, vary={"model.arch": ["u2netp", "unet"]}, seeds=[0, 1])


def row(cell: Cell, **numbers: Measured) -> Row:
    return Row(cell, dict.fromkeys(COLUMNS) | numbers)


def made() -> DesignTable:
    """Two designs, two seeds; one cell failed."""
    rows = (
        row(
            GRID[0],
            parameters=Measured(1_131_181),
            pixel_ap=Measured(0.5, 0.4, 0.625),
            pixel_miou=Measured(0.75, 0.625, 0.875),
        ),
        row(GRID[1], pixel_ap=Measured(0.25), pixel_ap_difference=Measured(-0.25, -0.5, 0.125)),
        row(GRID[2], parameters=Measured(1_131_181), pixel_ap=Measured(0.75, 0.7, 0.8)),
        failed_row(GRID[3], "out of | memory\nhere"),
    )
    return DesignTable(rows, RECIPE.digest, images=12)


def test_text() -> None:
    table = made()
    lines = [dict(zip(table.header(), line, strict=True)) for line in table.lines()]
    assert [(line["cell"], line["seed"]) for line in lines] == [
        ("u2netp", "0"),
        ("unet", "0"),
        ("u2netp", "1"),
        ("unet", "1"),
        ("u2netp", "mean ± std of 2"),
        ("unet", "mean ± std of 1"),
    ]
    assert [line["pixel AP"] for line in lines] == [
        "0.500 (0.400 to 0.625)",
        "0.250",
        "0.750 (0.700 to 0.800)",
        "n/a",
        "0.625 ± 0.177",  # |0.75 - 0.5| / √2
        "0.250 ± n/a",
    ]
    assert [line["Δ pixel AP"] for line in lines[:2]] == ["n/a", "-0.250 (-0.500 to +0.125)"]
    assert [line["pixel mIoU"] for line in lines[:2]] == ["0.750 (0.625 to 0.875)", "n/a"]
    assert [line["parameters"] for line in lines[:2]] == ["1,131,181", "n/a"]
    assert [line["error"] for line in lines[3:5]] == ["out of | memory\nhere", ""]
    assert [r.finished for r in table.rows] == [True, True, True, False]


def test_one_seed_has_no_mean_and_no_error_no_column() -> None:
    table = DesignTable(made().rows[:2], RECIPE.digest, images=12)
    assert table.spreads == []
    assert len(table.lines()) == 2
    assert "error" not in table.header()


def test_a_number_undefined_for_one_seed_has_no_mean() -> None:
    table = DesignTable((made().rows[0], row(GRID[2])), RECIPE.digest, images=12)
    (spread,) = table.spreads
    assert (spread.seeds, spread.mean["pixel_ap"], spread.std["pixel_ap"]) == (1, 0.5, None)


@pytest.mark.parametrize(
    "part",
    [
        "12 validation images, never on test",
        "that of u2netp",
        "95 % intervals",
        "mIoU: at that threshold",
    ],
)
def test_the_caption_says_what_the_numbers_are(part: str) -> None:
    assert part in made().caption
    assert "  " not in made().caption
    assert "Streamed" not in made().caption


@pytest.mark.parametrize(
    ("select", "text"),
    [
        (
            ["pixel_ap", "aupro"],
            "test images. The weights were chosen on the same images, so the numbers are a little "
            "high for every design: the test images are for the one you choose.",
        ),
        (
            ["last", "pixel_ap"],
            "test images. The weights of train.select=pixel_ap were chosen on the same images, so "
            "these numbers are a little high, compared with the others' too: the test images are for",
        ),
    ],
)
def test_the_caption_says_whose_weights_were_chosen(select: list[str], text: str) -> None:
    grid = cells(RECIPE, vary={"train.select": select}, seeds=[0, 1])
    assert text in DesignTable(tuple(row(cell) for cell in grid), RECIPE.digest, images=12).caption


def test_the_caption_where_no_weights_were_chosen() -> None:
    last = RECIPE.with_overrides(["train.select=last"])
    grid = cells(last, vary={"model.arch": ["u2netp", "unet"]})
    caption = DesignTable(tuple(row(cell) for cell in grid), last.digest, images=12).caption
    assert "the numbers are a little high" not in caption
    assert "No weights were chosen on them (train.select: last), but the best of several" in caption


def test_the_caption_of_streamed_numbers() -> None:
    table = DesignTable(made().rows, RECIPE.digest, images=12, certified_within=0.0002)
    assert "Streamed: pixel numbers are certified within 2.0e-04, differences" in table.caption
    assert table.caption.endswith("mIoU needs all maps: n/a.")


def test_files(tmp_path: Path) -> None:
    table = made()
    names = [path.name for path in table.save(tmp_path / "out")]
    assert names == ["compare.md", "compare.csv", "compare.json"]
    text, commas, saved = ((tmp_path / "out" / name).read_text() for name in names)

    head, rule, *rows, empty, caption = text.rstrip("\n").split("\n")
    assert head.startswith("| cell | seed | parameters | GMAC | ms per image |")
    assert len({line.replace("\\|", "").count("|") for line in (head, rule, *rows)}) == 1
    assert len(rows) == 6
    assert rows[3].endswith("| out of \\| memory here |")
    assert (empty, caption) == ("", table.caption)

    found = list(csv.DictReader(commas.splitlines()[:4]))
    assert [line["pixel_ap_low"] for line in found] == ["0.4", "n/a", "0.7"]
    found = list(csv.DictReader(commas.split("\n", 1)[0:1] + commas.splitlines()[-4:]))
    assert [(line["cell"], line["seed"], line["pixel_ap"]) for line in found] == [
        ("u2netp", "mean", "0.625"),
        ("u2netp", "std", repr(0.125**0.5 / 2)),
        ("unet", "mean", "0.25"),
        ("unet", "std", "n/a"),
    ]

    content = json.loads(saved)
    assert content == table.to_dict()
    assert (content["split"], content["differences_to"]) == ("validation", "u2netp")
    assert content["cells"][0]["numbers"]["pixel_ap"] == {"value": 0.5, "low": 0.4, "high": 0.625}
    assert content["cells"][3]["error"] == "out of | memory\nhere"
    assert content["over_seeds"][0]["mean"]["pixel_ap"] == 0.625
