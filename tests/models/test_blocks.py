from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from anomaly_u2net.models import blocks
from anomaly_u2net.models.blocks import RSU, ConvBNReLU, halve, upsample_to


def living(module: nn.Module, *, seed: int = 0) -> nn.Module:
    """The module in evaluation mode, with BatchNorm numbers that are not neutral."""
    generator = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor, low, high in (
                (layer.weight, 0.5, 1.5),
                (layer.bias, -0.3, 0.3),
                (layer.running_mean, -0.3, 0.3),
                (layer.running_var, 0.5, 2.0),
            ):
                assert tensor is not None
                tensor.data.uniform_(low, high, generator=generator)
    return module.eval()


def rebnconv(state: dict[str, Tensor], name: str, x: Tensor, *, dilation: int = 1) -> Tensor:
    """Convolution, BatchNorm at rest, ReLU, written out from the definitions."""
    y = F.conv2d(x, state[f"{name}.conv.weight"], state[f"{name}.conv.bias"], 1, dilation, dilation)
    mean, var, scale, shift = (
        state[f"{name}.bn.{key}"][None, :, None, None]
        for key in ("running_mean", "running_var", "weight", "bias")
    )
    return torch.clamp((y - mean) / torch.sqrt(var + 1e-5) * scale + shift, min=0)


def bilinear(x: Tensor, size: torch.Size) -> Tensor:
    """Half-pixel-centred bilinear resizing, one axis at a time as a matrix product."""

    def matrix(source: int, target: int) -> Tensor:
        weights = torch.zeros(target, source)
        for i in range(target):
            at = min(max((i + 0.5) * source / target - 0.5, 0), source - 1)
            low = min(int(at), max(source - 2, 0))
            weights[i, low] += 1 - (at - low)
            if source > 1:
                weights[i, low + 1] += at - low
        return weights

    return matrix(x.shape[2], size[0]) @ x @ matrix(x.shape[3], size[1]).T


def paper_rsu4(s: dict[str, Tensor], x: Tensor) -> Tensor:
    """RSU-4 as Fig. 2(e) draws it: two poolings, a dilated bottom, three decoders."""

    def pool(y: Tensor) -> Tensor:
        return F.max_pool2d(y, 2, 2, ceil_mode=True)

    xin = rebnconv(s, "entry", x)
    x1 = rebnconv(s, "encoder.0", xin)
    x2 = rebnconv(s, "encoder.1", pool(x1))
    x3 = rebnconv(s, "encoder.2", pool(x2))
    x4 = rebnconv(s, "encoder.3", x3, dilation=2)
    d3 = rebnconv(s, "decoder.0", torch.cat([x4, x3], 1))
    d2 = rebnconv(s, "decoder.1", torch.cat([bilinear(d3, x2.shape[2:]), x2], 1))
    d1 = rebnconv(s, "decoder.2", torch.cat([bilinear(d2, x1.shape[2:]), x1], 1))
    return d1 + xin


def paper_rsu4f(s: dict[str, Tensor], x: Tensor) -> Tensor:
    """RSU-4F: no pooling, dilations 1, 2, 4, 8 down and 4, 2, 1 up."""
    xin = rebnconv(s, "entry", x)
    x1 = rebnconv(s, "encoder.0", xin, dilation=1)
    x2 = rebnconv(s, "encoder.1", x1, dilation=2)
    x3 = rebnconv(s, "encoder.2", x2, dilation=4)
    x4 = rebnconv(s, "encoder.3", x3, dilation=8)
    d3 = rebnconv(s, "decoder.0", torch.cat([x4, x3], 1), dilation=4)
    d2 = rebnconv(s, "decoder.1", torch.cat([d3, x2], 1), dilation=2)
    d1 = rebnconv(s, "decoder.2", torch.cat([d2, x1], 1), dilation=1)
    return d1 + xin


@pytest.mark.parametrize(("dilated", "reference"), [(False, paper_rsu4), (True, paper_rsu4f)])
@pytest.mark.parametrize("size", [(32, 32), (33, 37), (3, 50)])
def test_rsu_is_the_papers(
    dilated: bool, reference: Callable[..., Tensor], size: tuple[int, int]
) -> None:
    torch.manual_seed(1)
    block = living(RSU(4, 3, 4, 6, dilated=dilated))
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        torch.testing.assert_close(
            block(x), reference(dict(block.state_dict()), x), atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize(
    ("height", "dilated", "poolings", "down", "up"),
    [
        (7, False, 5, [1, 1, 1, 1, 1, 1, 2], [1] * 6),
        (6, False, 4, [1, 1, 1, 1, 1, 2], [1] * 5),
        (5, False, 3, [1, 1, 1, 1, 2], [1] * 4),
        (4, False, 2, [1, 1, 1, 2], [1] * 3),
        (4, True, 0, [1, 2, 4, 8], [4, 2, 1]),
    ],
)
def test_poolings_dilations_and_widths_of_each_block(
    monkeypatch: pytest.MonkeyPatch,
    height: int,
    dilated: bool,
    poolings: int,
    down: list[int],
    up: list[int],
) -> None:
    pooled: list[int] = []
    monkeypatch.setattr(blocks, "halve", lambda x: pooled.append(x.shape[2]) or halve(x))
    block = RSU(height, 3, 8, 16, dilated=dilated)
    sides: list[int] = []
    for level in block.encoder:
        level.register_forward_hook(lambda m, i, out: sides.append(out.shape[2]))
    assert block(torch.zeros(2, 3, 64, 64)).shape == (2, 16, 64, 64)
    assert pooled == [64 // 2**i for i in range(poolings)]
    assert sides[0] == 64
    assert sides[-1] == 64 // 2**poolings
    assert all(a in (b, 2 * b) for a, b in pairwise(sides))

    def convs(name: str) -> list[Any]:
        return [level.conv for level in getattr(block, name)]

    assert [c.dilation[0] for c in convs("encoder")] == down
    assert [c.dilation[0] for c in convs("decoder")] == up
    assert [c.out_channels for c in convs("encoder")] == [8] * height
    assert [c.in_channels for c in convs("encoder")] == [16] + [8] * (height - 1)
    assert [c.in_channels for c in convs("decoder")] == [16] * (height - 1)
    assert [c.out_channels for c in convs("decoder")] == [8] * (height - 2) + [16]


@pytest.mark.parametrize("dilation", [1, 2, 4, 8])
def test_a_convolution_keeps_the_size_whatever_its_dilation(dilation: int) -> None:
    layer = ConvBNReLU(1, 1, dilation=dilation).eval()
    nn.init.zeros_(layer.conv.bias)  # type: ignore[arg-type]
    nn.init.ones_(layer.conv.weight)
    x = torch.zeros(1, 1, 21, 21)
    x[0, 0, 10, 10] = 1
    y = layer(x)
    assert y.shape == x.shape
    rows, columns = (set(index.tolist()) for index in torch.nonzero(y[0, 0], as_tuple=True))
    assert rows == columns == {10 - dilation, 10, 10 + dilation}


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 40), st.integers(1, 40))
def test_halving_rounds_up_and_keeps_the_highest(height: int, width: int) -> None:
    x = torch.arange(height * width, dtype=torch.float32).reshape(1, 1, height, width)
    y = halve(x)
    assert y.shape == (1, 1, (height + 1) // 2, (width + 1) // 2)
    assert y[0, 0, -1, -1] == x.max()
    assert y[0, 0, 0, 0] == x[0, 0, :2, :2].max()


def test_resizing_is_bilinear_with_half_pixel_centres() -> None:
    x = torch.tensor([0.0, 4.0]).reshape(1, 1, 1, 2)
    y = upsample_to(x, torch.zeros(1, 9, 1, 4))
    assert y.flatten().tolist() == [0.0, 1.0, 3.0, 4.0]
    assert upsample_to(x, torch.zeros(1, 1, 1, 2)) is x
    noise = torch.randn(1, 2, 5, 7)
    torch.testing.assert_close(
        upsample_to(noise, torch.zeros(1, 1, 9, 13)), bilinear(noise, torch.Size((9, 13)))
    )
