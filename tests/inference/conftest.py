from __future__ import annotations

from pathlib import Path

import pytest
import torch

from anomaly_u2net.inference.bundle import ModelSpec, read_spec, write_spec
from anomaly_u2net.inference.export import export_onnx
from anomaly_u2net.models import U2Net, save_weights, u2net_small
from anomaly_u2net.recipe import Recipe

RECIPE = Recipe.from_dict(
    {
        "name": "tiny",
        "model": {"arch": "small", "width": 4, "depth": 2},
        "input": {"size": [64, 96]},
    }
)


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    return RECIPE


@pytest.fixture(scope="session")
def tiny_model() -> U2Net:
    """A small network whose outputs vary with the image; treat it as read-only."""
    torch.manual_seed(0)
    model = u2net_small(width=4, depth=2)
    with torch.no_grad():
        for _ in range(20):
            model.train()(torch.randn(2, 3, 64, 64))
    return model.eval()


@pytest.fixture(scope="session")
def exported(tiny_model: U2Net, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network as ONNX: exporting takes seconds, so it is done once."""
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_onnx(tiny_model, path)
    return path


@pytest.fixture
def bundle(tmp_path: Path, tiny_model: U2Net, exported: Path, recipe: Recipe) -> Path:
    """A run folder with both weight files."""
    folder = tmp_path / "run"
    save_weights(tiny_model, folder / "model.safetensors")
    (folder / "model.onnx").write_bytes(exported.read_bytes())
    write_spec(folder, recipe)
    return folder


@pytest.fixture
def spec(bundle: Path) -> ModelSpec:
    return read_spec(bundle)
