"""Many cells, one table: which design suits these images, and how methods compare on test images.

`compare_designs` trains and measures a grid of one recipe on validation images; `cells`,
`train_cell` and `attempt` are its parts. `run_benchmark` trains ours and the peers by protocols and
measures them on test images, by a `BenchmarkFile`.
"""

from anomaly_u2net.benchmark.cells import Cell, cells
from anomaly_u2net.benchmark.designs import compare_designs
from anomaly_u2net.benchmark.frontier import draw_frontier
from anomaly_u2net.benchmark.jobs import lacking_images
from anomaly_u2net.benchmark.methods import BenchmarkFile, load_benchmark
from anomaly_u2net.benchmark.pool import here, in_processes, on_ray
from anomaly_u2net.benchmark.report import BenchmarkTable
from anomaly_u2net.benchmark.run import Failed, Trained, attempt, train_cell
from anomaly_u2net.benchmark.suite import (
    benchmark_without_images,
    check_benchmark,
    has_cells,
    run_benchmark,
)
from anomaly_u2net.benchmark.table import DesignTable, Row, Spread

__all__ = [
    "BenchmarkFile",
    "BenchmarkTable",
    "Cell",
    "DesignTable",
    "Failed",
    "Row",
    "Spread",
    "Trained",
    "attempt",
    "benchmark_without_images",
    "cells",
    "check_benchmark",
    "compare_designs",
    "draw_frontier",
    "has_cells",
    "here",
    "in_processes",
    "lacking_images",
    "load_benchmark",
    "on_ray",
    "run_benchmark",
    "train_cell",
]
