"""A trained network as an ONNX file that the base install can run."""

from __future__ import annotations

import copy
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import torch
from torch import Tensor, nn

from anomaly_u2net.files import write_aside
from anomaly_u2net.models.sides import SideNet
from anomaly_u2net.types import STRIDE


class _Fused(nn.Module):
    """Only the fused logits: (B, 3, h, w) → (B, 1, h, w)."""

    def __init__(self, model: SideNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        return self.model(image).fused


def export_onnx(model: SideNet, path: str | Path) -> None:
    """Write ``model``'s fused logits as ONNX, whole or not at all.

    Input ``image`` float32 (B, 3, h, w) with any B and any h, w that are multiples of 32; output
    ``logits`` float32 (B, 1, h, w).
    """
    batch = torch.export.Dim("batch", min=1, max=1024)
    rows = torch.export.Dim("rows", min=1, max=512)
    columns = torch.export.Dim("columns", min=1, max=512)
    network = _Fused(copy.deepcopy(model).cpu()).eval()
    example = torch.zeros(2, model.in_channels, 2 * STRIDE, 3 * STRIDE)
    with write_aside(path) as aside, _quiet():
        torch.onnx.export(
            network,
            (example,),
            aside,
            dynamo=True,
            dynamic_shapes=({0: batch, 2: STRIDE * rows, 3: STRIDE * columns},),
            input_names=["image"],
            output_names=["logits"],
            external_data=False,
            verbose=False,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's progress and its own deprecations, which are not ours to mend."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        log.setLevel(logging.ERROR)
        try:
            yield
        finally:
            log.setLevel(level)
