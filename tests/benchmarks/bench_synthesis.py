"""Images a second that get a made defect, by generator, on one core.

usage: OMP_NUM_THREADS=1 python tests/benchmarks/bench_synthesis.py [--size 256] [--repeats 5]

All generators in turn on images of ``--size`` × ``--size``, the search for the part included, CPU
seconds, medians over ``--repeats`` turns of `IMAGES` images each. The images are the three
photographs of the built-in sample, resized, in two colours, so nothing is downloaded. The bar for the
cheap ones, all but ``poisson``, is `BAR` images a second at 256 × 256.
"""

from __future__ import annotations

import argparse
import statistics
import time

import cv2
import numpy as np

from anomaly_u2net.data.demo import CATEGORIES, photograph
from anomaly_u2net.data.synthesis import GENERATORS, Scene, foreground_mask, open_sources
from anomaly_u2net.recipe import DEFAULT_WEIGHTS
from anomaly_u2net.types import Image, Mask

BAR = 200
#: Images of a turn.
IMAGES = 40
#: Poisson blending solves an equation an image.
DEAR = {"poisson"}
#: The colours of the photographs: gray, and leather-like.
TINTS = ((1, 1, 1), (1.0, 0.7, 0.55))


def pictures(size: int) -> list[tuple[Image, Mask]]:
    """Every photograph in every colour, and where a real defect would be on it."""
    found = []
    for name in CATEGORIES:
        gray = cv2.resize(photograph(name), (size, size), interpolation=cv2.INTER_AREA)
        mask = np.zeros((size, size), bool)
        mask[size // 2 : size // 2 + size // 16, size // 3 : size // 2] = True
        for tint in TINTS:
            image = (gray[..., None] * tint).clip(0, 255).astype(np.uint8)
            image[mask] //= 4
            found.append((image, mask))
    return found


def measure(size: int, repeats: int) -> dict[str, tuple[float, float]]:
    """Generator → (images a second, share of the images on which a defect was seen)."""
    cv2.setNumThreads(1)
    images = pictures(size)
    every = list(range(len(images)))
    sources = open_sources(lambda index: images[index], {"all": (every, every)}, textures=None)
    took: dict[str, list[float]] = {name: [] for name in GENERATORS}
    seen: dict[str, int] = dict.fromkeys(GENERATORS, 0)
    for turn in range(repeats):
        for name, generator in GENERATORS.items():
            begun = time.process_time()
            for number in range(IMAGES):
                image = images[number % len(images)][0]
                rng = np.random.default_rng([turn, number])
                scene = Scene(image, foreground_mask(image), sources["all"], rng)
                seen[name] += bool(generator(scene)[1].any())
            took[name].append(time.process_time() - begun)
    return {
        name: (IMAGES / statistics.median(times), seen[name] / (IMAGES * repeats))
        for name, times in took.items()
    }


def table(rates: dict[str, tuple[float, float]], *, size: int) -> str:
    lines = [
        "| generator | images a second | of them a defect was seen on | |",
        "|---|---|---|---|",
    ]
    for name, (rate, seen) in rates.items():
        bar = "" if name in DEAR or size > 256 else "holds" if rate >= BAR else "MISSED"
        lines.append(f"| `{name}` | {rate:.0f} | {seen:.0%} | {bar} |")
    total = sum(DEFAULT_WEIGHTS.values())
    seconds = sum(weight / total / rates[name][0] for name, weight in DEFAULT_WEIGHTS.items())
    return "\n".join([*lines, f"| the default mixture, one draw each | {1 / seconds:.0f} | | |"])


def test_cheap_generators_are_quick() -> None:
    """Far below what is measured, so that a busy machine does not fail it."""
    rates = measure(256, 2)
    assert all(rate > BAR / 4 for name, (rate, _) in rates.items() if name not in DEAR)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    print(table(measure(arguments.size, arguments.repeats), size=arguments.size))


if __name__ == "__main__":
    main()
