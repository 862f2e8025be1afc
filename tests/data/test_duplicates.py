"""Near-duplicates: found when they are copies, not when parts are merely aligned."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from anomaly_u2net.data.cards import load_card
from anomaly_u2net.data.index import index_dataset
from anomaly_u2net.errors import ImageError
from anomaly_u2net.evaluation import duplicates
from anomaly_u2net.evaluation.duplicates import alike_pairs, near_duplicates, thumbnail
from anomaly_u2net.types import ImageRecord


def part(rng: np.random.Generator) -> np.ndarray:
    """An aligned part: a bright disc on a dark ground, with blotches of its own."""
    y, x = np.mgrid[:96, :128]
    disc = 140.0 * ((x - 64) ** 2 + (y - 48) ** 2 < 1500)
    blotches = cv2.resize(rng.normal(0, 12, (24, 32)), (128, 96), interpolation=cv2.INTER_LINEAR)
    return disc + 60 + blotches


def shot(plane: np.ndarray, *, gain: float = 1.0, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """A photograph of it, uint8 (96, 128, 3)."""
    grain = np.random.default_rng(seed).normal(0, noise, plane.shape)
    grey = np.clip(gain * plane + grain, 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def test_a_thumbnail_by_hand() -> None:
    grey = np.zeros((32, 32, 3), np.uint8)
    grey[:, 16:] = 200
    found = thumbnail(grey).reshape(16, 16)
    assert np.allclose(found[:, 8:], 1 / 16)  # 256 values of ±1/16 have length 1
    assert np.allclose(found[:, :8], -1 / 16)
    assert not thumbnail(np.full((20, 30, 3), 77, np.uint8)).any()


def test_another_exposure_is_found_and_aligned_parts_are_not() -> None:
    rng = np.random.default_rng(3)
    parts = [part(rng) for _ in range(12)]
    shots = [shot(plane, noise=3, seed=i) for i, plane in enumerate(parts)]
    rows = np.array([thumbnail(image) for image in shots])
    assert (np.triu(rows @ rows.T, 1) > 0.98).any()  # a plain correlation would be fooled
    assert alike_pairs(rows) == []
    again = thumbnail(shot(parts[4], gain=0.8, noise=3, seed=99))
    assert alike_pairs(np.vstack([rows, again])) == [(4, 12)]


def test_the_same_image_many_times() -> None:
    row = thumbnail(shot(part(np.random.default_rng(0))))
    assert alike_pairs(np.array([row, row, row])) == [(0, 1), (0, 2)]
    assert alike_pairs(np.array([row, row])) == [(0, 1)]
    assert alike_pairs(row[None]) == []
    assert alike_pairs(np.zeros((0, 256), np.float32)) == []
    assert alike_pairs(np.zeros((3, 256), np.float32)) == []  # blank images say nothing


def test_in_blocks_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(40, 256)).astype(np.float32)
    rows[[7, 23, 39]] = rows[[2, 2, 30]] + 0.01
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    whole = alike_pairs(rows)
    assert [later for _, later in whole] == [7, 23, 39]
    assert {later: earlier for earlier, later in whole}[39] == 30
    monkeypatch.setattr(duplicates, "_ROWS", 5)
    assert alike_pairs(rows) == whole


def test_files(tmp_path: Path, write_png: Callable[[np.ndarray, Path], None]) -> None:
    rng = np.random.default_rng(5)
    records = []
    for index, plane in enumerate([part(rng) for _ in range(5)]):
        path = tmp_path / f"{index}.png"
        write_png(shot(plane), path)
        records.append(ImageRecord(path, "disc", "calibration", "good"))
    assert near_duplicates(records) == []
    write_png(shot(part(np.random.default_rng(5)), gain=0.9), tmp_path / "copy.png")
    copy = ImageRecord(tmp_path / "copy.png", "disc", "calibration", "good")
    assert near_duplicates([*records, copy]) == [(tmp_path / "0.png", tmp_path / "copy.png")]
    (tmp_path / "copy.png").write_bytes(b"")
    with pytest.raises(ImageError, match="empty"):
        near_duplicates([copy])


def test_the_exposures_of_the_magnetic_tiles() -> None:
    data = os.environ.get("ANOMALY_U2NET_DATA")
    if not data:
        pytest.skip("set ANOMALY_U2NET_DATA to the folder that holds magnetic_tile/")
    records = index_dataset(Path(data) / "magnetic_tile", card=load_card("magnetic_tile"))
    records = [r for r in records if r.label == "good"]
    group = {r.path: r.group for r in records}
    pairs = near_duplicates(records)
    right = [pair for pair in pairs if group[pair[0]] == group[pair[1]]]
    several = [g for g in group.values() if list(group.values()).count(g) > 1]
    assert len(right) / len(pairs) > 0.95  # precision
    assert len({path for pair in right for path in pair}) / len(several) > 0.6  # recall, of images
    one_each = list({r.group: r for r in records}.values())
    assert len(near_duplicates(one_each)) < 0.02 * len(one_each)
