"""Running the network: onnxruntime (needs no torch) or torch.

A backend is a function from a normalised image batch, float32 (B, 3, h, w), to the fused logits,
float32 (B, 1, h, w).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from anomaly_u2net.errors import ModelFileError
from anomaly_u2net.inference.bundle import ModelSpec, weight_file
from anomaly_u2net.resources import require_extra

if TYPE_CHECKING:
    from torch import nn

Backend: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def onnx_backend(folder: Path, spec: ModelSpec, *, threads: int | None = None) -> Backend:
    """``model.onnx`` on the CPU by onnxruntime; ``threads`` None: all cores."""
    import onnxruntime

    path = weight_file(folder, spec, "onnx")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises classes that it does not export
        raise ModelFileError(f"{path}: onnxruntime cannot read it: {error}") from error
    name = session.get_inputs()[0].name
    return lambda batch: session.run(None, {name: batch})[0]


def torch_backend(folder: Path, spec: ModelSpec, *, threads: int | None = None) -> Backend:
    """``model.safetensors`` by torch, on a GPU where there is one."""
    require_extra("train", "torch", "safetensors")
    import torch

    from anomaly_u2net.models import build_model, load_weights

    if threads is not None:
        torch.set_num_threads(threads)
    model = build_model(spec.model)
    load_weights(model, weight_file(folder, spec, "safetensors"))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return module_backend(model.to(device).eval())


def module_backend(model: nn.Module) -> Backend:
    """A torch network in memory, run where its parameters are, in evaluation mode."""
    import torch

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        device = next(model.parameters()).device
        was_training = model.training
        model.eval()
        try:
            with torch.inference_mode():
                return model(torch.from_numpy(batch).to(device)).fused.float().cpu().numpy()
        finally:
            model.train(was_training)

    return run


#: What ``--backend`` may name.
BACKENDS = {"onnx": onnx_backend, "torch": torch_backend}
