"""How much an evaluation needs and may use."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from anomaly_u2net.errors import ImageError, InputError, MaskError
from anomaly_u2net.evaluation.evaluate import category_scores
from anomaly_u2net.evaluation.facts import image_facts
from anomaly_u2net.evaluation.memory import (
    PER_DEFECT_PIXEL,
    PER_PIXEL,
    RESAMPLING,
    STREAM_STATE,
    ImageSize,
    available_memory,
    exact_bytes,
    format_bytes,
    parse_bytes,
    plan_memory,
    streamed_bytes,
)
from anomaly_u2net.evaluation.pixels import StreamedPixels, exact_pixels
from anomaly_u2net.evaluation.predictions import Prediction, Predictions
from anomaly_u2net.types import ImageRecord


def record(path: Path, category: str = "tile") -> ImageRecord:
    return ImageRecord(path, category, "test", "good")


def test_the_largest_category_counts(tmp_path: Path, write_png) -> None:
    write_png(np.zeros((20, 30), np.uint8), tmp_path / "a.png")
    write_png(np.zeros((10, 10), np.uint8), tmp_path / "b.png")
    records = [record(tmp_path / "a.png"), record(tmp_path / "b.png", "brick")]
    plan = plan_memory(records, allowed=1 << 30)
    # A row of three counts at 4096 corners for the image, and another while resamples are drawn.
    assert plan.needed == 600 * PER_PIXEL + RESAMPLING + 2 * 3 * 4096 * 8
    assert plan.streamed == STREAM_STATE + 600 * 6 + RESAMPLING + 2 * 3 * 4096 * 8
    assert (plan.engine, plan.allowed, plan.stated) == ("exact", 1 << 30, True)
    assert plan.pixel_intervals
    assert plan_memory(records, allowed=100, intervals=False).engine == "streaming"
    assert plan_memory(records, allowed=100, intervals=False).needed == 600 * PER_PIXEL


def test_defect_pixels_need_more(tmp_path: Path, write_png) -> None:
    write_png(np.zeros((20, 30), np.uint8), tmp_path / "a.png")
    mask = np.zeros((20, 30), np.uint8)
    mask[:10, :7] = 255
    write_png(mask, tmp_path / "m.png")
    cut = ImageRecord(tmp_path / "a.png", "tile", "test", "cut", tmp_path / "m.png")
    plan = plan_memory([cut], allowed=1 << 30, intervals=False)
    assert plan.needed == 600 * PER_PIXEL + 70 * PER_DEFECT_PIXEL
    more = plan_memory([cut], allowed=1 << 30).needed - plan.needed
    row = 8 * (3 * 4096 + 2 * 2)  # and two corners of the curve of image scores
    assert more == RESAMPLING + 3 * row
    both = plan_memory([cut], allowed=1 << 30, models=2)
    assert both.needed == plan.needed + more + row  # the first model's counts are kept
    assert both.streamed == STREAM_STATE + 530 * 6 + 70 * 14 + more + row
    (tmp_path / "m.png").write_text("text")
    with pytest.raises(MaskError, match=r"m\.png: expected PNG"):
        plan_memory([cut])


@pytest.mark.parametrize("engine", ["exact", "exact, no intervals", "streaming"])
@pytest.mark.parametrize(("share", "types"), [(0.02, 1), (0.3, 1), (0.1, 4)])
def test_no_more_is_taken_than_was_planned(share: float, types: int, engine: str) -> None:
    """All that is held for the maps and numbers of 48 images, the intervals with it."""
    size, rng, intervals = 128, np.random.default_rng(0), not engine.endswith("no intervals")
    found, facts, sizes = Predictions(), [], []
    tracemalloc.start()
    try:
        stream = StreamedPixels(intervals=True) if engine == "streaming" else None
        for number in range(48):
            label = "good" if number < 24 else f"type {(number - 24) * types // 24}"
            mask = np.zeros((size, size), bool)
            mask[: round(size * 2 * share) if number >= 24 else 0] = True
            scores = 1 / (1 + np.exp(-rng.normal(-3, 2, mask.shape))).astype(np.float32)
            record = ImageRecord(Path(f"{number}.png"), "tile", "test", label)
            one = Prediction(record, scores, mask, float(scores.max()))
            sizes.append(ImageSize(mask.size, int(mask.sum()), label))
            facts.append(image_facts(one, None))
            if stream is None:
                found.add(one)
            else:
                stream.update(scores, mask, label=label)
        pixels = stream.finish() if stream else exact_pixels(found, intervals=intervals)
        category_scores("tile", facts, pixels, intervals=intervals)
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    planned = streamed_bytes(sizes) if stream else exact_bytes(sizes, intervals=intervals)
    assert 0.4 * planned < taken < planned


def test_what_does_not_fit_has_no_intervals(tmp_path: Path, write_png) -> None:
    """Between the two limits pixel numbers are streamed with intervals, below both without."""
    write_png(np.zeros((5000, 5000), np.uint8), tmp_path / "a.png")
    large = [record(tmp_path / "a.png")]
    streamed = plan_memory(large, allowed=1).streamed
    assert streamed < plan_memory(large, allowed=1).needed
    plan = plan_memory(large, allowed=streamed)
    assert (plan.engine, plan.pixel_intervals) == ("streaming", True)
    plan = plan_memory(large, allowed=streamed - 1)
    assert (plan.engine, plan.pixel_intervals) == ("streaming", False)


def test_half_of_what_is_available_unless_stated(tmp_path: Path, write_png) -> None:
    write_png(np.zeros((10, 10), np.uint8), tmp_path / "b.png")
    plan = plan_memory([record(tmp_path / "b.png")])
    assert not plan.stated
    assert 0.3 * available_memory() < plan.allowed < 0.7 * available_memory()


def test_what_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("text")
    with pytest.raises(ImageError, match=r"a.png: expected PNG"):
        plan_memory([record(tmp_path / "a.png")])


def test_no_memory_at_all() -> None:
    with pytest.raises(InputError, match=r"expected 1 byte of memory or more, got 0"):
        plan_memory([], allowed=0)


@pytest.mark.parametrize(
    ("text", "number"),
    [("8GiB", 8 << 30), ("2 gib", 2 << 30), ("500MB", 500 * 10**6), ("1.5k", 1500), ("12", 12)],
)
def test_amounts_as_people_write_them(text: str, number: int) -> None:
    assert parse_bytes(text) == number


@pytest.mark.parametrize("text", ["", "much", "-1GB", "8XB", "GiB", "i", "8i"])
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(InputError, match=r"is no amount of memory: write it as 8GiB"):
        parse_bytes(text)


def test_bytes_for_people() -> None:
    assert [format_bytes(n) for n in (5, 2048, 3 << 20, 5 << 30, 7 << 40)] == [
        "5.0 B", "2.0 KiB", "3.0 MiB", "5.0 GiB", "7168.0 GiB",
    ]  # fmt: skip
