"""How quick the exact pixel metrics are, next to anomalib, scikit-learn and one plain sort.

All contestants run in this process, one thread each, on the same maps, in turn, and the medians
are compared; see README.md beside this file.
"""

from __future__ import annotations

import argparse
import statistics
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest

from anomaly_u2net.metrics import aupro, pixel_auroc, pixel_curve


class Times(NamedTuple):
    """Medians over the repeats, in seconds."""

    wall: float
    cpu: float
    value: Any


def make_set(count: int, size: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Maps float32 (N, H, W) in 0..1 and masks uint8: noise on three scales, blobs in odd images.

    A blob's hill on the map is shifted from its mask and often too weak, so no metric is trivial.
    """
    rng = np.random.default_rng([seed, count, size])
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32) / size
    maps = np.empty((count, size, size), np.float32)
    masks = np.zeros((count, size, size), np.uint8)

    def noise(cells: int, amplitude: float) -> np.ndarray:
        grid = rng.standard_normal((cells, cells)).astype(np.float32)
        return amplitude * cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)

    for index in range(count):
        plane = 0.25 + noise(6, 0.05) + noise(24, 0.04) + noise(64, 0.02)
        plane += 0.01 * rng.standard_normal((size, size), dtype=np.float32)
        for _ in range(rng.integers(1, 6) if index % 2 else 0):
            x, y = rng.uniform(0.1, 0.9, 2)
            wide, high = rng.uniform(0.012, 0.085, 2)
            outline = ((columns - x) / wide) ** 2 + ((rows - y) / high) ** 2
            masks[index][outline + noise(32, 0.25) < 1] = 1
            dx, dy = rng.normal(0, 0.015, 2)
            hill = (columns - x - dx) ** 2 + (rows - y - dy) ** 2
            plane += rng.uniform(0.05, 0.45) * np.exp(-hill / (2 * max(wide, high) ** 2))
        maps[index] = np.clip(plane / 1.5, 0, 1)
    return maps, masks


def in_turn(contestants: dict[str, Callable[[], Any]], *, repeats: int) -> dict[str, Times]:
    """Run all contestants ``repeats`` times, turn by turn."""
    walls: dict[str, list[float]] = {name: [] for name in contestants}
    cpus: dict[str, list[float]] = {name: [] for name in contestants}
    values: dict[str, Any] = {}
    for _ in range(repeats):
        for name, contestant in contestants.items():
            wall, cpu = time.perf_counter(), time.process_time()
            values[name] = contestant()
            walls[name].append(time.perf_counter() - wall)
            cpus[name].append(time.process_time() - cpu)
    median = statistics.median
    return {n: Times(median(walls[n]), median(cpus[n]), values[n]) for n in contestants}


def anomalib_aupro(maps: np.ndarray, masks: np.ndarray) -> float:
    """The AUPRO of anomalib's metric class; its float32 sums are good to some 1e-4."""
    import torch
    from anomalib.metrics.aupro import _AUPRO

    torch.set_num_threads(1)
    metric = _AUPRO(fpr_limit=0.3)
    metric.update(torch.from_numpy(maps), torch.from_numpy(masks))
    return float(metric.compute())


def sklearn_auroc(maps: np.ndarray, masks: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(masks.ravel() > 0, maps.ravel()))


def all_five(maps: np.ndarray, masks: np.ndarray) -> tuple[float, ...]:
    """AUROC, AP, F1-max and AUPRO at 0.3 and 0.05, from one curve."""
    curve = pixel_curve(maps, masks)
    aupros = (curve.aupro(fpr_limit=limit) for limit in (0.3, 0.05))
    return curve.auroc(), curve.ap(), curve.f1_max(), *aupros


def plain_sort(maps: np.ndarray) -> None:
    np.sort(maps, axis=None)


def peak_memory(task: Callable[[], Any]) -> int:
    """The most bytes ``task`` held at a time beside what was there before."""
    tracemalloc.start()
    try:
        task()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def compare(maps: np.ndarray, masks: np.ndarray, *, repeats: int) -> dict[str, float]:
    """Ratios of medians; above 1 we are quicker, but for the last two, which are our cost."""
    cv2.setNumThreads(1)
    anomalib_aupro(maps[:2], masks[:2])
    sklearn_auroc(maps[:2], masks[:2])
    times = in_turn(
        {
            "anomalib AUPRO": lambda: anomalib_aupro(maps, masks),
            "our AUPRO": lambda: aupro(maps, masks),
            "scikit-learn AUROC": lambda: sklearn_auroc(maps, masks),
            "our AUROC": lambda: pixel_auroc(maps, masks),
            "our five": lambda: all_five(maps, masks),
            "np.sort": lambda: plain_sort(maps),
        },
        repeats=repeats,
    )
    for name, (wall, cpu, value) in times.items():
        print(f"{name:20s} {wall:8.3f} s wall {cpu:8.3f} s CPU   {value}")
    assert abs(times["anomalib AUPRO"].value - times["our AUPRO"].value) < 1e-2
    assert abs(times["scikit-learn AUROC"].value - times["our AUROC"].value) < 1e-12
    memory = peak_memory(lambda: all_five(maps, masks))
    return {
        "AUPRO, anomalib / ours (wall)": times["anomalib AUPRO"].wall / times["our AUPRO"].wall,
        "AUROC, scikit-learn / ours (wall)": (
            times["scikit-learn AUROC"].wall / times["our AUROC"].wall
        ),
        "five metrics / np.sort (CPU)": times["our five"].cpu / times["np.sort"].cpu,
        "extra memory / maps": memory / maps.nbytes,
    }


@pytest.mark.filterwarnings("ignore")
def test_ours_is_well_ahead_of_anomalib_and_sklearn() -> None:
    pytest.importorskip("anomalib")
    pytest.importorskip("sklearn")
    ratios = compare(*make_set(100, 256), repeats=3)
    assert ratios["AUPRO, anomalib / ours (wall)"] > 5
    assert ratios["AUROC, scikit-learn / ours (wall)"] > 5
    assert ratios["extra memory / maps"] < 1.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="images")
    parser.add_argument("--size", type=int, default=256, help="pixels a side")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--maps", type=Path, help="a .npy of maps (N, H, W) to use instead")
    parser.add_argument("--masks", type=Path, help="the .npy of its masks")
    options = parser.parse_args()
    if (options.maps is None) != (options.masks is None):
        parser.error("--maps and --masks go together")
    if options.maps:
        maps, masks = np.load(options.maps), np.load(options.masks)
    else:
        maps, masks = make_set(options.count, options.size)
    print(f"{maps.shape} {maps.dtype}, {100 * (masks > 0).mean():.2f} % defect pixels")
    for name, ratio in compare(maps, masks, repeats=options.repeats).items():
        print(f"{name:36s} {ratio:8.2f}")


if __name__ == "__main__":
    main()
