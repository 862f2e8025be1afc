"""The public saliency weights, which lie beside the data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def public_onnx() -> Path:
    data = os.environ.get("ANOMALY_U2NET_DATA")
    if not data:
        pytest.skip("ANOMALY_U2NET_DATA is not set: the public u2netp.onnx lies beside it")
    path = Path(data).parent / "weights" / "u2netp.onnx"
    if not path.is_file():
        pytest.skip("there is no weights/u2netp.onnx beside ANOMALY_U2NET_DATA")
    return path
