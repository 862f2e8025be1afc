"""How long 1 000 resamples of all numbers take: 150 images of 1024 × 1024 on one thread.

The bar: at most 60 s on 2 cores for intervals of every number, the exact values not counted in
(they are printed beside). ``--count 30 --size 256`` for a quick look.
"""

from __future__ import annotations

import argparse
import resource
import time

import cv2
import numpy as np

from anomaly_u2net.metrics import (
    Interval,
    SegmentationCounts,
    bootstrap_interval,
    f1_by_image,
    iou_by_image,
    paired_difference,
    pixel_curve,
    pixels_by_image,
    scores_by_image,
    segmentation_counts,
    share_by_image,
)

BAR = 60.0


def make_set(count: int, size: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Maps float32 (N, H, W) of smooth noise, a hill on a disc-shaped defect in every other."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32) / size
    maps = np.empty((count, size, size), np.float32)
    masks = np.zeros((count, size, size), np.uint8)
    for index in range(count):
        grid = rng.standard_normal((24, 24)).astype(np.float32)
        maps[index] = 0.3 + 0.05 * cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
        maps[index] += 0.01 * rng.standard_normal((size, size), dtype=np.float32)
        for _ in range(rng.integers(1, 4) if index % 2 else 0):
            x, y = rng.uniform(0.1, 0.9, 2)
            radius = rng.uniform(0.01, 0.06)
            far = (columns - x) ** 2 + (rows - y) ** 2
            masks[index][far < radius**2] = 1
            maps[index] += rng.uniform(0.0, 0.4) * np.exp(-far / (2 * radius**2))
    return maps, masks


def all_intervals(
    maps: np.ndarray, masks: np.ndarray, *, resamples: int = 1000
) -> tuple[dict[str, Interval], dict[str, float]]:
    """Every interval, and the seconds of each step."""
    clock = [time.perf_counter()]
    curve = pixel_curve(maps, masks)
    clock.append(time.perf_counter())
    pixels = pixels_by_image(maps, masks, curve=curve)
    labels = masks.any(axis=(1, 2))
    image_scores = maps.max(axis=(1, 2))
    images = scores_by_image(image_scores, labels)
    counts: list[SegmentationCounts] = [
        segmentation_counts(m, k, threshold=0.45) for m, k in zip(maps, masks, strict=True)
    ]
    clock.append(time.perf_counter())
    numbers = {
        "image_auroc": images.auroc(),
        "image_ap": images.ap(),
        "image_f1_max": images.f1_max(),
        "pixel_auroc": pixels.auroc(),
        "pixel_ap": pixels.ap(),
        "pixel_f1_max": pixels.f1_max(),
        "aupro_0.30": pixels.aupro(fpr_limit=0.3),
        "aupro_0.05": pixels.aupro(fpr_limit=0.05),
        "pixel_f1": f1_by_image(counts),
        "pixel_iou": iou_by_image(counts),
        "false_reject": share_by_image(image_scores > 0.5, ~labels),
        "missed": share_by_image(image_scores <= 0.5, labels),
    }
    found = {name: bootstrap_interval(n, resamples=resamples) for name, n in numbers.items()}
    clock.append(time.perf_counter())
    paired_difference(numbers["pixel_auroc"], numbers["pixel_auroc"], resamples=resamples)
    clock.append(time.perf_counter())
    steps = ("exact curve", "counts by image", "intervals", "one paired difference")
    return found, dict(zip(steps, np.diff(clock).tolist(), strict=True))


def test_intervals_are_quick_enough_to_be_on_by_default() -> None:
    _, seconds = all_intervals(*make_set(30, 256))
    assert seconds["counts by image"] + seconds["intervals"] < BAR / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--resamples", type=int, default=1000)
    arguments = parser.parse_args()
    maps, masks = make_set(arguments.count, arguments.size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found, seconds = all_intervals(maps, masks, resamples=arguments.resamples)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, interval in found.items():
        print(f"{name:14} {interval.value:.6f}  [{interval.low:.6f}, {interval.high:.6f}]")
    for step, took in seconds.items():
        print(f"{step:24} {took:7.2f} s")
    total = seconds["counts by image"] + seconds["intervals"]
    print(
        f"counts and intervals {total:.2f} s (bar {BAR:.0f} s); peak grew {(after - before) >> 10} MB"
    )


if __name__ == "__main__":
    main()
