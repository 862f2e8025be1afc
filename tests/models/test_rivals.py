from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from anomaly_u2net.errors import InputError, ModelFileError, RecipeError
from anomaly_u2net.inference.export import export_onnx
from anomaly_u2net.models import U2Net, build_model, load_weights, save_weights
from anomaly_u2net.models.blocks import (
    BLOCKS,
    ConvBNReLU,
    Dense,
    Inception,
    Plain,
    Pyramid,
    Residual,
    StageSpec,
    pool,
    separable,
)
from anomaly_u2net.models.rivals import Bidirectional, Cascaded, Dilated, Message, unet
from anomaly_u2net.recipe import ARCHITECTURES, ModelRecipe, Recipe

#: Every block, architecture, stem and option once, as small as it can be.
DESIGNS: dict[str, ModelRecipe] = {
    "u2net": ModelRecipe(arch="u2net"),
    "u2netp": ModelRecipe(arch="u2netp"),
    "u2net_fast": ModelRecipe(arch="u2net_fast"),
    **{block: ModelRecipe(arch="small", width=8, block=block) for block in BLOCKS},
    **{
        arch: ModelRecipe(arch=arch, width=4)
        for arch in ARCHITECTURES
        if arch not in ("u2net", "u2netp", "u2net_fast")
    },
    "unshuffle2": ModelRecipe(arch="small", width=8, stem="unshuffle2"),
    "unshuffle2_learned": ModelRecipe(arch="small", width=8, stem="unshuffle2_learned"),
    "nearest": ModelRecipe(arch="small", width=8, depth=2, upsample="nearest"),
    "separable": ModelRecipe(arch="small", width=8, conv="separable"),
    "repeats": ModelRecipe(arch="small", width=4, repeats=2),
    "mean": ModelRecipe(arch="small", width=4, fuse="mean"),
    "single": ModelRecipe(arch="small", width=4, deep_supervision="none"),
    "deep unet": ModelRecipe(arch="unet", width=4, deep_supervision="all"),
    "cascade of 3": ModelRecipe(arch="cascaded", width=4, depth=3, repeats=3),
}
QUICK = [name for name in DESIGNS if name not in ("u2net", "u2netp")]
MODELS = {name: build_model(DESIGNS[name]).eval() for name in QUICK}


@pytest.mark.parametrize("name", DESIGNS)
def test_the_recipe_knows_how_many_sides_a_network_has(name: str) -> None:
    recipe = DESIGNS[name]
    assert len(build_model(recipe).sides) == max(recipe.sides, 1)
    if recipe.sides:
        data = {"name": "a", "model": recipe.model_dump(), "loss": {"side_weights": [1.0] * 9}}
        with pytest.raises(RecipeError, match=f"side_weights needs {recipe.sides} numbers, got 9"):
            Recipe.from_dict(data)


@pytest.mark.parametrize("name", QUICK)
@settings(deadline=None, max_examples=2)
@given(height=st.integers(32, 75), width=st.integers(32, 75))
def test_every_network_answers_at_every_size(name: str, height: int, width: int) -> None:
    with torch.no_grad():
        logits = MODELS[name](torch.randn(1, 3, height, width))
    assert len(logits.sides) == len(logits.native) == DESIGNS[name].sides
    for output in (logits.fused, *logits.sides):
        assert output.shape == (1, 1, height, width)
        assert torch.isfinite(output).all()


@pytest.mark.parametrize("name", QUICK)
def test_every_parameter_of_every_network_learns(name: str) -> None:
    torch.manual_seed(0)
    model = build_model(DESIGNS[name]).train()
    logits = model(torch.randn(2, 3, 64, 64))
    (logits.fused.square().mean() + sum(s.square().mean() for s in logits.sides)).backward()
    dead = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


#: The designs of docs/reference/rivals.md as shallow as they get: the exporter takes its time over
#: each layer. ``rsu`` stands for u2net and u2netp, which are more and wider stages of it.
EXPORTED: dict[str, ModelRecipe] = {
    **{block: ModelRecipe(arch="small", width=8, depth=2, block=block) for block in BLOCKS},
    **{
        stem: ModelRecipe(arch="small", width=8, depth=2, block="plain", stem=stem)
        for stem in ("unshuffle2", "unshuffle2_learned")
    },
    **{
        arch: ModelRecipe(arch=arch, width=4, depth=2)
        for arch in ("unet", "cascaded", "hed", "bidirectional")
    },
    "separable": ModelRecipe(arch="small", width=8, depth=2, block="plain", conv="separable"),
    "nearest": ModelRecipe(arch="small", width=8, depth=2, block="plain", upsample="nearest"),
    "dilated": ModelRecipe(arch="dilated", width=4),
    "u2net_fast": ModelRecipe(arch="u2net_fast"),
    "smp": ModelRecipe(arch="smp/unet-resnet18"),
}


@pytest.mark.parametrize("name", EXPORTED)
def test_every_design_exports(name: str, tmp_path: Path) -> None:
    """At another batch, height and width than the exporter's example, and back into the network.

    Not back: a depthwise convolution has no bias to fold BatchNorm into, smp keeps its BatchNorm.
    """
    import onnxruntime

    if name == "smp":
        pytest.importorskip("segmentation_models_pytorch", reason="extra smp is not installed")
    torch.manual_seed(0)
    model = build_model(EXPORTED[name]).eval()
    export_onnx(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(
        tmp_path / "model.onnx", providers=["CPUExecutionProvider"]
    )
    images = np.random.default_rng(0).normal(size=(1, 3, 96, 160)).astype(np.float32)
    (found,) = session.run(None, {"image": images})
    with torch.no_grad():
        expected = model(torch.from_numpy(images)).fused.numpy()
    assert expected.std() > 1e-3
    np.testing.assert_allclose(found, expected, atol=1e-5)
    if name in ("separable", "smp"):
        return
    again = load_weights(build_model(EXPORTED[name]), tmp_path / "model.onnx").eval()
    with torch.no_grad():
        started = again(torch.from_numpy(images)).fused.numpy()
    np.testing.assert_allclose(started, expected, atol=1e-5)


def ones(module: nn.Module) -> nn.Module:
    """Every weight 1, every bias 0, BatchNorm neutral: a convolution adds up what it sees."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.ones_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        if isinstance(part, nn.BatchNorm2d):
            part.eps = 0.0
    return module.eval()


def reach(block: nn.Module) -> set[tuple[int, int]]:
    """Where a single lit pixel shows in the output, as (rows, columns) from it."""
    image = torch.zeros(1, 1, 65, 65)
    image[0, 0, 32, 32] = 1
    with torch.no_grad():
        found = ones(block)(image)[0, 0]
    return {(int(y) - 32, int(x) - 32) for y, x in torch.nonzero(found)}


def square(radius: int) -> set[tuple[int, int]]:
    span = range(-radius, radius + 1)
    return {(y, x) for y in span for x in span}


def test_how_far_the_blocks_without_levels_see() -> None:
    assert reach(Plain(1, 2, 1)) == square(2)  # two 3×3
    assert reach(Residual(1, 2, 1)) == square(2)
    assert reach(Dense(1, 2, 1)) == square(4)  # three layers and the exit, one behind the other
    assert reach(Inception(1, 2, 1)) <= square(1 + 8 + 1)  # entry, widest dilation, exit
    assert (10, 10) in reach(Inception(1, 2, 1))
    assert max(reach(Pyramid(1, 2, 1)))[0] > 8  # means over 8 × 8 pixels


def test_a_residual_block_adds_its_input() -> None:
    block = Residual(4, 3, 4)
    nn.init.zeros_(block.body[1].bn.weight)  # type: ignore[union-attr, arg-type]
    x = torch.randn(1, 4, 8, 8)
    assert isinstance(block.shortcut, nn.Identity)
    with torch.no_grad():
        torch.testing.assert_close(block.eval()(x), F.relu(x))
    assert isinstance(Residual(4, 3, 5).shortcut, nn.Conv2d)


def test_a_dense_layer_sees_all_before_it() -> None:
    block = Dense(5, 7, 11)
    widths = [layer.conv.in_channels for layer in (*block.layers, block.exit)]
    assert widths == [5, 12, 19, 26]


def test_means_of_odd_sizes_leave_the_border_out() -> None:
    found = pool(torch.tensor([[[[1.0, 2.0, 5.0]]]]), 2)
    assert found.tolist() == [[[[1.5, 5.0]]]]


def test_separable_keeps_the_maps_sizes_and_the_first_layer() -> None:
    block = Plain(3, 16, 8)
    separable(block)
    first, second = block[0].conv, block[1].conv
    assert isinstance(first, nn.Conv2d)
    depthwise, pointwise = second  # type: ignore[misc]
    assert depthwise.groups == 16
    assert pointwise.kernel_size == (1, 1)
    assert block(torch.zeros(1, 3, 9, 9)).shape == (1, 8, 9, 9)


@pytest.mark.parametrize(
    "recipe",
    [
        ModelRecipe(arch="small", width=4),
        ModelRecipe(arch="small", width=16, stem="unshuffle2"),
        ModelRecipe(arch="cascaded", width=4, depth=2),
        ModelRecipe(arch="bidirectional", width=4, depth=2),
    ],
    ids=lambda recipe: f"{recipe.arch}, {recipe.stem}",
)
def test_only_the_layer_that_sees_the_image_stays_whole(recipe: ModelRecipe) -> None:
    model = build_model(recipe)
    seen: list[nn.Module] = []
    for block in model.modules():
        if isinstance(block, ConvBNReLU):
            block.register_forward_hook(lambda block, inputs, output: seen.append(block))
    model.eval()(torch.zeros(1, 3, 32, 32))
    separable(model)
    whole = [block for block in model.modules()
             if isinstance(block, ConvBNReLU) and isinstance(block.conv, nn.Conv2d)]  # fmt: skip
    assert len(whole) == 1
    assert whole[0] is seen[0]


def test_a_u_net_has_one_output_and_doubling_channels() -> None:
    model = unet(width=4, depth=5)
    assert [stage[1].conv.out_channels for stage in model.encoder] == [4, 8, 16, 32, 32]  # type: ignore[index]
    assert len(model.sides) == 1
    assert model.fuse is None


def test_the_second_of_a_cascade_sees_the_image_and_the_first() -> None:
    model = Cascaded(count=2, width=4, depth=3)
    seen = [stage.encoder[0][0].conv.in_channels for stage in model.stages]  # type: ignore[index, union-attr]
    assert seen == [3, 3 + 4]
    with pytest.raises(InputError, match="2 or more U-Nets, got 1: use arch unet"):
        Cascaded(count=1)


def test_a_dilated_network_keeps_an_eighth() -> None:
    features = Dilated(width=4).eval().features(torch.zeros(1, 3, 64, 64))
    assert [tuple(f.shape) for f in features] == [(1, 32, 8, 8)]


def test_messages_go_both_ways() -> None:
    """What only the coarsest stage sees reaches the finest output, and the other way round."""
    model = Bidirectional(width=4, depth=3).eval()
    seen: dict[str, torch.Tensor] = {}
    for name, stage in (("fine", 0), ("coarse", 2)):
        changed = Bidirectional(width=4, depth=3).eval()
        changed.load_state_dict(model.state_dict())
        nn.init.constant_(changed.narrow[stage].bn.bias, 5.0)  # type: ignore[union-attr, arg-type]
        x = torch.ones(1, 3, 64, 64)
        with torch.no_grad():
            before, after = model.features(x), changed.features(x)
        seen[name] = torch.tensor(
            [bool((a != b).any()) for a, b in zip(after, before, strict=True)]
        )
    assert seen["fine"].all()
    assert seen["coarse"].all()


def test_a_closed_gate_stops_the_message() -> None:
    message = Message(3).eval()
    nn.init.constant_(message.gate.bias, -1e4)  # type: ignore[arg-type]
    assert not message(torch.randn(1, 3, 5, 5)).any()


def test_unshuffling_sees_the_image_at_half_its_size() -> None:
    model = MODELS["unshuffle2"]
    assert isinstance(model, U2Net)
    logits = model(torch.zeros(1, 3, 65, 70))
    assert [tuple(side.shape[2:]) for side in logits.native][:2] == [(33, 35), (17, 18)]
    learned = MODELS["unshuffle2_learned"](torch.zeros(1, 3, 64, 64))
    assert [side.shape[2] for side in learned.native] == [64, 32, 16, 8]


def test_repeats_put_blocks_in_a_row() -> None:
    stage = build_model(DESIGNS["repeats"]).encoder[1]  # type: ignore[index]
    assert isinstance(stage, nn.Sequential)
    assert len(stage) == 2


def test_the_mean_fusion_has_no_weights() -> None:
    model = MODELS["mean"]
    with torch.no_grad():
        logits = model(torch.randn(1, 3, 40, 40))
    torch.testing.assert_close(logits.fused, torch.stack(logits.sides).mean(0))
    assert model.fuse is None


@pytest.mark.parametrize("name", QUICK)
def test_every_fusion_starts_as_the_mean_of_the_sides(name: str) -> None:
    with torch.no_grad():
        logits = build_model(DESIGNS[name]).eval()(torch.randn(1, 3, 64, 64))
    said = logits.sides or (logits.fused,)
    torch.testing.assert_close(logits.fused, torch.stack(said).mean(0))


@pytest.mark.parametrize("name", QUICK)
def test_the_prior_reaches_every_output(name: str) -> None:
    model = build_model(DESIGNS[name])
    model.set_prior(0.01)
    with torch.no_grad():
        logits = model.eval()(torch.randn(1, 3, 64, 64))
    for output in (logits.fused, *logits.sides):
        assert abs(output.mean().item() - math.log(0.01 / 0.99)) < 0.5


@pytest.mark.parametrize(("keys", "text"), [
    ({"arch": "unet", "block": "dense"}, "block does not belong to arch unet"),
    ({"arch": "u2netp", "width": 8}, "width does not belong to arch u2netp"),
    ({"arch": "dilated", "deep_supervision": "all"}, "deep_supervision does not belong to arch dilated"),
    ({"arch": "hed", "deep_supervision": "none"},
     "arch hed is made of its side outputs: expected deep_supervision all or fused_only, got none"),
    ({"arch": "bidirectional", "deep_supervision": "none"}, "arch bidirectional is made of its side"),
    ({"arch": "smp/unet-resnet18", "fuse": "mean"}, "fuse does not belong to arch smp/unet-resnet18"),
    ({"arch": "cascaded", "depth": 3, "block": "dense", "mid": 8},
     r"block, mid do not belong to arch cascaded: set block to rsu, mid to null \(its keys: repeats,"),
    ({"arch": "segnet"}, "unknown architecture 'segnet': expected one of u2net, u2netp, u2net_fast"),
])  # fmt: skip
def test_keys_of_another_architecture_are_refused(keys: dict[str, str], text: str) -> None:
    with pytest.raises(RecipeError, match=text):
        Recipe.from_dict({"name": "a", "model": keys})


def test_the_authors_file_does_not_fit_another_block(tmp_path: Path) -> None:
    path = tmp_path / "theirs.pth"
    torch.save({"stage1.rebnconvin.conv_s1.weight": torch.zeros(1)}, path)
    with pytest.raises(ModelFileError, match=r"does not fit the model.*check model\.arch"):
        load_weights(MODELS["dense"], path)


@pytest.mark.parametrize("name", ["cascaded", "separable"])
def test_weights_come_back(name: str, tmp_path: Path) -> None:
    save_weights(MODELS[name], tmp_path / "weights.safetensors")
    again = load_weights(build_model(DESIGNS[name]), tmp_path / "weights.safetensors").eval()
    x = torch.randn(1, 3, 40, 40)
    with torch.no_grad():
        torch.testing.assert_close(again(x).fused, MODELS[name](x).fused, rtol=0, atol=0)


def test_a_stage_is_made_of_what_the_block_says() -> None:
    kinds = {name: type(make(StageSpec(4, 4, 8), 3)).__name__ for name, make in BLOCKS.items()}
    assert kinds == {
        "rsu": "RSU", "plain": "Plain", "residual": "Residual", "dense": "Dense",
        "inception": "Inception", "pyramid": "Pyramid",
    }  # fmt: skip


class TestPeer:
    """Networks of segmentation_models.pytorch."""

    pytest.importorskip("segmentation_models_pytorch", reason="extra smp is not installed")

    def test_it_answers_at_odd_sizes_and_has_a_prior(self) -> None:
        model = build_model(ModelRecipe(arch="smp/unet-resnet18"))
        model.set_prior(0.01)
        with torch.no_grad():
            logits = model.eval()(torch.randn(1, 3, 45, 70))
        assert logits.fused.shape == (1, 1, 45, 70)
        assert logits.sides == ()
        assert abs(logits.fused.mean().item() - math.log(0.01 / 0.99)) < 0.5

    def test_unknown_names_are_refused(self) -> None:
        with pytest.raises(
            InputError, match=r"unknown model\.arch 'smp/foo-resnet18': expected smp/"
        ):
            build_model(ModelRecipe(arch="smp/foo-resnet18"))
        with pytest.raises(InputError, match=r"unknown encoder 'resnet1' in .*\(did you mean 'r"):
            build_model(ModelRecipe(arch="smp/unet-resnet1"))
        with pytest.raises(InputError, match=r"unknown encoder 'zzz' in .*known here: .*…\)$") as e:
            build_model(ModelRecipe(arch="smp/unet-zzz"))
        assert len(str(e.value)) < 400
        with pytest.raises(
            InputError, match=r"padding of tf_ .*; take 'tu-efficientnet_lite0', of"
        ):
            build_model(ModelRecipe(arch="smp/unet-tu-tf_efficientnet_lite0"))

    @pytest.mark.parametrize(("arch", "reason"), [
        ("smp/unetplusplus-mit_b0", "not support encoder_name=mit_b0"),
        ("smp/deeplabv3plus-densenet121", "do not support dilated mode"),
        ("smp/dpt-resnet18", "Only Timm encoders are supported for DPT"),
        ("smp/unet-tu-nonsense", r"Unknown model \(nonsense\)"),
    ])  # fmt: skip
    def test_what_does_not_go_together_is_refused(self, arch: str, reason: str) -> None:
        text = (
            rf"cannot make model\.arch '{arch}' \(.*{reason}.*\): take another encoder or decoder$"
        )
        with pytest.raises(InputError, match=text):
            build_model(ModelRecipe(arch=arch))
