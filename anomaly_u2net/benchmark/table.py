"""The table of a grid: a row per cell, its mean over seeds, as text, CSV and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from anomaly_u2net.benchmark.cells import Cell
from anomaly_u2net.evaluation.table import LEVEL, RESAMPLES, Measured, Numbers
from anomaly_u2net.files import write_json, write_text

#: Column → its title and how a number of it is written.
COSTS = {
    "parameters": ("parameters", ",.0f"),
    "gmac": ("GMAC", ".2f"),
    "milliseconds": ("ms per image", ".1f"),
    "minutes": ("minutes", ".1f"),
    "steps": ("steps", ".0f"),
}
#: The columns whose numbers have intervals. ``…_difference`` is to the first design.
QUALITY = {
    "image_auroc": ("image AUROC", ".3f"),
    "pixel_ap": ("pixel AP", ".3f"),
    "aupro_0.30": ("AUPRO@0.30", ".3f"),
    "aupro_0.05": ("AUPRO@0.05", ".3f"),
    "pixel_f1_max": ("pixel F1-max", ".3f"),
    "pixel_miou": ("pixel mIoU", ".3f"),
    "aupro_0.30_difference": ("Δ AUPRO@0.30", "+.3f"),
    "pixel_ap_difference": ("Δ pixel AP", "+.3f"),
}
COLUMNS = COSTS | QUALITY


@dataclass(frozen=True, slots=True)
class Row:
    """One cell: its numbers by the names of `COLUMNS`, ``None`` where undefined.

    error: why the cell failed (no numbers then), or why it has no difference.
    """

    cell: Cell
    numbers: Numbers
    error: str | None = None

    @property
    def finished(self) -> bool:
        return any(number is not None for number in self.numbers.values())


@dataclass(frozen=True, slots=True)
class Spread:
    """One design over S seeds: mean and standard deviation (S - 1 in the denominator).

    ``None`` where a number is undefined for any finished seed; std also for a single one.
    """

    design: str
    seeds: int
    mean: dict[str, float | None]
    std: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class DesignTable:
    """What `compare_designs` found. recipe_hash: of the recipe before it was varied.

    images: validation images of the first finished cell. certified_within: 0 where every number is
    exact; else how far a streamed one can be from the exact one.
    """

    rows: tuple[Row, ...]
    recipe_hash: str
    images: int
    certified_within: float = 0.0

    @property
    def first(self) -> str:
        """The design that the differences are to."""
        return self.rows[0].cell.design

    @property
    def spreads(self) -> list[Spread]:
        """A mean over seeds per design; empty with one seed."""
        if len({row.cell.seed for row in self.rows}) == 1:
            return []
        designs = dict.fromkeys(row.cell.design for row in self.rows)
        return [
            _spread(name, [r for r in self.rows if r.cell.design == name and r.finished])
            for name in designs
        ]

    @property
    def caption(self) -> str:
        """What the numbers are and are not."""
        text = (
            f"Measured on {self.images} validation images, never on test images. {self._chosen}: the "
            f"test images are for the one you choose. In brackets: {100 * LEVEL:.0f} % intervals from "
            f"{RESAMPLES} resamples of images. Δ: the number minus that of {self.first} with the "
            "same seed, paired by image; an interval that holds 0 decides nothing. F1-max: at the "
            "best threshold for these images, an upper bound. mIoU: at that threshold, the mean of "
            "the IoU of the defect and that of the background. ms per image: median, one CPU thread, "
            "the exported ONNX with resizing, all cells side by side. Several categories: the mean "
            "over them."
        )
        if self.certified_within:
            text += (
                f" Streamed: pixel numbers are certified within {self.certified_within:.1e}, "
                "differences within twice that. mIoU needs all maps: n/a."
            )
        return text

    def header(self) -> list[str]:
        """The titles of the columns; ``error`` only where there is one."""
        return ["cell", "seed", *(title for title, _ in COLUMNS.values()), *self._error_column()]

    def lines(self) -> list[list[str]]:
        """The rows as text: value (low to high), and below them mean ± std over seeds."""
        error = self._error_column()
        lines = [
            [
                row.cell.design,
                str(row.cell.seed),
                *(_cell(row.numbers[name], form) for name, (_, form) in COLUMNS.items()),
                *([row.error or ""] if error else []),
            ]
            for row in self.rows
        ]
        lines += [
            [
                one.design,
                f"mean ± std of {one.seeds}",
                *(_plus(one.mean[n], one.std[n], form) for n, (_, form) in COLUMNS.items()),
                *([""] if error else []),
            ]
            for one in self.spreads
        ]
        return lines

    def to_markdown(self) -> str:
        """The table and its caption in Markdown."""
        rows = [self.header(), ["---", *["---:"] * (len(self.header()) - 1)], *self.lines()]
        text = "\n".join(f"| {' | '.join(escape(cell) for cell in row)} |" for row in rows)
        return f"{text}\n\n{self.caption}\n"

    def to_csv(self) -> str:
        """Numbers in full; of several seeds also rows whose seed is ``mean`` and ``std``."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        limits = [f"{name}{end}" for name in QUALITY for end in ("", "_low", "_high")]
        writer.writerow(["cell", "seed", *COSTS, *limits, "error"])
        for row in self.rows:
            writer.writerow([row.cell.design, row.cell.seed, *_full(row.numbers), row.error or ""])
        for one in self.spreads:
            for kind, found in (("mean", one.mean), ("std", one.std)):
                numbers = {n: None if v is None else Measured(v) for n, v in found.items()}
                writer.writerow([one.design, kind, *_full(numbers), ""])
        return file.getvalue()

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": "anomaly_u2net.designs/1",
            "split": "validation",
            "recipe_hash": self.recipe_hash,
            "images": self.images,
            "interval": {"level": LEVEL, "resamples": RESAMPLES},
            "certified_within": self.certified_within,
            "differences_to": self.first,
            "cells": [
                {
                    "cell": row.cell.design,
                    "seed": row.cell.seed,
                    "folder": row.cell.folder,
                    "recipe_hash": row.cell.recipe.digest,
                    "numbers": {k: n and n.to_dict() for k, n in row.numbers.items()},
                    "error": row.error,
                }
                for row in self.rows
            ],
            "over_seeds": [
                {"cell": one.design, "seeds": one.seeds, "mean": one.mean, "std": one.std}
                for one in self.spreads
            ],
        }

    def save(self, folder: str | Path) -> list[Path]:
        """Write compare.md, compare.csv and compare.json, each whole or not at all."""
        paths = [Path(folder) / f"compare.{kind}" for kind in ("md", "csv", "json")]
        write_text(paths[0], self.to_markdown())
        write_text(paths[1], self.to_csv())
        write_json(paths[2], self.to_dict())
        return paths

    @property
    def _chosen(self) -> str:
        """Whether weights were chosen on the images that are measured on."""
        designs = dict.fromkeys(row.cell.design for row in self.rows)
        chosen = dict.fromkeys(
            row.cell.design for row in self.rows if row.cell.recipe.train.select != "last"
        )
        if not chosen:
            return (
                "No weights were chosen on them (train.select: last), but the best of several "
                "designs looks a little better than it is"
            )
        if len(chosen) == len(designs):
            return (
                "The weights were chosen on the same images, so the numbers are a little high for "
                "every design"
            )
        return (
            f"The weights of {'; '.join(chosen)} were chosen on the same images, so these numbers "
            "are a little high, compared with the others' too"
        )

    def _error_column(self) -> list[str]:
        return ["error"] if any(row.error for row in self.rows) else []


def failed_row(cell: Cell, error: str) -> Row:
    """The row of a cell that has no numbers."""
    return Row(cell, dict.fromkeys(COLUMNS), error)


def _spread(design: str, rows: Sequence[Row]) -> Spread:
    means: dict[str, float | None] = {}
    stds: dict[str, float | None] = {}
    for name in COLUMNS:
        values = [n.value for row in rows if (n := row.numbers[name]) is not None]
        known = bool(values) and len(values) == len(rows)
        means[name] = mean(values) if known else None
        stds[name] = stdev(values) if known and len(values) > 1 else None
    return Spread(design, len(rows), means, stds)


def _cell(number: Measured | None, form: str) -> str:
    if number is None:
        return "n/a"
    if number.low is None or number.high is None:
        return format(number.value, form)
    return f"{number.value:{form}} ({number.low:{form}} to {number.high:{form}})"


def _plus(value: float | None, std: float | None, form: str) -> str:
    if value is None:
        return "n/a"
    return f"{value:{form}} ± {'n/a' if std is None else format(std, form.lstrip('+'))}"


def escape(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _full(numbers: Numbers) -> list[str]:
    """A field per cost, and value, low and high of each other number."""
    fields: list[float | None] = []
    for name in COLUMNS:
        number = numbers[name]
        found = [number.value, number.low, number.high] if number else [None, None, None]
        fields += found if name in QUALITY else found[:1]
    return ["n/a" if field is None else repr(field) for field in fields]
