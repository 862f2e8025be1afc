from __future__ import annotations

import copy
import logging
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from anomaly_u2net.inference.export import export_onnx
from anomaly_u2net.models import U2Net


def opened(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def session(exported: Path) -> onnxruntime.InferenceSession:
    return opened(exported)


@pytest.mark.parametrize(
    "shape", [(1, 32, 32), (2, 64, 96), (1, 32, 320), (3, 160, 32), (5, 96, 64), (1, 256, 256)]
)
def test_it_is_the_network_at_any_size(
    session: onnxruntime.InferenceSession, tiny_model: U2Net, shape: tuple[int, int, int]
) -> None:
    batch, height, width = shape
    x = np.random.default_rng(0).normal(size=(batch, 3, height, width)).astype(np.float32)
    (logits,) = session.run(None, {"image": x})
    with torch.no_grad():
        expected = tiny_model(torch.from_numpy(x)).fused.numpy()
    assert logits.shape == (batch, 1, height, width)
    assert logits.dtype == np.float32
    assert expected.std() > 0.01
    np.testing.assert_allclose(logits, expected, atol=1e-5, rtol=1e-5)


def test_the_file_is_whole_and_says_what_it_takes(exported: Path) -> None:
    model = onnx.load(exported, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert [f.name for f in exported.parent.iterdir()] == ["model.onnx"]
    assert [i.name for i in model.graph.input] == ["image"]
    assert [o.name for o in model.graph.output] == ["logits"]
    sides = model.graph.input[0].type.tensor_type.shape.dim
    assert sides[1].dim_value == 3
    assert all(sides[axis].dim_param for axis in (0, 2, 3))


def test_exporting_leaves_the_model_the_log_and_the_screen_alone(
    tiny_model: U2Net, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = copy.deepcopy(tiny_model).train()
    before = copy.deepcopy(model.state_dict())
    logging.getLogger("torch.onnx").setLevel(logging.INFO)
    export_onnx(model, tmp_path / "a.onnx")
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert logging.getLogger("torch.onnx").level == logging.INFO
    logging.getLogger("torch.onnx").setLevel(logging.NOTSET)
    x = np.random.default_rng(1).normal(size=(2, 3, 64, 64)).astype(np.float32)
    with torch.no_grad():
        expected = tiny_model(torch.from_numpy(x)).fused.numpy()  # at rest, not as in training
    (logits,) = opened(tmp_path / "a.onnx").run(None, {"image": x})
    np.testing.assert_allclose(logits, expected, atol=1e-5, rtol=1e-5)
    assert tuple(capfd.readouterr()) == ("", "")
