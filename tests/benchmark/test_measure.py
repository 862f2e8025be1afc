"""The times of cells: side by side, the median, in milliseconds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from anomaly_u2net.benchmark import Trained, cells, measure
from anomaly_u2net.recipe import Recipe

GRID = cells(Recipe.from_dict({"name": "mine"}), vary={"model.arch": ["u2netp", "small"]})
RUNS = [Trained(cell, Path(cell.folder), steps=1, minutes=0.0) for cell in GRID]


class Line:
    """Stands for loaded models and the clock: each prediction takes what ``seconds`` says."""

    def __init__(self, seconds: dict[str, list[float]]) -> None:
        self.seconds = {name: iter(times) for name, times in seconds.items()}
        self.now = 0.0
        self.calls: list[tuple[str, int]] = []

    def load(self, folder: Path, **options: Any) -> SimpleNamespace:
        assert options == {"backend": "onnx", "threads": 1, "calibrated": False}

        def predict(image: np.ndarray) -> None:
            self.calls.append((folder.name, int(image[0, 0, 0])))
            self.now += next(self.seconds[folder.name])

        return SimpleNamespace(predict=predict)

    def watch(self, monkeypatch: pytest.MonkeyPatch, *, images: int) -> None:
        records = [SimpleNamespace(path=number) for number in range(images)]
        monkeypatch.setattr(measure, "validation_records", lambda run: records)
        monkeypatch.setattr(measure, "read_image", lambda n: np.full((4, 4, 3), n, np.uint8))
        monkeypatch.setattr(measure.Segmenter, "load", self.load)
        monkeypatch.setattr(measure.time, "perf_counter", lambda: self.now)


@pytest.mark.parametrize(("images", "used"), [(1, 1), (3, 3), (10, 10), (25, 9)])
def test_cells_take_the_same_images_in_turns(
    images: int, used: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, u2netp = "small-seed0", "u2netp-seed0"
    line = Line(
        {  # a warm-up, and one image that says how many can be timed: 2 cells x 10 s / 2 s
            u2netp: [99.0, 1.25, *[0.004] * 5, *[0.006] * 5],
            small: [99.0, 0.75, *[0.001] * 9, 5.0],
        }
    )
    line.watch(monkeypatch, images=images)
    rounds: list[tuple[int, int]] = []
    found = measure.time_cells(RUNS, on_image=lambda *call: rounds.append(call))
    assert found == pytest.approx([5.0, 1.0])
    assert rounds == [(n, 10) for n in range(1, 11)]
    calls = line.calls[4:]
    assert [name for name, _ in calls] == [u2netp, small, small, u2netp] * 5
    numbers = [number for _, number in calls]
    assert numbers[::2] == numbers[1::2]
    assert len(set(numbers)) == used


@pytest.mark.parametrize(("seconds", "rounds"), [(0.0001, 100), (4.0, 5), (1000.0, 5)])
def test_how_many_images_are_timed(
    seconds: float, rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = Line({run.folder.name: [seconds] * 102 for run in RUNS})
    line.watch(monkeypatch, images=3)
    assert measure.time_cells(RUNS) == pytest.approx([1000 * seconds] * 2)
    assert len(line.calls) == 2 * (2 + rounds)
