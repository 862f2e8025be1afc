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

from anomaly_u2net.metrics import Certified, F1Zoom, PixelHistogram, pixel_curve
from anomaly_u2net.metrics.streaming import DEFAULT_BITS

#: What the certificates may be at most, by bits: the default, and what is had on request.
BARS = {20: 2.5e-4, 22: 5e-5}
MOST_ERROR = 1e-6  # of each number at the default
MOST_STATE = 32e6  # bytes of either pass at the default
MOST_TIME = 1.5  # times adeval's CPU seconds, at the default, of one pass and of both


def numbers(curve: Any) -> dict[str, Any]:
    """The five numbers of a `PixelCurve` (floats) or a `BinnedCurve` (certified)."""
    return {
        "AUROC": curve.auroc(),
        "AP": curve.ap(),
        "F1-max": curve.f1_max(),
        "AUPRO@0.3": curve.aupro(),
        "AUPRO@0.05": curve.aupro(fpr_limit=0.05),
    }


def exact(maps: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    return numbers(pixel_curve(maps, masks))


def streaming(
    maps: np.ndarray, masks: np.ndarray, *, bits: int
) -> tuple[PixelHistogram, dict[str, Certified]]:
    histogram = PixelHistogram(bits=bits)
    for score_map, mask in zip(maps, masks, strict=True):
        histogram.update(score_map, mask)
    return histogram, numbers(histogram.curve())


def two_passes(
    maps: np.ndarray, masks: np.ndarray, *, bits: int = DEFAULT_BITS
) -> tuple[F1Zoom, dict[str, Certified]]:
    """As `streaming`, but F1-max from a second pass."""
    histogram, values = streaming(maps, masks, bits=bits)
    zoom = histogram.zoom()
    for score_map, mask in zip(maps, masks, strict=True):
        zoom.update(score_map, mask)
    return zoom, {**values, "F1-max": zoom.f1_max()}


def holds(number: float, bar: float) -> str:
    return f"at most {bar:g}: {'holds' if number <= bar else 'MISSED'}"


def show(name: str, ours: Certified, truth: float, *, bar: bool) -> None:
    """Print a number beside the exact one; stop when its certificate does not hold that."""
    assert truth in ours, (name, truth, ours)
    error = ours.value - truth
    told = f"  {name:12s} {ours.value:.9f}  certificate {ours.width:.1e}  error {error:9.1e}"
    print(f"{told}  {holds(abs(error), MOST_ERROR)}" if bar else told)


def compare(maps: np.ndarray, masks: np.ndarray, *, repeats: int, adeval: bool) -> dict[int, float]:
    """Print all; return the widest certificate of one pass by bits."""
    cv2.setNumThreads(1)
    contestants: dict[str, Callable[[], Any]] = {"exact": lambda: exact(maps, masks)}
    for bits in BARS:
        contestants[f"streaming {bits}"] = lambda bits=bits: streaming(maps, masks, bits=bits)
    contestants["two passes"] = lambda: two_passes(maps, masks)
    if adeval:
        adeval_numbers(maps[:2], masks[:2])
        contestants["adeval"] = lambda: adeval_numbers(maps, masks)
    times = in_turn(contestants, repeats=repeats)
    for name, (wall, cpu, _) in times.items():
        print(f"{name:14s} {wall:8.3f} s wall {cpu:8.3f} s CPU")
    truth = times["exact"].value
    widest = {}
    for bits in BARS:
        histogram, values = times[f"streaming {bits}"].value
        told = f"{bits} bits, {histogram.nbytes / 1e6:.0f} MB"
        default = bits == DEFAULT_BITS
        print(f"{told}  {holds(histogram.nbytes, MOST_STATE)}" if default else told)
        for name, value in values.items():
            show(name, value, truth[name], bar=default)
        widest[bits] = max(value.width for value in values.values())
        print(f"  widest certificate {widest[bits]:.1e}  {holds(widest[bits], BARS[bits])}")
    zoom, values = times["two passes"].value
    print(f"second pass, {zoom.nbytes / 1e6:.1f} MB  {holds(zoom.nbytes, MOST_STATE)}\n  {zoom}")
    show("F1-max", values["F1-max"], truth["F1-max"], bar=True)
    if adeval:
        for name, value in times["adeval"].value.items():
            print(f"adeval {name:12s} {value:.9f}  error {value - truth[name]:9.1e}")
        for name in (f"streaming {DEFAULT_BITS}", "two passes"):
            ratio = times[name].cpu / times["adeval"].cpu
            print(f"{name} / adeval (CPU) {ratio:.2f}  {holds(ratio, MOST_TIME)}")
    return widest


def test_certificates_are_narrow() -> None:
    widest = compare(*make_set(100, 256), repeats=1, adeval=False)
    assert all(widest[bits] <= bar for bits, bar in BARS.items())


def test_a_second_pass_makes_f1_max_exact() -> None:
    maps, masks = make_set(20, 256)
    error = two_passes(maps, masks)[1]["F1-max"].value - exact(maps, masks)["F1-max"]
    assert abs(error) <= 1e-12


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
