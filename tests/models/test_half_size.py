"""Warm starts of networks that work at half the image's size."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch
from torch.nn import functional as F

from anomaly_u2net.models import build_model, load_weights, save_weights, u2netp
from anomaly_u2net.recipe import ModelRecipe


@pytest.mark.parametrize("stem", ["unshuffle2", "unshuffle2_learned"])
def test_a_network_at_half_size_takes_the_weights_of_a_whole_one(
    stem: Literal["unshuffle2", "unshuffle2_learned"], tmp_path: Path
) -> None:
    """Its native outputs are those of the whole network on the image averaged over 2 × 2 pixels."""
    torch.manual_seed(0)
    whole = build_model(ModelRecipe(arch="small", width=4, depth=3)).eval()
    save_weights(whole, tmp_path / "whole.safetensors")
    half = build_model(ModelRecipe(arch="small", width=4, depth=3, stem=stem)).eval()
    load_weights(half, tmp_path / "whole.safetensors")
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = whole(F.avg_pool2d(x, 2)).native
        found = half(x).native
    for mine, theirs in zip(found, expected, strict=True):
        if stem == "unshuffle2_learned":
            theirs = F.interpolate(theirs, scale_factor=2.0, mode="nearest")
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


def test_the_public_weights_start_the_fast_network(public_onnx: Path) -> None:
    model = build_model(ModelRecipe(arch="u2netp", stem="unshuffle2_learned")).eval()
    load_weights(model, public_onnx)
    whole = load_weights(u2netp(), public_onnx).eval()
    x = torch.rand(1, 3, 96, 128)
    with torch.no_grad():
        expected = F.interpolate(whole(F.avg_pool2d(x, 2)).native[0], scale_factor=2.0)
        torch.testing.assert_close(model(x).native[0], expected, rtol=1e-3, atol=1e-3)
