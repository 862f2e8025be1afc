"""The picture of a table: time per image against quality, and which designs nothing beats in both."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from anomaly_u2net.benchmark.table import DesignTable
from anomaly_u2net.evaluation.table import Measured
from anomaly_u2net.files import write_aside
from anomaly_u2net.resources import require_extra

#: Title and column of the table.
PANELS = (
    ("AUPRO@0.30", "aupro_0.30"),
    ("pixel mIoU (defect and background) at the best F1 threshold", "pixel_miou"),
)
#: Where the axes of values are marked, and what is missing to 1 at least, so that 1 has a place.
LEVELS = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
LEAST = 1e-3
#: Colours of designs on the frontier, and of the others.
ON_IT, BESIDE = "#c0392b", "#555555"


@dataclass(frozen=True, slots=True)
class Point:
    """A design. milliseconds: per image. value: the mean over its seeds, as are low and high.

    seeds: the value of each. low and high are those of the seeds' intervals, None without.
    """

    design: str
    milliseconds: float
    value: float
    seeds: tuple[float, ...]
    low: float | None = None
    high: float | None = None


def points(table: DesignTable, column: str) -> list[Point]:
    """The designs of ``table`` whose finished cells all have a time and a number in ``column``."""
    cells: dict[str, list[tuple[float, Measured]]] = {}
    undefined = set()
    for row in table.rows:
        time, number = row.numbers["milliseconds"], row.numbers[column]
        if time is not None and number is not None:
            cells.setdefault(row.cell.design, []).append((time.value, number))
        elif row.finished:
            undefined.add(row.cell.design)
    return [
        Point(
            design,
            milliseconds=mean(time for time, _ in found),
            value=mean(number.value for _, number in found),
            seeds=tuple(number.value for _, number in found),
            low=_mean_of(number.low for _, number in found),
            high=_mean_of(number.high for _, number in found),
        )
        for design, found in cells.items()
        if design not in undefined
    ]


def frontier(designs: Iterable[Point]) -> list[Point]:
    """Those that no other beats in one of time and value without losing in the other, fastest first.

    >>> fast, slow, beaten = Point("a", 5, 0.8, ()), Point("b", 9, 0.9, ()), Point("c", 7, 0.7, ())
    >>> [point.design for point in frontier([beaten, slow, fast])]
    ['a', 'b']
    """
    best: list[Point] = []
    for point in sorted(designs, key=lambda point: (point.milliseconds, -point.value)):
        if not best or point.value > best[-1].value:
            best.append(point)
    return best


def draw_frontier(table: DesignTable, path: str | Path) -> None:
    """Write the picture of ``table`` as PNG, whole or not at all.

    A numbered disc is a design's mean over its seeds, its bar the mean of their intervals, a dot one
    seed; the line joins the `frontier`. Values near 1 are drawn farther apart, by the logarithm of
    what is missing to 1. Needs matplotlib.
    """
    require_extra("report", "matplotlib")
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, LogLocator

    names = list(dict.fromkeys(row.cell.design for row in table.rows))
    figure = Figure(figsize=(10, max(3.6, 0.2 * len(names))), layout="constrained")
    panels = figure.subplots(1, len(PANELS))
    for axes, (title, column) in zip(panels, PANELS, strict=True):
        designs = points(table, column)
        best = frontier(designs)
        axes.plot(
            [p.milliseconds for p in best], [p.value for p in best], color="#bbbbbb", zorder=1
        )
        for point in designs:
            _draw(axes, point, names.index(point.design) + 1, ON_IT if point in best else BESIDE)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("milliseconds per image, one CPU thread", fontsize=8)
        axes.set_xscale("log")
        axes.set_yscale("function", functions=(_spread, _gather))
        shown = [limit for p in designs for limit in (p.low, p.value, p.high) if limit is not None]
        if shown:
            bottom, top = _spread(min(shown)), _spread(max(shown))
            room = 0.08 * (top - bottom) + 0.02
            axes.set_ylim(_gather(bottom - room), _gather(top + room))
        axes.yaxis.set_major_locator(FixedLocator(LEVELS))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.tick_params(labelsize=8)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        axes.margins(x=0.1)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    legend = "\n".join(f"{number}  {name}" for number, name in enumerate(names, start=1))
    panels[-1].text(1.05, 1, legend, transform=panels[-1].transAxes, va="top", fontsize=8)
    with write_aside(path) as aside:
        figure.savefig(aside, dpi=150, format="png")


def _draw(axes: Any, point: Point, number: int, color: str) -> None:
    if point.low is not None and point.high is not None:
        axes.vlines(point.milliseconds, point.low, point.high, color=color, lw=1)
    axes.scatter([point.milliseconds] * len(point.seeds), point.seeds, s=8, color=color, zorder=2)
    axes.scatter(point.milliseconds, point.value, s=90, color=color, zorder=3, clip_on=False)
    axes.annotate(
        str(number), (point.milliseconds, point.value), ha="center", va="center", color="white",
        fontsize=6.5, zorder=4,
    )  # fmt: skip


def _spread(value: Any) -> Any:
    """How high a number up to 1 is drawn."""
    return -np.log(np.maximum(1 - np.asarray(value), LEAST))


def _gather(height: Any) -> Any:
    return 1 - np.exp(-np.asarray(height))


def _mean_of(limits: Iterable[float | None]) -> float | None:
    """The mean of ``limits``, None where one of them is."""
    found = list(limits)
    known = [limit for limit in found if limit is not None]
    return mean(known) if len(known) == len(found) else None
