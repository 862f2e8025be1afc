from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from anomaly_u2net.errors import InputError, ModelFileError, UnfitWeightsError
from anomaly_u2net.models import (
    U2Net,
    build_model,
    load_weights,
    reestimate_batchnorm,
    save_weights,
    u2net,
    u2net_small,
    u2netp,
)
from anomaly_u2net.models.weights import from_authors_keys, to_authors_keys
from anomaly_u2net.recipe import ModelRecipe

IMAGES = torch.randn(2, 3, 48, 40, generator=torch.Generator().manual_seed(5))


def tiny() -> U2Net:
    return u2net_small(width=4, depth=3)


def living(model: U2Net, *, seed: int = 0) -> U2Net:
    """The model in evaluation mode, with BatchNorm numbers that are not neutral."""
    generator = torch.Generator().manual_seed(seed)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.weight.data.uniform_(0.5, 1.5, generator=generator)
            layer.bias.data.uniform_(-0.3, 0.3, generator=generator)
            layer.running_mean.data.uniform_(-0.3, 0.3, generator=generator)
            layer.running_var.data.uniform_(0.5, 2.0, generator=generator)
    return model.eval()


@torch.no_grad()
def output(model: U2Net, *, train: bool = False) -> Tensor:
    model.train(train)
    logits = model(IMAGES)
    return torch.cat([logits.fused, *logits.sides])


# --- our own file ---------------------------------------------------------------------------


def test_round_trip(tmp_path: Path) -> None:
    model = living(tiny())
    save_weights(model, tmp_path / "deep" / "model.safetensors")
    again = load_weights(tiny(), tmp_path / "deep" / "model.safetensors")
    assert torch.equal(output(again), output(model))
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)
    assert [f.name for f in (tmp_path / "deep").iterdir()] == ["model.safetensors"]


def test_the_model_is_loaded_in_place(tmp_path: Path) -> None:
    save_weights(tiny(), tmp_path / "a.safetensors")
    model = tiny()
    assert load_weights(model, tmp_path / "a.safetensors") is model


# --- the authors' file ----------------------------------------------------------------------

#: (stage, RSU-height, dilated, in, mid, out), read off the public architecture.
PUBLIC = {
    "u2net": [
        ("stage1", 7, 3, 32, 64), ("stage2", 6, 64, 32, 128), ("stage3", 5, 128, 64, 256),
        ("stage4", 4, 256, 128, 512), ("stage5", 4, 512, 256, 512), ("stage6", 4, 512, 256, 512),
        ("stage5d", 4, 1024, 256, 512), ("stage4d", 4, 1024, 128, 256),
        ("stage3d", 5, 512, 64, 128), ("stage2d", 6, 256, 32, 64), ("stage1d", 7, 128, 16, 64),
    ],
    "u2netp": [
        ("stage1", 7, 3, 16, 64), ("stage2", 6, 64, 16, 64), ("stage3", 5, 64, 16, 64),
        ("stage4", 4, 64, 16, 64), ("stage5", 4, 64, 16, 64), ("stage6", 4, 64, 16, 64),
        ("stage5d", 4, 128, 16, 64), ("stage4d", 4, 128, 16, 64),
        ("stage3d", 5, 128, 16, 64), ("stage2d", 6, 128, 16, 64), ("stage1d", 7, 128, 16, 64),
    ],
}  # fmt: skip
SIDES = {"u2net": [64, 64, 128, 256, 512, 512], "u2netp": [64] * 6}
MAKERS: dict[str, Callable[[], U2Net]] = {"u2net": u2net, "u2netp": u2netp}


def public_shapes(arch: str) -> dict[str, tuple[int, ...]]:
    """Every key of the public .pth with its shape, by the naming rules of the public code."""
    shapes: dict[str, tuple[int, ...]] = {}

    def rebnconv(name: str, cin: int, cout: int) -> None:
        shapes[f"{name}.conv_s1.weight"] = (cout, cin, 3, 3)
        shapes[f"{name}.conv_s1.bias"] = (cout,)
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.bn_s1.{part}"] = (cout,)
        shapes[f"{name}.bn_s1.num_batches_tracked"] = ()

    for stage, height, cin, mid, cout in PUBLIC[arch]:
        rebnconv(f"{stage}.rebnconvin", cin, cout)
        rebnconv(f"{stage}.rebnconv1", cout, mid)
        for i in range(2, height + 1):
            rebnconv(f"{stage}.rebnconv{i}", mid, mid)
        for i in range(height - 1, 1, -1):
            rebnconv(f"{stage}.rebnconv{i}d", 2 * mid, mid)
        rebnconv(f"{stage}.rebnconv1d", 2 * mid, cout)
    for i, channels in enumerate(SIDES[arch], start=1):
        shapes[f"side{i}.weight"], shapes[f"side{i}.bias"] = (1, channels, 3, 3), (1,)
    shapes["outconv.weight"], shapes["outconv.bias"] = (1, 6, 1, 1), (1,)
    return shapes


@pytest.mark.parametrize("arch", ["u2net", "u2netp"])
def test_the_key_map_is_the_public_naming(arch: str) -> None:
    model = MAKERS[arch]()
    theirs = to_authors_keys(model.state_dict(), model)
    assert {k: tuple(v.shape) for k, v in theirs.items()} == public_shapes(arch)
    back = from_authors_keys(theirs, model)
    assert {k: v.data_ptr() for k, v in back.items()} == {
        k: v.data_ptr() for k, v in model.state_dict().items()
    }


def public_state(arch: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    state = {}
    for key, shape in public_shapes(arch).items():
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(7)
        elif key.endswith(("running_var", "bn_s1.weight")):
            state[key] = torch.rand(shape, generator=generator) + 0.5
        else:
            scale = 0.05 if len(shape) == 4 else 0.1
            state[key] = torch.randn(shape, generator=generator) * scale
    return state


@torch.no_grad()
def public_forward(state: dict[str, Tensor], x: Tensor) -> list[Tensor]:
    """U²-Net from a public state dict, written out: the side logits, finest first, and fused."""
    F = nn.functional  # noqa: N806

    def unit(name: str, y: Tensor, d: int = 1) -> Tensor:
        conv, bn = f"{name}.conv_s1.", f"{name}.bn_s1."
        y = F.conv2d(y, state[conv + "weight"], state[conv + "bias"], padding=d, dilation=d)
        numbers = (state[bn + k] for k in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(y, *numbers).relu()

    def up(y: Tensor, like: Tensor) -> Tensor:
        return F.interpolate(y, size=like.shape[2:], mode="bilinear", align_corners=False)

    def pool(y: Tensor) -> Tensor:
        return F.max_pool2d(y, 2, 2, ceil_mode=True)

    def rsu(stage: str, height: int, y: Tensor) -> Tensor:
        flat = stage in ("stage5", "stage6", "stage5d")
        entry = unit(f"{stage}.rebnconvin", y)
        levels = [unit(f"{stage}.rebnconv1", entry)]
        for i in range(2, height + 1):
            last = i == height
            inside = levels[-1] if flat or last else pool(levels[-1])
            dilation = 2 ** (i - 1) if flat else (2 if last else 1)
            levels.append(unit(f"{stage}.rebnconv{i}", inside, dilation))
        y = levels[-1]
        for i in range(height - 1, 0, -1):
            skip = levels[i - 1]
            dilation = 2 ** (i - 1) if flat else 1
            y = unit(f"{stage}.rebnconv{i}d", torch.cat([up(y, skip), skip], 1), dilation)
        return y + entry

    heights = {"1": 7, "2": 6, "3": 5, "4": 4, "5": 4, "6": 4}
    downs = [rsu("stage1", 7, x)]
    for n in "23456":
        downs.append(rsu(f"stage{n}", heights[n], pool(downs[-1])))
    features = {6: downs[5]}
    for n in (5, 4, 3, 2, 1):
        skip = downs[n - 1]
        joined = torch.cat([up(features[n + 1], skip), skip], 1)
        features[n] = rsu(f"stage{n}d", heights[str(n)], joined)
    sides = []
    for n in range(1, 7):
        side = F.conv2d(features[n], state[f"side{n}.weight"], state[f"side{n}.bias"], padding=1)
        sides.append(up(side, x))
    fused = F.conv2d(torch.cat(sides, 1), state["outconv.weight"], state["outconv.bias"])
    return [fused, *sides]


@pytest.mark.parametrize(("arch", "prefix", "tracked"), [
    ("u2netp", "", True),
    ("u2netp", "", False),
    ("u2netp", "module.", True),
    ("u2net", "", True),
])  # fmt: skip
def test_the_authors_file_gives_the_authors_output(
    tmp_path: Path, arch: str, prefix: str, tracked: bool
) -> None:
    state = public_state(arch)
    kept = {prefix + k: v for k, v in state.items() if tracked or not k.endswith("batches_tracked")}
    torch.save(kept, tmp_path / f"{arch}.pth")
    model = load_weights(MAKERS[arch](), tmp_path / f"{arch}.pth").eval()
    expected = torch.cat(public_forward(state, IMAGES))
    assert expected.std() > 0.01
    torch.testing.assert_close(output(model), expected, atol=1e-4, rtol=1e-4)


def test_the_big_authors_file_loads(tmp_path: Path) -> None:
    state = public_state("u2net")
    torch.save(state, tmp_path / "u2net.pth")
    model = load_weights(u2net(), tmp_path / "u2net.pth")
    ours = model.state_dict()
    assert torch.equal(
        ours["encoder.1.encoder.5.conv.weight"], state["stage2.rebnconv6.conv_s1.weight"]
    )
    assert torch.equal(
        ours["decoder.0.decoder.0.bn.running_var"], state["stage5d.rebnconv3d.bn_s1.running_var"]
    )
    assert torch.equal(
        ours["decoder.4.decoder.5.conv.bias"], state["stage1d.rebnconv1d.conv_s1.bias"]
    )
    assert torch.equal(ours["sides.5.weight"], state["side6.weight"])
    assert torch.equal(ours["fuse.weight"], state["outconv.weight"])


@pytest.mark.parametrize("suffix", [".pth", ".pt"])
def test_our_own_names_in_a_pth(tmp_path: Path, suffix: str) -> None:
    model = living(tiny())
    torch.save(model.state_dict(), tmp_path / f"a{suffix}")
    assert torch.equal(output(load_weights(tiny(), tmp_path / f"a{suffix}")), output(model))


# --- the folded ONNX file -------------------------------------------------------------------


def folded(model: U2Net) -> list[tuple[np.ndarray, np.ndarray]]:
    """(weight, bias) of each convolution with the BatchNorm after it folded in, in order."""
    modules = list(model.modules())
    pairs = []
    for module, following in zip(modules, [*modules[1:], None], strict=True):
        if not isinstance(module, nn.Conv2d):
            continue
        assert module.bias is not None
        weight, bias = module.weight.detach().double(), module.bias.detach().double()
        if isinstance(following, nn.BatchNorm2d):
            assert following.running_mean is not None
            assert following.running_var is not None
            scale = following.weight.double() / (following.running_var.double() + 1e-5).sqrt()
            weight = weight * scale[:, None, None, None]
            bias = (bias - following.running_mean.double()) * scale + following.bias.double()
        pairs.append((weight.detach().float().numpy(), bias.detach().float().numpy()))
    return pairs


def folded_onnx(path: Path, model: U2Net, *, drop: int = 0, store: bool = True) -> Path:
    """A file with ``model``'s convolutions alone, as the loader looks at nothing else."""
    nodes, tensors = [], []
    pairs = folded(model)
    for n, (weight, bias) in enumerate(pairs[: len(pairs) - drop]):
        names = [f"w{n}", f"b{n}"]
        nodes.append(helper.make_node("Conv", ["x", *names], [f"y{n}"], name=f"conv{n}"))
        nodes.append(helper.make_node("Relu", [f"y{n}"], [f"z{n}"]))
        if store or n:
            tensors += [
                numpy_helper.from_array(v, k) for k, v in zip(names, (weight, bias), strict=True)
            ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 32, 32])
    y = helper.make_tensor_value_info("z0", TensorProto.FLOAT, None)
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [x], [y], tensors)), path)
    return path


def test_a_folded_onnx_gives_the_output_of_what_was_folded(tmp_path: Path) -> None:
    model = living(tiny(), seed=4)
    path = folded_onnx(tmp_path / "a.onnx", model)
    again = load_weights(living(tiny(), seed=9), path)  # its own BatchNorm must be forgotten
    torch.testing.assert_close(output(again), output(model), atol=1e-5, rtol=1e-5)
    for layer in again.modules():
        if isinstance(layer, nn.BatchNorm2d):
            x = torch.linspace(-3, 3, layer.num_features)[None, :, None, None]
            torch.testing.assert_close(layer(x), x, atol=0, rtol=1e-6)


def test_a_folded_onnx_of_another_architecture(tmp_path: Path) -> None:
    path = folded_onnx(tmp_path / "a.onnx", tiny(), drop=1)
    count = len(folded(tiny()))
    with pytest.raises(
        ModelFileError, match=f"expected {count} convolutions, got {count - 1}: .* another arch"
    ):
        load_weights(tiny(), path)
    for cause in ({"block": "plain"}, {"repeats": 2}, {"conv": "separable"}):
        other = build_model(ModelRecipe(arch="small", width=4, depth=3, **cause))
        with pytest.raises(
            ModelFileError,
            match=r"expected \d+ convolutions, got \d+: .*, or of other blocks: check model\.arch, "
            r"block, repeats, conv, stem,",
        ):
            load_weights(other, folded_onnx(tmp_path / "c.onnx", tiny()))
    path = folded_onnx(tmp_path / "b.onnx", u2net_small(width=8, depth=3))
    with pytest.raises(
        ModelFileError, match=r"'encoder\.0\.entry\.conv\.weight' has shape \(8, 3, 3, 3\), expect"
    ):
        load_weights(tiny(), path)


@pytest.mark.parametrize("heads", [{"fuse": "mean"}, {"deep_supervision": "none"}], ids=str)
@pytest.mark.parametrize("arch", ["u2netp", "u2net_fast"])
def test_a_network_with_fewer_outputs_starts_from_the_public_kinds_of_file(
    arch: str, heads: dict[str, Any], tmp_path: Path
) -> None:
    source = living(u2netp(), seed=1)
    torch.save(to_authors_keys(source.state_dict(), source), tmp_path / "p.pth")
    for file in (folded_onnx(tmp_path / "p.onnx", source), tmp_path / "p.pth"):
        expected = load_weights(build_model(ModelRecipe(arch=arch)), file).state_dict()
        model = build_model(ModelRecipe(arch=arch, **heads))
        with pytest.raises(UnfitWeightsError):
            load_weights(model, file)
        found = load_weights(model, file, start=True).state_dict()
        assert all(torch.equal(value, expected[key]) for key, value in found.items())


def test_an_onnx_whose_batchnorm_is_not_folded(tmp_path: Path) -> None:
    path = folded_onnx(tmp_path / "a.onnx", tiny())
    model = onnx.load(path)
    names = ["scale", "shift", "mean", "variance"]
    model.graph.node.append(helper.make_node("BatchNormalization", ["y0", *names], ["n"]))
    onnx.save(model, path)
    with pytest.raises(
        ModelFileError, match=r"a\.onnx: its BatchNorm is not folded: give the \.pth"
    ):
        load_weights(tiny(), path)


def test_a_folded_onnx_without_a_stored_weight(tmp_path: Path) -> None:
    path = folded_onnx(tmp_path / "a.onnx", tiny(), store=False)
    with pytest.raises(ModelFileError, match="convolution conv0 has no stored weight and bias"):
        load_weights(tiny(), path)


def test_an_onnx_whose_weights_lie_in_a_file_that_is_gone(tmp_path: Path) -> None:
    path = folded_onnx(tmp_path / "a.onnx", tiny())
    onnx.save(
        onnx.load(path),
        path,
        save_as_external_data=True,
        location="a.data",
        size_threshold=0,
    )
    load_weights(tiny(), path)
    (tmp_path / "a.data").unlink()
    with pytest.raises(ModelFileError, match="not a whole ONNX file"):
        load_weights(tiny(), path)


# --- files that cannot be used --------------------------------------------------------------


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.path, "I ran")


@pytest.mark.parametrize("plain", [True, False])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path: Path, plain: bool) -> None:
    trace, path = tmp_path / "trace", tmp_path / "evil.pth"
    value = {"a": Evil(trace)}
    if plain:
        path.write_bytes(pickle.dumps(value))
    else:
        torch.save(value, path)
    with pytest.raises(
        ModelFileError, match=r"evil\.pth: expected a plain state dict; refused.*code"
    ):
        load_weights(tiny(), path)
    assert not trace.exists()
    pickle.loads(pickle.dumps(value))
    assert trace.read_text() == "I ran"  # it would have run


def whole(folder: Path, suffix: str) -> Path:
    path = folder / f"whole{suffix}"
    if suffix == ".safetensors":
        save_weights(tiny(), path)
    elif suffix == ".onnx":
        folded_onnx(path, tiny())
    else:
        torch.save(tiny().state_dict(), path)
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".onnx"])
@pytest.mark.parametrize("damage", ["empty", "garbage", "half", "last bytes", "text"])
def test_a_damaged_file_is_refused(tmp_path: Path, suffix: str, damage: str) -> None:
    path = whole(tmp_path, suffix)
    data = path.read_bytes()
    path.write_bytes({
        "empty": b"",
        "garbage": np.random.default_rng(0).bytes(1000),
        "half": data[: len(data) // 2],
        "last bytes": data[:-30],
        "text": b"<!DOCTYPE html><html>404</html>",
    }[damage])  # fmt: skip
    model = tiny()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ModelFileError, match=re.escape(str(path))):
        load_weights(model, path)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_whatever_the_bytes_of_a_pth_the_error_is_ours(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    torch.save({"a": torch.zeros(3)}, path, _use_new_zipfile_serialization=False)
    data, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        broken = bytearray(data)
        for at in rng.integers(len(data), size=3):
            broken[at] = rng.integers(256)
        path.write_bytes(broken)
        with pytest.raises(ModelFileError):
            load_weights(tiny(), path)


@pytest.mark.parametrize(("value", "text"), [
    ([torch.zeros(1)], "expected a state dict, got list"),
    (torch.zeros(1), "expected a state dict, got Tensor"),
    ({"epoch": 3, "state_dict": {}}, r"names and tensors, got a int under 'epoch': save .*alone"),
    ({0: torch.zeros(1)}, "names and tensors, got a Tensor under 0"),
])  # fmt: skip
def test_what_is_not_a_state_dict(tmp_path: Path, value: Any, text: str) -> None:
    torch.save(value, tmp_path / "a.pth")
    with pytest.raises(ModelFileError, match=text):
        load_weights(tiny(), tmp_path / "a.pth")


def test_a_file_of_another_model(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_weights(u2net_small(width=4, depth=2), path)
    with pytest.raises(ModelFileError, match=r"\d+ keys missing, the first is .*check model\.arch"):
        load_weights(tiny(), path)
    save_weights(tiny(), path)
    with pytest.raises(ModelFileError, match=r"\d+ keys (missing|unknown), the first is"):
        load_weights(u2net_small(width=4, depth=2), path)
    save_weights(u2net_small(width=8, depth=3), path)
    with pytest.raises(ModelFileError, match=r"has shape \(8, .*expected \(4, .*such keys"):
        load_weights(tiny(), path)


def test_missing_files_and_unknown_suffixes(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"gone\.pth: no such weights file"):
        load_weights(tiny(), tmp_path / "gone.pth")
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(ModelFileError, match="no such weights file"):
        load_weights(tiny(), tmp_path / "folder.pth")
    (tmp_path / "a.pkl").write_bytes(b"x")
    with pytest.raises(
        ModelFileError, match=r"expected a \.safetensors, \.pth, \.pt, \.onnx file, got '\.pkl'"
    ):
        load_weights(tiny(), tmp_path / "a.pkl")


# --- BatchNorm of a folded network ----------------------------------------------------------


def test_reestimation_keeps_the_output_and_makes_training_start_there(tmp_path: Path) -> None:
    model = load_weights(tiny(), folded_onnx(tmp_path / "a.onnx", living(tiny(), seed=2)))
    at_rest, unsettled = output(model), output(copy.deepcopy(model), train=True)
    model.train()
    reestimate_batchnorm(model, [IMAGES[:1], IMAGES[1:]])
    assert model.training
    torch.testing.assert_close(output(copy.deepcopy(model)), at_rest, atol=1e-4, rtol=1e-4)
    settled = output(copy.deepcopy(model), train=True)
    before, after = ((o - at_rest).abs().mean().item() for o in (unsettled, settled))
    assert after < 0.01 * before


def test_reestimated_statistics_are_those_of_the_inputs() -> None:
    layer = nn.BatchNorm2d(2)
    nn.init.constant_(layer.weight, 3.0)
    batches = [torch.randn(3, 2, 4, 5) * 2 + 7, torch.randn(1, 2, 6, 6) - 4]
    flat = torch.cat([b.transpose(0, 1).reshape(2, -1) for b in batches], 1).double()
    expected = [layer.eval()(b) for b in batches]
    reestimate_batchnorm(layer, batches)
    assert layer.running_mean is not None
    assert layer.running_var is not None
    torch.testing.assert_close(layer.running_mean.double(), flat.mean(1), atol=1e-5, rtol=1e-5)
    variance = flat.var(1, correction=0)
    torch.testing.assert_close(layer.running_var.double(), variance, atol=1e-5, rtol=1e-5)
    for batch, value in zip(batches, expected, strict=True):
        torch.testing.assert_close(layer(batch), value, atol=1e-4, rtol=1e-4)
    assert not layer._forward_pre_hooks


def test_reestimation_without_images_or_statistics() -> None:
    with pytest.raises(InputError, match="need at least one batch of images, got none"):
        reestimate_batchnorm(tiny(), [])
    with pytest.raises(ModelFileError, match="BatchNorm layers that keep running statistics"):
        reestimate_batchnorm(nn.BatchNorm2d(2, track_running_stats=False), [torch.ones(1, 2, 3, 3)])
