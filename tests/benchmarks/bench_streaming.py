"""What the streaming engine costs and promises, next to the exact engine and to adeval.

All contestants run in this process, one thread each, on the same maps, in turn, and the medians
are compared. adeval (``pip install --no-deps adeval``) is left out, saying so, when it is missing.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_streaming.py --count 100 --size 1024
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from bench_metrics import adeval_numbers, in_turn, make_set

from anomaly_u2net.metrics import BinnedCurve, Certified, PixelCurve, PixelHistogram, pixel_curve
from anomaly_u2net.metrics.streaming import DEFAULT_BITS

#: What the certificates may be at most, by bits: the default, and what is had on request.
BARS = {20: 2.5e-4, 22: 5e-5}
MOST_ERROR = 1e-6  # of each number at the default
MOST_STATE = 32e6  # bytes at the default
MOST_TIME = 1.5  # times adeval's CPU seconds, at the default


def numbers(curve: Any) -> dict[str, Any]:
    """The five numbers of a `PixelCurve` (floats) or a `BinnedCurve` (certified)."""
    return {
        "AUROC": curve.auroc(),
        "AP": curve.ap(),
        "F1-max": curve.f1_max(),
        "AUPRO@0.3": curve.aupro(),
        "AUPRO@0.05": curve.aupro(fpr_limit=0.05),
    }


def exact(maps: np.ndarray, masks: np.ndarray) -> tuple[PixelCurve, dict[str, float]]:
    curve = pixel_curve(maps, masks)
    return curve, numbers(curve)


def streaming(
    maps: np.ndarray, masks: np.ndarray, *, bits: int
) -> tuple[BinnedCurve, dict[str, Certified]]:
    histogram = PixelHistogram(bits=bits)
    for score_map, mask in zip(maps, masks, strict=True):
        histogram.update(score_map, mask)
    curve = histogram.curve()
    return curve, numbers(curve)


def holds(number: float, bar: float) -> str:
    return f"at most {bar:g}: {'holds' if number <= bar else 'MISSED'}"


def show(values: dict[str, Certified], truth: dict[str, float], *, bits: int) -> float:
    """Print the numbers beside the exact ones; return the widest certificate."""
    for name, ours in values.items():
        assert truth[name] in ours, (name, truth[name], ours)
        error = ours.value - truth[name]
        told = f"  {name:12s} {ours.value:.9f}  certificate {ours.width:.1e}  error {error:9.1e}"
        print(f"{told}  {holds(abs(error), MOST_ERROR)}" if bits == DEFAULT_BITS else told)
    widest = max(ours.width for ours in values.values())
    print(f"  widest certificate {widest:.1e}  {holds(widest, BARS[bits])}")
    return widest


def compare(maps: np.ndarray, masks: np.ndarray, *, repeats: int, adeval: bool) -> dict[int, float]:
    """Print all; return the widest certificate by bits."""
    cv2.setNumThreads(1)
    contestants: dict[str, Callable[[], Any]] = {"exact": lambda: exact(maps, masks)}
    for bits in BARS:
        contestants[f"streaming {bits}"] = lambda bits=bits: streaming(maps, masks, bits=bits)
    if adeval:
        adeval_numbers(maps[:2], masks[:2])
        contestants["adeval"] = lambda: adeval_numbers(maps, masks)
    times = in_turn(contestants, repeats=repeats)
    for name, (wall, cpu, _) in times.items():
        print(f"{name:14s} {wall:8.3f} s wall {cpu:8.3f} s CPU")
    truth = times["exact"].value[1]
    widest = {}
    for bits in BARS:
        state = PixelHistogram(bits=bits).nbytes
        told = f"{bits} bits, {state / 1e6:.0f} MB"
        print(f"{told}  {holds(state, MOST_STATE)}" if bits == DEFAULT_BITS else told)
        widest[bits] = show(times[f"streaming {bits}"].value[1], truth, bits=bits)
    if adeval:
        for name, value in times["adeval"].value.items():
            print(f"adeval {name:12s} {value:.9f}  error {value - truth[name]:9.1e}")
        ratio = times[f"streaming {DEFAULT_BITS}"].cpu / times["adeval"].cpu
        print(f"streaming {DEFAULT_BITS} / adeval (CPU) {ratio:.2f}  {holds(ratio, MOST_TIME)}")
    return widest


def test_certificates_are_narrow() -> None:
    widest = compare(*make_set(100, 256), repeats=1, adeval=False)
    assert all(widest[bits] <= bar for bits, bar in BARS.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="images")
    parser.add_argument("--size", type=int, default=256, help="pixels a side")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--maps", type=Path, help="a .npy of maps (N, H, W) to use instead")
    parser.add_argument("--masks", type=Path, help="the .npy of its masks")
    parser.add_argument("--exp", type=float, help="measure exp(EXP × score) instead of the score")
    options = parser.parse_args()
    if (options.maps is None) != (options.masks is None):
        parser.error("--maps and --masks go together")
    if options.maps:
        maps, masks = np.load(options.maps), np.load(options.masks)
    else:
        maps, masks = make_set(options.count, options.size)
    if options.exp:
        maps = np.exp(np.float32(options.exp) * maps)
    found = importlib.util.find_spec("adeval") is not None
    print(f"{maps.shape} {maps.dtype}, {100 * (masks > 0).mean():.2f} % defect pixels")
    if not found:
        print("adeval is not installed and left out")
    compare(maps, masks, repeats=options.repeats, adeval=found)


if __name__ == "__main__":
    main()
