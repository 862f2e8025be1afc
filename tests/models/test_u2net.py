from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from anomaly_u2net.data.geometry import normalise, plan
from anomaly_u2net.data.images import image_files, read_image
from anomaly_u2net.errors import InputError
from anomaly_u2net.models import U2Net, build_model, load_weights, u2net, u2net_small, u2netp
from anomaly_u2net.models.blocks import StageSpec
from anomaly_u2net.recipe import SMALL_DEPTH, SMALL_WIDTH, ModelRecipe

SMALL = u2net_small(width=4, depth=3).eval()


def stages(model: U2Net) -> list[tuple[int, bool, int, int]]:
    """(height, dilated, channels in, channels out) of every stage, in the order they run."""
    return [
        (s.height, s.dilated, s.entry.conv.in_channels, s.entry.conv.out_channels)
        for s in (*model.encoder, *model.decoder)
    ]


def test_u2net_is_the_papers_table() -> None:
    model = u2net()
    assert sum(p.numel() for p in model.parameters()) == 44_009_869
    assert stages(model) == [
        (7, False, 3, 64),
        (6, False, 64, 128),
        (5, False, 128, 256),
        (4, False, 256, 512),
        (4, True, 512, 512),
        (4, True, 512, 512),
        (4, True, 1024, 512),
        (4, False, 1024, 256),
        (5, False, 512, 128),
        (6, False, 256, 64),
        (7, False, 128, 64),
    ]
    mids = [s.encoder[0].conv.out_channels for s in (*model.encoder, *model.decoder)]
    assert mids == [32, 32, 64, 128, 256, 256, 256, 128, 64, 32, 16]
    assert [side.in_channels for side in model.sides] == [64, 64, 128, 256, 512, 512]


def test_u2netp_is_the_papers_table() -> None:
    model = u2netp()
    assert sum(p.numel() for p in model.parameters()) == 1_131_181
    heights = [(7, False), (6, False), (5, False), (4, False), (4, True), (4, True)]
    assert [s[:2] for s in stages(model)] == heights + heights[-2::-1]
    assert [s[2] for s in stages(model)] == [3, *[64] * 5, *[128] * 5]
    assert {s.encoder[0].conv.out_channels for s in (*model.encoder, *model.decoder)} == {16}
    assert [side.in_channels for side in model.sides] == [64] * 6


@settings(deadline=None, max_examples=12)
@given(st.integers(32, 90), st.integers(32, 90), st.integers(1, 2))
def test_every_size_from_32_comes_back(height: int, width: int, batch: int) -> None:
    with torch.no_grad():
        logits = SMALL(torch.zeros(batch, 3, height, width))
    assert logits.fused.shape == (batch, 1, height, width)
    assert [side.shape for side in logits.sides] == [(batch, 1, height, width)] * 3


@pytest.mark.parametrize("depth", [2, 3, 4, 5, 6])
def test_every_depth_works_at_the_smallest_size(depth: int) -> None:
    model = u2net_small(width=4, depth=depth, in_channels=2, classes=3).eval()
    with torch.no_grad():
        logits = model(torch.randn(1, 2, 32, 33))
    assert logits.fused.shape == (1, 3, 32, 33)
    assert len(logits.sides) == depth
    assert all(side.shape == (1, 3, 32, 33) for side in logits.sides)


def test_the_last_two_stages_are_dilated_but_never_the_first_two() -> None:
    flags = {d: [s.dilated for s in u2net_small(width=4, depth=d).encoder] for d in range(2, 7)}
    assert flags == {
        2: [False, False],
        3: [False, False, True],
        4: [False, False, True, True],
        5: [False, False, False, True, True],
        6: [False, False, False, False, True, True],
    }


def test_the_fusion_is_a_1x1_convolution_over_the_sides_finest_first() -> None:
    x = torch.randn(1, 3, 40, 48)
    model = copy.deepcopy(SMALL)
    with torch.no_grad():
        nn.init.normal_(model.fuse.weight)  # type: ignore[arg-type]
        logits = model(x)
        weight, bias = model.fuse.weight[0, :, 0, 0], model.fuse.bias
        assert bias is not None
        byhand = sum(w * side for w, side in zip(weight, logits.sides, strict=True)) + bias
    torch.testing.assert_close(logits.fused, byhand)
    # The coarser the side, the smoother its map: bilinear from a halved map each time.
    rough = [side.diff(n=2, dim=3).abs().median().item() for side in logits.sides]
    assert rough[0] > rough[1] > rough[2]


def test_outputs_are_logits() -> None:
    model = u2net_small(width=4, depth=2).eval()
    nn.init.constant_(model.fuse.bias, -7.0)  # type: ignore[arg-type]
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 32, 32)).fused.max() < 0


def test_every_parameter_learns() -> None:
    torch.manual_seed(0)
    model = u2net_small(width=8, depth=3).train()
    logits = model(torch.randn(2, 3, 64, 64))
    (logits.fused.square().mean() + sum(s.square().mean() for s in logits.sides)).backward()
    assert all(p.grad is not None for p in model.parameters())
    dead = [n for n, p in model.named_parameters() if p.grad is not None and not p.grad.any()]
    assert dead == []


@pytest.mark.parametrize(("shape", "text"), [
    ((1, 3, 31, 64), r"height and width of at least 32, got \(31, 64\): enlarge the images"),
    ((1, 3, 64, 8), r"at least 32, got \(64, 8\).*input\.size"),
    ((1, 1, 64, 64), r"expected a batch of shape \(B, 3, h, w\), got \(1, 1, 64, 64\)"),
    ((3, 64, 64), r"expected a batch of shape \(B, 3, h, w\), got \(3, 64, 64\)"),
])  # fmt: skip
def test_an_unfit_batch_is_refused(shape: tuple[int, ...], text: str) -> None:
    with pytest.raises(InputError, match=text):
        SMALL(torch.zeros(shape))


def test_an_unfit_design_is_refused() -> None:
    spec = StageSpec(4, 4, 4)
    with pytest.raises(InputError, match=r"one decoder stage fewer.* got 2 encoder and 2 decoder"):
        U2Net([spec, spec], [spec, spec])
    with pytest.raises(InputError, match="expected depth ≥ 2 and width ≥ 1, got depth 1, width 16"):
        u2net_small(depth=1)


@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize("probability", [0.01, 0.5, 0.9])
def test_the_prior_is_where_every_output_starts(probability: float, classes: int) -> None:
    torch.manual_seed(0)
    model = u2net_small(width=4, depth=3, classes=classes)
    for side in model.sides:
        nn.init.zeros_(side.weight)  # type: ignore[arg-type]
    model.set_prior(probability)
    with torch.no_grad():
        logits = model.eval()(torch.randn(2, 3, 32, 32))
    for output in (logits.fused, *logits.sides):
        torch.testing.assert_close(output.sigmoid(), torch.full_like(output, probability))


@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize("prior", [None, 0.1])
def test_the_fusion_starts_as_the_mean_of_the_sides(prior: float | None, classes: int) -> None:
    """With random weights, as in the public code, it may be near their negative."""
    model = u2net_small(width=4, depth=3, classes=classes)
    if prior is not None:
        model.set_prior(prior)
    with torch.no_grad():
        logits = model.eval()(torch.randn(2, 3, 32, 32))
    torch.testing.assert_close(logits.fused, torch.stack(logits.sides).mean(0))
    if prior is not None:
        assert abs(logits.fused.mean().item() - math.log(prior / (1 - prior))) < 0.5


def test_the_small_design_has_its_own_defaults() -> None:
    model = build_model(ModelRecipe(arch="small"))
    assert isinstance(model, U2Net)
    assert len(model.encoder) == SMALL_DEPTH
    assert model.encoder[0].entry.conv.out_channels == SMALL_WIDTH
    assert len(build_model(ModelRecipe(arch="small", width=4, depth=2)).sides) == 2


def real_images() -> Iterator[np.ndarray]:
    """One real image per data set, and noise, as 320 × 320 network inputs."""
    for folder in sorted(Path(os.environ["ANOMALY_U2NET_DATA"]).iterdir()):
        files = [f for f in sorted(folder.rglob("*")) if f.suffix in (".png", ".jpg", ".bmp")]
        if files:
            image = read_image(image_files(files[len(files) // 2].parent)[0])
            height, width = image.shape[:2]
            yield plan((height, width), "stretch", size=(320, 320)).image(image)
    yield np.random.default_rng(0).integers(0, 256, (320, 320, 3), dtype=np.uint8)


def test_the_whole_network_equals_the_public_one(public_onnx: Path) -> None:
    """Against ONNX Runtime on the public weights: the fused and the six side probabilities."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = onnxruntime.InferenceSession(public_onnx, options, providers=["CPUExecutionProvider"])
    model = load_weights(u2netp(), public_onnx).eval()
    seen, spread = 0, 0.0
    for image in real_images():
        batch = normalise(image)[None]
        theirs = session.run(None, {session.get_inputs()[0].name: batch})
        with torch.no_grad():
            ours = model(torch.from_numpy(batch))
        for mine, other in zip((ours.fused, *ours.sides), theirs, strict=True):
            np.testing.assert_allclose(mine.sigmoid().numpy(), other, rtol=0, atol=1e-4)
        seen, spread = seen + 1, max(spread, float(np.ptp(theirs[0])))
    assert seen >= 4
    assert spread > 0.5  # the maps compared were not constant


def test_the_public_network_does_not_mind_the_canvas(public_onnx: Path) -> None:
    """A bright square on dark ground is salient at another, odd size as well."""
    model = load_weights(u2netp(), public_onnx).eval()
    image = np.full((251, 333, 3), 40, np.uint8)
    cv2.rectangle(image, (120, 80), (220, 170), (230, 220, 40), -1)
    with torch.no_grad():
        found = model(torch.from_numpy(normalise(image)[None])).fused.sigmoid()[0, 0] > 0.5
    truth = torch.zeros(251, 333, dtype=torch.bool)
    truth[80:171, 120:221] = True
    assert (found & truth).sum() / (found | truth).sum() > 0.9
