"""Models of anomalib: their raw maps by our road, their training part, weights that are missing."""

from __future__ import annotations

import errno
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from anomaly_u2net.benchmark.backbones import with_weights
from anomaly_u2net.benchmark.methods import AnomalibMethod
from anomaly_u2net.benchmark.run import attempt
from anomaly_u2net.data.images import read_image
from anomaly_u2net.data.index import index_dataset
from anomaly_u2net.errors import InputError, ModelFileError
from anomaly_u2net.evaluation import evaluate
from anomaly_u2net.types import ImageRecord

pytest.importorskip("anomalib", reason="the extra anomalib is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # of anomalib and its neighbours, on themselves

RANDOM = {"backbone": "resnet18", "layers": ["layer1"], "pre_trained": False}


@pytest.fixture(scope="module")
def records(tiny_data: Path) -> list[ImageRecord]:
    return index_dataset(tiny_data, categories=["plate"])


def peers() -> Any:
    from anomaly_u2net.benchmark import peers

    return peers


def random_weights(path: Path) -> dict[str, torch.Tensor]:
    """A resnet18 of timm; its file is written."""
    import timm

    state: dict[str, torch.Tensor] = timm.create_model("resnet18", pretrained=False).state_dict()
    torch.save(state, path)
    return state


@pytest.fixture(scope="module")
def patchcore(records: list[ImageRecord], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """PatchCore with a random network at 32²."""
    torch.set_num_threads(1)
    arguments = RANDOM | {"coreset_sampling_ratio": 0.1}
    method = AnomalibMethod(anomalib="Patchcore", arguments=arguments, size=32)
    out = tmp_path_factory.mktemp("peer")
    made = peers().train_peer(method, records, seed=0, out=out, accelerator="cpu")
    assert "Selecting Coreset" in (out / "training.log").read_text()
    return made


def test_the_map_is_anomalibs_own_raw_map_resized(
    patchcore: Any, records: list[ImageRecord]
) -> None:
    image = read_image(records[-1].path)
    found, score = patchcore.predict_scored(image)
    whole = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        raw = patchcore.module.model(patchcore.module.pre_processor.transform(whole))
    size = found.shape
    assert size == image.shape[:2]
    expected = F.interpolate(raw.anomaly_map, size=size, mode="bilinear", align_corners=False)
    np.testing.assert_allclose(found, expected[0, 0].numpy(), rtol=1e-4, atol=1e-5)
    assert score == pytest.approx(float(raw.pred_score), rel=1e-5)
    assert found.max() > 1  # neither clamped nor normalised
    table = evaluate(patchcore, [r for r in records if r.split == "test"], intervals=False)
    assert table.model_hash == patchcore.model_hash
    assert 0 <= table.mean["pixel_auroc"] <= 1  # type: ignore[operator]


def test_one_class_models_see_good_images_only(patchcore: Any, records: list[ImageRecord]) -> None:
    good = sum(r.split == "train" and not r.defective for r in records)
    assert patchcore.module.model.memory_bank.shape[0] == int(0.1 * good * 8 * 8)
    assert not patchcore.supervised


@pytest.mark.parametrize("masks", [True, False])
def test_supersimplenet_sees_masks_where_there_are_some(
    records: list[ImageRecord], tmp_path: Path, masks: bool
) -> None:
    weights = tmp_path / "resnet18.pth"
    state = random_weights(weights)
    method = AnomalibMethod(
        anomalib="Supersimplenet",
        weights=str(weights),
        arguments={"backbone": "resnet18", "layers": ["layer2"]},
        size=128,  # its noise needs 32 × 32 features
        batch_size=2,
        steps=2,
    )
    given = [r for r in records if masks or not (r.split == "train" and r.defective)]
    train = peers().train_peer
    made = train(method, given, seed=0, out=tmp_path / "out", accelerator="cpu")
    assert (made.steps, made.supervised, made.module.supervised) == (2, masks, masks)
    kept = made.module.model.feature_extractor.feature_extractor.feature_extractor.state_dict()
    assert kept
    assert all(torch.equal(value, state[key]) for key, value in kept.items())
    again = train(method, given, seed=0, out=tmp_path / "again", accelerator="cpu")
    assert again.model_hash == made.model_hash


def test_masks_and_good_images_come_in_turn(records: list[ImageRecord]) -> None:
    data = peers()._Data(
        [r for r in records if r.split == "train"],
        [],
        size=32,
        batch_size=4,
        supervised=True,
        seed=0,
    )
    batch = next(iter(data.train_dataloader()))
    assert batch.gt_label.sum() == 2
    assert [bool(mask.any()) for mask in batch.gt_mask] == batch.gt_label.tolist()
    assert batch.image.shape == (4, 3, 32, 32)


def test_what_is_not_there(
    records: list[ImageRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))

    def train(**method: Any) -> None:
        made = AnomalibMethod(**{"size": 32} | method)
        peers().train_peer(made, records, seed=0, out=tmp_path / "out", accelerator="cpu")

    with pytest.raises(ModelFileError, match=r"weights for Patchcore that are not here .*lite0"):
        train(anomalib="Patchcore")
    with pytest.raises(ModelFileError, match="weights for Dinomaly that are not here"):
        train(anomalib="Dinomaly", size=None)
    with pytest.raises(ModelFileError, match=r"gone.pth: no such weights file \(weights\)"):
        train(anomalib="Patchcore", weights=str(tmp_path / "gone.pth"))
    torch.save({}, tmp_path / "other.pth")
    arguments = {"backbone": "resnet18", "layers": ["layer1"]}
    with pytest.raises(ModelFileError, match=r"under the names of timm, conv1.weight is missing"):
        train(anomalib="Padim", weights=str(tmp_path / "other.pth"), arguments=arguments)
    with pytest.raises(InputError, match=r"no model 'Patchcor' \(did you mean 'Patchcore'\?\)"):
        train(anomalib="Patchcor")
    with pytest.raises(InputError, match=r"has no layer \(did you mean 'layers'\?\)"):
        train(anomalib="Patchcore", arguments={"layer": []})
    folder = {"imagenet_dir": str(tmp_path)}
    with pytest.raises(InputError, match="has no backbone to give weights to"):
        train(anomalib="EfficientAd", weights="efficientnet-lite0", arguments=folder)
    with pytest.raises(ModelFileError, match=r"the folder dtd_dir of Draem, .* which is not here"):
        train(anomalib="Draem", arguments={"dtd_dir": "$NOWHERE/gone"})


@pytest.mark.parametrize(
    ("model", "place"),
    [
        ("Fastflow", "feature_extractor"),  # it names the backbones that it takes
        ("ReverseDistillation", "encoder.feature_extractor"),  # so does its decoder
        ("Padim", "feature_extractor.feature_extractor"),  # its n_features come by name
        ("Uflow", "feature_extractor.feature_extractor"),
        ("Stfpm", "teacher_model.feature_extractor"),
    ],
)
def test_a_model_knows_the_backbone_whose_weights_are_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, place: str
) -> None:
    from timm.models import _registry

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    state = random_weights(tmp_path / "resnet18.pth")
    before = dict(_registry._model_entrypoints)
    method = AnomalibMethod(
        anomalib=model,
        weights=str(tmp_path / "resnet18.pth"),
        arguments={"backbone": "resnet18"},
        size=None if model == "Uflow" else 64,
    )
    made, _, _ = peers()._module(method, masks=False)
    kept = made.model.get_submodule(place).state_dict()
    assert len(kept) > 80
    assert all(torch.equal(value, state[key]) for key, value in kept.items())
    assert before == _registry._model_entrypoints
    if model == "Padim":
        assert made.model.n_features == 100
    if model == "Stfpm":
        student = made.model.student_model.feature_extractor.conv1.weight
        assert not torch.equal(student, state["conv1.weight"])  # there is something to learn


def test_weights_that_a_model_does_not_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    random_weights(tmp_path / "resnet18.pth")

    def make(model: str, **arguments: Any) -> None:
        weights = str(tmp_path / "resnet18.pth")
        method = AnomalibMethod(anomalib=model, weights=weights, arguments=arguments)
        peers()._module(method, masks=False)

    with pytest.raises(InputError, match=r"resnet18.pth: expected a pretrained .* the model made "):
        make("Padim", backbone="resnet18", pre_trained=False)
    with pytest.raises(InputError, match=r"timm has no backbone 'mcait' to give .*resnet18.pth to"):
        make("Uflow")


def test_a_package_that_is_missing(
    records: list[ImageRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anomalib.models.image.winclip import torch_model

    monkeypatch.setattr(torch_model, "open_clip", None)
    method = AnomalibMethod(anomalib="WinClip")
    found = attempt("one", lambda: peers().train_peer(method, records, seed=0, out=tmp_path))
    assert found.lacking
    text = "a Python package for WinClip that is not installed (open_clip is required for VLM mod"
    assert found.error.startswith(text)
    assert found.error.endswith("): install it into this environment")


def test_a_model_that_takes_batches_of_one(records: list[ImageRecord], tmp_path: Path) -> None:
    def train(**batch: int) -> None:
        arguments = {"imagenet_dir": str(tmp_path)}
        method = AnomalibMethod(anomalib="EfficientAd", arguments=arguments, size=64, **batch)
        peers().train_peer(method, records, seed=0, out=tmp_path / "out", accelerator="cpu")

    text = r"EfficientAd of anomalib does not take batches of 8 \(.* should be 1\): set the method's batch"
    with pytest.raises(InputError, match=text):
        train()
    with pytest.raises(ModelFileError, match="weights for EfficientAd that are not here"):
        train(batch_size=1)


@pytest.mark.parametrize(
    ("model", "text"),
    [
        ("AiVad", "AiVad of anomalib looks at videos: a benchmark of images cannot use it"),
        ("VlmAd", "VlmAd of anomalib takes no pre_processor, it reads the images by itself"),
    ],
)
def test_a_model_that_cannot_be_shown_images(model: str, text: str) -> None:
    with pytest.raises(InputError, match=text):
        peers()._module(AnomalibMethod(anomalib=model), masks=False)


@pytest.mark.parametrize("validated", [True, False])
def test_a_model_without_maps(records: list[ImageRecord], tmp_path: Path, validated: bool) -> None:
    """It is refused when it is first asked for one: at a validation, if there is one."""
    shown = [replace(r, split="validation") for r in records if r.split == "calibration"]
    trained = [r for r in records if r.split == "train"] + (shown if validated else [])
    method = AnomalibMethod(
        anomalib="Ganomaly", size=32, batch_size=2, steps=40 if validated else 2
    )

    def train() -> Any:
        return peers().train_peer(method, trained, seed=0, out=tmp_path, accelerator="cpu")

    made = None if validated else train()
    with pytest.raises(
        InputError, match="Ganomaly of anomalib gives no anomaly map, only an image"
    ):
        train() if made is None else made.predict_scored(read_image(records[0].path))


def test_a_model_that_optimises_by_hand_ends_with_a_batch(
    records: list[ImageRecord], tmp_path: Path
) -> None:
    method = AnomalibMethod(anomalib="Cflow", arguments=RANDOM, size=64, batch_size=2, steps=2)
    made = peers().train_peer(method, records, seed=0, out=tmp_path, accelerator="cpu")
    assert made.steps == 2 * 16 * 16 // 64  # one batch of it: places over those of a step


def pre_processor(model: str, size: int | None) -> Any:
    from anomalib import models

    return peers()._pre_processor(getattr(models, model), AnomalibMethod(anomalib=model, size=size))


@pytest.mark.parametrize(
    ("model", "size", "expected"),
    [
        ("Padim", None, 256),
        ("Padim", 96, 96),
        ("Dinomaly", None, 392),  # it cuts 392 out of 448, which 256 has not
        ("Dinomaly", 392, 392),
        ("Uflow", None, 448),  # it sees that, whatever it is given
    ],
)
def test_a_model_sees_the_whole_image_at_its_size(
    model: str, size: int | None, expected: int
) -> None:
    made, found = pre_processor(model, size)
    assert found == expected
    image = torch.zeros(3, found, found)
    image[:, 0, 0] = 1  # the corner is neither cut off nor moved
    seen = made.transform(image)
    assert seen.shape == image.shape
    assert seen[0].argmax() == 0
    assert seen[0, 0, 0] > seen[0, 0, 1]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (256, r"size 256 \(Crop size 392 cannot be larger than image size \(256, 256\)\)"),
        (448, r"size 448 \(it would see 392 × 392 of it\): leave size out, or give its own, 392"),
    ],
)
def test_a_size_that_a_model_does_not_take(size: int, text: str) -> None:
    with pytest.raises(InputError, match=text):
        pre_processor("Dinomaly", size)


def test_nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def fetch() -> None:
        urllib.request.urlretrieve("https://example.com/weights.zip")

    with pytest.raises(ModelFileError, match=r"weights.zip is not downloaded unless HF_HUB_OFF"):
        with_weights(AnomalibMethod(anomalib="Draem"), fetch)


def test_a_hub_that_was_imported_before_is_offline_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads HF_HUB_OFFLINE when it is imported: with the network of another cell, say."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for variable, offline in (("1", True), ("0", False)):
        monkeypatch.setenv("HF_HUB_OFFLINE", variable)
        method = AnomalibMethod(anomalib="Draem")
        assert with_weights(method, constants.is_offline_mode) is offline
        assert not constants.is_offline_mode()


def test_a_full_disk_is_no_lack_of_weights() -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        with_weights(AnomalibMethod(anomalib="Draem"), full)
