"""What the exact pixel metrics cost, next to the tools that people use and to one plain sort.

All contestants run in this process, one thread each, on the same maps, in turn, and the medians of
their CPU seconds are compared with the bars; see README.md beside this file.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest

from anomaly_u2net.metrics import aupro, pixel_ap, pixel_auroc, pixel_curve

Contestants = dict[str, Callable[[], Any]]


class Bar(NamedTuple):
    """A ratio of CPU seconds and what it has to be: at least, or at most, ``bar``, or only told."""

    over: str
    under: str
    at_least: float | None = None
    at_most: float | None = None


#: What is compared; a bar is missing where nothing was set beforehand.
BARS = (
    Bar("anomalib AUPRO", "our AUPRO", at_least=15),
    Bar("scikit-learn AUROC", "our AUROC", at_least=25),
    Bar("scikit-learn AP", "our AP"),
    Bar("torchmetrics AUROC", "our AUROC"),
    Bar("torchmetrics AP", "our AP"),
    Bar("adeval three", "our five"),
    Bar("our five", "np.sort", at_most=3),
)
MOST_MEMORY = 1.3  # of the maps

#: The packages that the others need; those missing are left out, and it is printed.
PEERS = ("anomalib", "sklearn", "torchmetrics", "adeval")


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


def in_turn(
    contestants: Contestants, *, repeats: int, peers: Contestants | None = None, turns: int = 1
) -> dict[str, Times]:
    """Run all contestants ``repeats`` times, turn by turn, ``peers`` in the first ``turns`` only."""
    slow = peers or {}
    everyone = slow | contestants
    walls: dict[str, list[float]] = {name: [] for name in everyone}
    cpus: dict[str, list[float]] = {name: [] for name in everyone}
    values: dict[str, Any] = {}
    for turn in range(repeats):
        for name, contestant in (everyone if turn < turns else contestants).items():
            wall, cpu = time.perf_counter(), time.process_time()
            values[name] = contestant()
            walls[name].append(time.perf_counter() - wall)
            cpus[name].append(time.process_time() - cpu)
    median = statistics.median
    return {n: Times(median(walls[n]), median(cpus[n]), values[n]) for n in everyone}


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


def sklearn_ap(maps: np.ndarray, masks: np.ndarray) -> float:
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(masks.ravel() > 0, maps.ravel()))


def torchmetrics_number(name: str, maps: np.ndarray, masks: np.ndarray) -> float:
    """``BinaryAUROC`` or ``BinaryAveragePrecision``, exact (``thresholds=None``); float32 sums."""
    import torch
    from torchmetrics import classification

    torch.set_num_threads(1)
    metric = getattr(classification, name)(thresholds=None)
    metric.update(torch.from_numpy(maps).flatten(), torch.from_numpy(masks).flatten() > 0)
    return float(metric.compute())


def adeval_numbers(maps: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    """adeval's AUROC, AP and AUPRO at its default of 1000 strips, in one call."""
    if "trapz" not in vars(np):
        vars(np)["trapz"] = np.trapezoid  # the name that adeval calls, gone from NumPy 2.4
    from adeval import auroc_aupr_aupro

    auroc, ap, pro = auroc_aupr_aupro(maps, masks)
    return {"AUROC": float(auroc), "AP": float(ap), "AUPRO@0.3": float(pro)}


def installed_peers() -> set[str]:
    """Those of `PEERS` that can be imported; the others are named on screen."""
    found = {name for name in PEERS if importlib.util.find_spec(name) is not None}
    for name in sorted(set(PEERS) - found):
        print(f"{name} is not installed and left out")
    return found


def peers_on(maps: np.ndarray, masks: np.ndarray, *, packages: set[str]) -> Contestants:
    """The other tools' tasks, each warmed up on two images."""
    tasks: dict[str, tuple[str, Callable[[np.ndarray, np.ndarray], Any]]] = {
        "anomalib AUPRO": ("anomalib", anomalib_aupro),
        "scikit-learn AUROC": ("sklearn", sklearn_auroc),
        "scikit-learn AP": ("sklearn", sklearn_ap),
        "torchmetrics AUROC": ("torchmetrics", partial(torchmetrics_number, "BinaryAUROC")),
        "torchmetrics AP": ("torchmetrics", partial(torchmetrics_number, "BinaryAveragePrecision")),
        "adeval three": ("adeval", adeval_numbers),
    }
    chosen = {name: task for name, (package, task) in tasks.items() if package in packages}
    for task in chosen.values():
        task(maps[:2], masks[:2])
    return {name: partial(task, maps, masks) for name, task in chosen.items()}


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


def compare(
    maps: np.ndarray, masks: np.ndarray, *, repeats: int, turns: int, packages: set[str]
) -> dict[str, float]:
    """Print the medians, and each ratio with its bar; return the ratios by name."""
    cv2.setNumThreads(1)
    memory = peak_memory(lambda: all_five(maps, masks)) / maps.nbytes
    ours: Contestants = {
        "our AUPRO": lambda: aupro(maps, masks),
        "our AUROC": lambda: pixel_auroc(maps, masks),
        "our AP": lambda: pixel_ap(maps, masks),
        "our five": lambda: all_five(maps, masks),
        "np.sort": lambda: plain_sort(maps),
    }
    peers = peers_on(maps, masks, packages=packages) if turns else {}
    times = in_turn(ours, repeats=repeats, peers=peers, turns=turns)
    for name, (wall, cpu, value) in times.items():
        print(f"{name:20s} {wall:8.3f} s wall {cpu:8.3f} s CPU   {value}")
    ratios = {"extra memory / maps": memory}
    for over, under, at_least, at_most in BARS:
        if over in times:
            name = f"{over} / {under}"
            ratios[name] = times[over].cpu / times[under].cpu
            print(verdict(name, ratios[name], at_least=at_least, at_most=at_most))
    print(verdict("extra memory / maps", memory, at_most=MOST_MEMORY))
    check_values(times)
    return ratios


def verdict(
    name: str, ratio: float, *, at_least: float | None = None, at_most: float | None = None
) -> str:
    """One line: the ratio, its bar, and whether it holds."""
    if at_least is not None:
        told = f"at least {at_least:g}: {'holds' if ratio >= at_least else 'MISSED'}"
    elif at_most is not None:
        told = f"at most {at_most:g}: {'holds' if ratio <= at_most else 'MISSED'}"
    else:
        told = "no bar"
    return f"{name:36s} {ratio:8.2f}   {told}"


def check_values(times: dict[str, Times]) -> None:
    """Print how far the others are from ours; raise if they measured something else.

    scikit-learn sums in float64 and has to agree; anomalib and torchmetrics sum in float32, adeval
    has 1000 strips.
    """
    ours = {name: times[f"our {name}"].value for name in ("AUROC", "AP", "AUPRO")}
    found = {
        peer: times[peer].value
        for peer in times
        if peer.split()[-1] in ours and not peer.startswith("our ")
    }
    if "adeval three" in times:
        for name, value in times["adeval three"].value.items():
            found[f"adeval {name.split('@')[0]}"] = value
    for peer, value in found.items():
        error = value - ours[peer.split()[-1]]
        print(f"{peer:20s} is off by {error:9.1e}")
        assert abs(error) < (1e-12 if peer.startswith("scikit-learn") else 1e-2), peer


@pytest.mark.filterwarnings("ignore")
def test_ours_is_well_ahead_of_anomalib_and_sklearn() -> None:
    pytest.importorskip("anomalib")
    pytest.importorskip("sklearn")
    packages = {"anomalib", "sklearn"}
    ratios = compare(*make_set(100, 256), repeats=3, turns=3, packages=packages)
    assert ratios["anomalib AUPRO / our AUPRO"] > 5
    assert ratios["scikit-learn AUROC / our AUROC"] > 5
    assert ratios["extra memory / maps"] < MOST_MEMORY


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="images")
    parser.add_argument("--size", type=int, default=256, help="pixels a side")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--peer-repeats", type=int, default=1, help="of the other tools; 0 leaves them out"
    )
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
    simd = np.show_config(mode="dicts")["SIMD Extensions"]
    print(f"NumPy {np.__version__}, dispatched to {' '.join(simd.get('found', [])) or 'baseline'}")
    if hasattr(os, "getloadavg"):
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    packages = installed_peers() if options.peer_repeats else set()
    compare(maps, masks, repeats=options.repeats, turns=options.peer_repeats, packages=packages)


if __name__ == "__main__":
    main()
