"""The picture of a table: time per image against quality, and which designs nothing beats in both."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from anomaly_u2net.benchmark.table import DesignTable
from anomaly_u2net.evaluation.table import Measured
from anomaly_u2net.files import write_aside
from anomaly_u2net.resources import require_extra


def iou_of_f1(f1: float) -> float:
    """The IoU at the threshold where F1 is ``f1``: F1 / (2 - F1).

    >>> iou_of_f1(0.8)  # 2 hits, 1 miss, no false ones
    0.6666666666666667
    """
    return f1 / (2 - f1)


#: Title, column of the table, and what is drawn of it.
PANELS: tuple[tuple[str, str, Callable[[float], float]], ...] = (
    ("AUPRO@0.30", "aupro_0.30", lambda value: value),
    ("pixel IoU at the best threshold", "pixel_f1_max", iou_of_f1),
)


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


def points(
    table: DesignTable, column: str, *, change: Callable[[float], float] = lambda value: value
) -> list[Point]:
    """The designs of ``table`` whose finished cells all have a time and a number in ``column``.

    change: a rising function that is applied to the numbers.
    """
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
            value=mean(change(number.value) for _, number in found),
            seeds=tuple(change(number.value) for _, number in found),
            low=_mean_of((number.low for _, number in found), change),
            high=_mean_of((number.high for _, number in found), change),
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

    A disc is a design's mean over its seeds, its bar the mean of their intervals, a dot one seed;
    the line joins the `frontier`. With several categories the IoU is that of their mean F1-max.
    Needs matplotlib.
    """
    require_extra("report", "matplotlib")
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, (title, column, change) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        designs = points(table, column, change=change)
        best = frontier(designs)
        axes.plot(
            [p.milliseconds for p in best], [p.value for p in best], color="#bbbbbb", zorder=1
        )
        for point in designs:
            color = "#c0392b" if point in best else "#555555"
            if point.low is not None and point.high is not None:
                axes.vlines(point.milliseconds, point.low, point.high, color=color, lw=1)
            times = [point.milliseconds] * len(point.seeds)
            axes.scatter(times, point.seeds, s=8, color=color, zorder=2)
            axes.scatter(point.milliseconds, point.value, s=36, color=color, zorder=3)
            axes.annotate(
                point.design,
                (point.milliseconds, point.value),
                xytext=(5, 4),
                textcoords="offset points",
                fontsize=7,
                color=color,
            )
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("milliseconds per image, one CPU thread", fontsize=8)
        axes.set_xscale("log")
        axes.tick_params(labelsize=8)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        axes.margins(x=0.2)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    with write_aside(path) as aside:
        figure.savefig(aside, dpi=150, format="png")


def _mean_of(limits: Iterable[float | None], change: Callable[[float], float]) -> float | None:
    """The mean of ``limits``, None where one of them is."""
    known = list(limits)
    return None if None in known else mean(change(limit) for limit in known if limit is not None)
