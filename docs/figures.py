"""The figures of docs/learn and docs/reference/architecture.md, written to docs/img.

usage: python docs/figures.py [--run RUN --data DATA]

``pro.png`` is drawn from a map made here, ``u2net.png`` from the networks, ``made.jpg`` shows every
generator of made defects on the photographs of the built-in sample. ``minmax.png``
shows real maps of a trained run, on a good and a defective image of the built-in sample: give the run
and the sample's folder. Needs matplotlib (the extra ``report``).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from anomaly_u2net.calibration import CategoryThresholds
from anomaly_u2net.data.demo import CATEGORIES, photograph
from anomaly_u2net.data.drawing import draw_defect
from anomaly_u2net.data.images import image_files, read_image
from anomaly_u2net.data.synthesis import GENERATORS, Generator, Scene, Sources
from anomaly_u2net.data.synthesis.textures import noise
from anomaly_u2net.inference.segmenter import Segmenter
from anomaly_u2net.metrics import pixel_curve
from anomaly_u2net.models import u2net, u2netp
from anomaly_u2net.models.cost import StageCost, stage_costs
from anomaly_u2net.visual import heatmap

IMAGES = Path(__file__).parent / "img"
#: Side in pixels of the pictures of made defects.
SIDE = 192
#: How far from the border their defects are, and which of them are shown on the gravel.
MARGIN, ON_GRAVEL = 20, ("paste",)
#: Up to this false positive rate AUPRO takes the area.
LIMIT = 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="a calibrated run on the sample, for minmax.png")
    parser.add_argument("--data", type=Path, help="the folder of the sample")
    arguments = parser.parse_args()
    IMAGES.mkdir(exist_ok=True)
    draw_pro(IMAGES / "pro.png")
    draw_architecture(IMAGES / "u2net.png")
    draw_made(IMAGES / "made.jpg")
    if (arguments.run is None) != (arguments.data is None):
        parser.error("--run and --data go together")
    if arguments.run is not None:
        draw_minmax(arguments.run, arguments.data, IMAGES / "minmax.png")


def draw_pro(path: Path) -> None:
    """A stain that is found and a hole that is not; recall of pixels and of regions."""
    import matplotlib.pyplot as plt

    scores, mask = stain_and_hole()
    points = pixel_curve([scores], [mask]).points()
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.9), width_ratios=(1, 1.5))
    left.imshow(scores, cmap="inferno", vmin=0, vmax=1)
    left.contour(mask, levels=[0.5], colors="#28beff", linewidths=1.5)
    left.set_axis_off()
    left.set_title("scores, true defects outlined", fontsize=9)
    right.plot(points.fpr, points.tpr, color="#888888", label="pixel recall (ROC)")
    right.plot(points.fpr, points.pro, color="#c0392b", label="per-region overlap (PRO)")
    assert points.pro is not None
    inside = points.fpr < LIMIT
    rates = np.append(points.fpr[inside], LIMIT)
    pro = np.append(points.pro[inside], np.interp(LIMIT, points.fpr, points.pro))
    right.fill_between(rates, pro, color="#c0392b", alpha=0.15, linewidth=0)
    right.axvline(LIMIT, color="#c0392b", linewidth=0.8, linestyle=":")
    right.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="false positive rate of pixels")
    right.legend(loc="lower right", fontsize=8, frameon=False)
    _finish(figure, path)


def draw_architecture(path: Path) -> None:
    """The stages of U²-Net and U²-Net† at 320 × 320, read off the networks: one U for both."""
    import matplotlib.pyplot as plt

    full, small = (stage_costs(model)[:-1] for model in (u2net(), u2netp()))
    depth = len(full) // 2 + 1
    figure, axes = plt.subplots(figsize=(8.4, 5.6))
    for place, (stage, thin) in enumerate(zip(full, small, strict=True)):
        level = min(place, 2 * depth - 2 - place)
        x = 2.6 * ((place >= depth - 1) + (place >= depth))
        _box(axes, (x, -level), stage, thin)
        if place < depth - 1:
            down = (2.4, -level - 0.7) if place == depth - 2 else (0, -level - 0.7)
            _arrow(axes, (0, -level - 0.3), down, "halve" if place == 0 else "")
            _arrow(axes, (1.15, -level), (4.05, -level), "skip" if place == 0 else "")
        else:
            _arrow(axes, (x + 1.15, -level), (7, -level), f"side {2 * depth - 1 - place}")
            if level > 0:
                start = (2.8 if x < 5 else 5.2, -level + 0.3)
                _arrow(axes, start, (5.2, -level + 0.7), "resize" if level == 1 else "")
    axes.add_patch(plt.Rectangle((7, 0.3 - depth), 0.5, depth, fc="#d9ead3", ec="#555555"))
    text = "resized to the input, joined, 1 × 1: the fused output"
    axes.text(7.25, 0.3 - depth / 2, text, rotation=90, ha="center", va="center", fontsize=9)
    axes.set(xlim=(-1.1, 7.55), ylim=(0.25 - depth, 0.35))
    axes.set_axis_off()
    _finish(figure, path)


def _box(axes: Any, middle: tuple[float, float], stage: StageCost, thin: StageCost) -> None:
    """One stage: its block, map, and the channels in, inside and out of both networks."""
    ours, small = (f"{s.channels_in}, {s.channels_mid}, {s.channels_out}" for s in (stage, thin))
    axes.text(
        *middle,
        f"{stage.name}  {stage.block}  {stage.height} × {stage.width}\n{ours}   †: {small}",
        ha="center",
        va="center",
        fontsize=8,
        linespacing=1.5,
        bbox={
            "boxstyle": "square,pad=0.45",
            "facecolor": "#f6d5b8" if stage.block.endswith("F") else "#cfe2f3",
            "edgecolor": "#555555",
        },
    )


def _arrow(axes: Any, start: tuple[float, float], end: tuple[float, float], text: str) -> None:
    arrow = {"arrowstyle": "->", "color": "#555555", "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=end, xytext=start, arrowprops=arrow)
    upright = start[0] == end[0]
    x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
    place = (x + 0.06, y - 0.07) if upright else (x - 0.1, y + 0.04)
    axes.text(*place, text, fontsize=8, color="#555555", va="bottom")


def draw_minmax(run: Path, data: Path, path: Path) -> None:
    """A good and a defective part, each on the absolute scale and stretched to its own range."""
    import matplotlib.pyplot as plt

    segmenter = Segmenter.load(run)
    category = segmenter.categories[0]
    assert segmenter.calibration is not None
    thresholds: CategoryThresholds = segmenter.calibration.for_category(category)
    assert thresholds.pixel is not None
    test = data / category / "test"
    kind = sorted(folder.name for folder in test.iterdir() if folder.name != "good")[0]
    figure, axes = plt.subplots(2, 3, figsize=(6.0, 4.3))
    for row, label in zip(axes, ("good", kind), strict=True):
        image = read_image(image_files(test / label)[0])
        scores = segmenter.predict(image)
        low, high = float(scores.min()), float(scores.max())
        stretched = (scores - low) / (high - low)
        pictures = {
            f"{category}, {label}": image,
            f"as scored, highest {high:.3f}": heatmap(scores, threshold=thresholds.pixel.value),
            "stretched by its own min and max": heatmap(
                stretched.astype(np.float32), threshold=thresholds.pixel.value
            ),
        }
        for place, (title, picture) in zip(row, pictures.items(), strict=True):
            place.imshow(picture)
            place.set_axis_off()
            place.set_title(title, fontsize=8)
    _finish(figure, path)


def draw_made(path: Path) -> None:
    """A made defect of every generator on a photograph, above its mask."""
    import matplotlib.pyplot as plt

    photos = [np.repeat(photograph(name).astype(np.uint8)[..., None], 3, 2) for name in CATEGORIES]
    tiles = [
        photo[y : y + SIDE, x : x + SIDE] for photo in photos for y in (0, 256) for x in (0, 256)
    ]
    drawn, mask = draw_defect(
        tiles[9][..., 0].astype(float), "foreign_body", rng=np.random.default_rng(4)
    )
    real = np.repeat(drawn.round().astype(np.uint8)[..., None], 3, axis=2)
    sources = Sources(
        good=lambda rng: tiles[rng.integers(4)], texture=noise, real=lambda _: (real, mask)
    )
    figure, axes = plt.subplots(4, len(GENERATORS) // 2, figsize=(9.2, 7.9))
    for number, (name, generator) in enumerate(GENERATORS.items()):
        image = tiles[number % 4 + 4 * (name in ("structure", "hole")) + 8 * (name in ON_GRAVEL)]
        made, found = _seen(generator, image, sources)
        column = number % axes.shape[1]
        row = 2 * (number // axes.shape[1])
        axes[row, column].imshow(made)
        axes[row, column].set_title(name, fontsize=9)
        axes[row + 1, column].imshow(found, cmap="gray")
    for place in axes.flat:
        place.set_axis_off()
    _finish(figure, path)


def _seen(generator: Generator, image: Any, sources: Sources) -> tuple[Any, Any]:
    """The first defect that takes more than half a percent of the image, and not at its border."""
    part = np.ones(image.shape[:2], bool)
    for seed in range(200):
        rng = np.random.default_rng(seed)
        made, mask = generator(Scene(image, part, sources, rng))
        inner = mask[MARGIN:-MARGIN, MARGIN:-MARGIN].sum() > 0.9 * mask.sum()
        if mask.mean() > 0.005 and inner:
            return made, mask
    raise AssertionError("no seed shows a defect")


def stain_and_hole() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """A map (64, 64) of faint noise in which only the larger of two defects is seen."""
    mask = np.zeros((64, 64), bool)
    mask[8:48, 8:48] = True
    mask[54:60, 54:60] = True
    scores = np.random.default_rng(0).uniform(0, 0.3, mask.shape).astype(np.float32)
    scores[8:48, 8:48] += 0.6
    return scores, mask


def _finish(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(
        path, dpi=100, **({"pil_kwargs": {"quality": 70}} if path.suffix == ".jpg" else {})
    )
    if path.suffix == ".jpg":
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
        return
    with Pillow.open(path) as picture:
        small = picture.convert("RGB").quantize(128, dither=Pillow.Dither.NONE)
    small.save(path, optimize=True)
    size = path.stat().st_size
    print(f"{path}: {size / 1000:.0f} kB")
    assert size <= 60_000, "a figure of these pages has at most 60 kB"


if __name__ == "__main__":
    main()
