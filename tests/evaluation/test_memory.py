"""How much an evaluation needs and may use."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from anomaly_u2net.errors import ImageError, InputError, MaskError
from anomaly_u2net.evaluation.memory import (
    PER_DEFECT_PIXEL,
    PER_IMAGE,
    PER_IMAGE_AND_TYPE,
    PER_PIXEL,
    available_memory,
    format_bytes,
    parse_bytes,
    plan_memory,
)
from anomaly_u2net.evaluation.pixels import exact_pixels
from anomaly_u2net.evaluation.predictions import Prediction, Predictions
from anomaly_u2net.types import ImageRecord


def record(path: Path, category: str = "tile") -> ImageRecord:
    return ImageRecord(path, category, "test", "good")


def test_the_largest_category_counts(tmp_path: Path, write_png) -> None:
    write_png(np.zeros((20, 30), np.uint8), tmp_path / "a.png")
    write_png(np.zeros((10, 10), np.uint8), tmp_path / "b.png")
    records = [record(tmp_path / "a.png"), record(tmp_path / "b.png", "brick")]
    plan = plan_memory(records, allowed=1 << 30)
    assert plan.needed == 600 * PER_PIXEL + PER_IMAGE
    assert (plan.engine, plan.allowed, plan.stated) == ("exact", 1 << 30, True)
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
    assert more == PER_IMAGE + PER_IMAGE_AND_TYPE
    (tmp_path / "m.png").write_text("text")
    with pytest.raises(MaskError, match=r"m\.png: expected PNG"):
        plan_memory([cut])


@pytest.mark.parametrize("intervals", [False, True])
@pytest.mark.parametrize("share", [0.02, 0.2, 0.5])
def test_no_more_is_taken_than_was_planned(share: float, intervals: bool) -> None:
    size, rng, found = 256, np.random.default_rng(0), Predictions()
    tracemalloc.start()
    try:
        for number in range(12):
            mask = np.zeros((size, size), bool)
            mask[: round(size * 2 * share) if number >= 6 else 0] = True
            label = "good" if number < 6 else "cut"
            scores = rng.random((size, size), dtype=np.float32)
            one = ImageRecord(Path(f"{number}.png"), "tile", "test", label)
            found.add(Prediction(one, scores, mask, 0.5))
        exact_pixels(found, intervals=intervals)
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    defects = sum(int(mask.sum()) for mask in found.masks)
    planned = PER_PIXEL * 12 * size**2 + PER_DEFECT_PIXEL * defects
    planned += 12 * (PER_IMAGE + PER_IMAGE_AND_TYPE) * intervals
    assert 0.4 * planned < taken < planned


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
