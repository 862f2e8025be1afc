from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from anomaly_u2net.errors import ModelFileError
from anomaly_u2net.inference.backends import (
    BACKENDS,
    Backend,
    module_backend,
    onnx_backend,
    torch_backend,
)
from anomaly_u2net.inference.bundle import ModelSpec, read_spec, write_spec
from anomaly_u2net.models import U2Net, save_weights, u2net_small
from anomaly_u2net.recipe import Recipe

X = np.random.default_rng(0).normal(size=(2, 3, 64, 96)).astype(np.float32)


@pytest.fixture
def threads() -> object:
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("name", ["onnx", "torch"])
@pytest.mark.parametrize("count", [None, 1])
def test_both_give_the_networks_logits(
    bundle: Path, spec: ModelSpec, tiny_model: U2Net, name: str, count: int | None
) -> None:
    assert set(BACKENDS) == {"onnx", "torch"}
    run: Backend = BACKENDS[name](bundle, spec, threads=count)
    logits = run(X)
    with torch.no_grad():
        expected = tiny_model(torch.from_numpy(X)).fused.numpy()
    assert logits.shape == (2, 1, 64, 96)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(run(X[1:]), expected[1:], atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("threads")
def test_threads_reach_torch(bundle: Path, spec: ModelSpec) -> None:
    torch_backend(bundle, spec, threads=1)
    assert torch.get_num_threads() == 1


def test_a_module_runs_at_rest_and_is_left_as_it_was(tiny_model: U2Net) -> None:
    model = u2net_small(width=4, depth=2)
    model.load_state_dict(tiny_model.state_dict())
    expected = module_backend(tiny_model)(X)
    model.train()
    np.testing.assert_array_equal(module_backend(model)(X), expected)
    assert model.training
    for key, value in model.state_dict().items():
        assert torch.equal(value, tiny_model.state_dict()[key])


@pytest.mark.parametrize("name", ["onnx", "torch"])
def test_a_tampered_weight_file_is_not_run(bundle: Path, spec: ModelSpec, name: str) -> None:
    path = bundle / ("model.onnx" if name == "onnx" else "model.safetensors")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match="altered or damaged"):
        BACKENDS[name](bundle, spec)


def test_files_that_are_none(tmp_path: Path, recipe: Recipe) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not onnx")
    (tmp_path / "model.safetensors").write_bytes(b"not safetensors")
    spec = write_spec(tmp_path, recipe)
    with pytest.raises(ModelFileError, match=r"model\.onnx: onnxruntime cannot read it"):
        onnx_backend(tmp_path, spec)
    with pytest.raises(ModelFileError, match="not a whole safetensors file"):
        torch_backend(tmp_path, spec)


def test_weights_of_another_architecture(tmp_path: Path, recipe: Recipe) -> None:
    save_weights(u2net_small(width=8, depth=2), tmp_path / "model.safetensors")
    write_spec(tmp_path, recipe)
    with pytest.raises(ModelFileError, match=r"does not fit the model: .*check model\.arch"):
        torch_backend(tmp_path, read_spec(tmp_path))
