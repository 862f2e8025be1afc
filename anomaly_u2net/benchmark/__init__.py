"""Which design suits these images: many cells by one recipe, one table.

`compare_designs` trains and measures a grid; `cells`, `train_cell` and `attempt` are its parts.
"""

from anomaly_u2net.benchmark.cells import Cell, cells
from anomaly_u2net.benchmark.designs import compare_designs
from anomaly_u2net.benchmark.frontier import draw_frontier
from anomaly_u2net.benchmark.run import Failed, Trained, attempt, train_cell
from anomaly_u2net.benchmark.table import DesignTable, Row, Spread

__all__ = [
    "Cell",
    "DesignTable",
    "Failed",
    "Row",
    "Spread",
    "Trained",
    "attempt",
    "cells",
    "compare_designs",
    "draw_frontier",
    "train_cell",
]
