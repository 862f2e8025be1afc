"""How much an evaluation needs and may use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anomaly_u2net.errors import ImageError, InputError
from anomaly_u2net.evaluation.memory import (
    PER_IMAGE,
    PER_PIXEL,
    available_memory,
    format_bytes,
    parse_bytes,
    plan_memory,
)
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
