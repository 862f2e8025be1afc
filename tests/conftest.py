"""A tiny data set in the MVTec layout, and one small run that was trained on it for real."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

import anomaly_u2net
from anomaly_u2net.calibration import Terms
from anomaly_u2net.evaluation import calibrate
from anomaly_u2net.evaluation.runs import run_records
from anomaly_u2net.inference.segmenter import Segmenter
from anomaly_u2net.recipe import Recipe

#: folder → (good images, images with a defect) of each category.
PARTS = {"train": (10, 6), "validation": (4, 1), "test": (3, 3)}
#: category → (height, width): the numbers must not depend on one size.
SIZES = {"plate": (48, 40), "sheet": (64, 64)}


def write_tiny(root: Path, *, seed: int = 0) -> Path:
    """Dark noise; a defect is one bright square of 10 pixels a side."""
    rng = np.random.default_rng(seed)
    for category, (height, width) in SIZES.items():
        for part, counts in PARTS.items():
            for label, count in zip(("good", "spot"), counts, strict=True):
                for number in range(count):
                    pixels = rng.integers(0, 60, (height, width), dtype=np.uint8)
                    name = f"{part}_{label}_{number}"
                    if label != "good":
                        mask = np.zeros((height, width), np.uint8)
                        y, x = (int(rng.integers(0, side - 10)) for side in (height, width))
                        mask[y : y + 10, x : x + 10] = 255
                        pixels[mask > 0] = 230
                        save(mask, root / category / "ground_truth" / label / f"{name}_mask.png")
                    save(pixels, root / category / part / label / f"{name}.png")
    return root


def save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(pixels).save(path)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two categories, ``plate`` and ``sheet``; not to be changed (see ``own_data``)."""
    return write_tiny(tmp_path_factory.mktemp("tiny") / "data")


@pytest.fixture
def own_data(tiny_data: Path, tmp_path: Path) -> Path:
    """A copy of the tiny data set that a test may spoil."""
    return Path(shutil.copytree(tiny_data, tmp_path / "own_data"))


@pytest.fixture(scope="session")
def tiny_recipe(tiny_data: Path) -> Recipe:
    """A network of a few thousand weights, for a second of training."""
    return Recipe.from_dict(
        {
            "name": "tiny",
            "data": {"root": str(tiny_data), "validation_fraction": 0.2},
            "model": {"arch": "small", "width": 4, "depth": 2},
            "input": {"size": 32},
            "train": {
                "steps": 80,
                "validate_every": 40,
                "batch_size": 4,
                "lr": 0.02,
                "warmup": 4,
                "ema": 0.9,
                "accelerator": "cpu",
            },
        }
    )


@pytest.fixture(scope="session")
def tiny_run(tiny_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run without a calibration; not to be changed."""
    import torch

    from anomaly_u2net.training import train

    torch.set_num_threads(1)
    return train(tiny_recipe, tmp_path_factory.mktemp("tiny") / "run").folder


@pytest.fixture(scope="session")
def calibrated_run(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tiny run with its calibration.json; not to be changed."""
    run = Path(shutil.copytree(tiny_run, tmp_path_factory.mktemp("tiny") / "calibrated"))
    records = run_records(run, "calibration")
    made = calibrate(Segmenter.load(run, threads=1), records, terms=Terms(false_reject=0.2))
    made.save(run / "calibration.json")
    return run


@pytest.fixture
def quick_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the ONNX export, which takes longer than a tiny training."""
    from anomaly_u2net.training import run

    monkeypatch.setattr(run, "export_onnx", lambda model, path: path.write_bytes(b"no model"))


@pytest.fixture(scope="session")
def single_thread() -> dict[str, str]:
    """The environment for a subprocess that shall not take all cores."""
    return os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


@pytest.fixture
def this_package(single_thread: dict[str, str]) -> dict[str, str]:
    """And for a script in another folder, which is to import the package that is tested."""
    return single_thread | {"PYTHONPATH": str(Path(anomaly_u2net.__file__).parents[1])}


@pytest.fixture
def write_png() -> Callable[[np.ndarray, Path], None]:
    return save
