"""Our network inside anomalib: its Engine trains it to our weights, and its numbers are ours."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("anomalib")
torch = pytest.importorskip("torch")

from anomalib.data import Folder, ImageBatch, MVTecAD, PredictDataset  # noqa: E402
from anomalib.engine import Engine  # noqa: E402
from anomalib.models import Padim  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from anomaly_u2net.calibration import Calibration, Terms  # noqa: E402
from anomaly_u2net.data.images import read_image  # noqa: E402
from anomaly_u2net.errors import (  # noqa: E402
    CalibrationError,
    DatasetError,
    InputError,
    LeakError,
    MapError,
    RecipeError,
)
from anomaly_u2net.evaluation import calibrate, evaluate  # noqa: E402
from anomaly_u2net.evaluation.runs import run_records  # noqa: E402
from anomaly_u2net.inference.segmenter import Segmenter  # noqa: E402
from anomaly_u2net.interop.anomalib import (  # noqa: E402
    SupervisedFolder,
    U2Net,
)
from anomaly_u2net.interop.anomalib.verdicts import Verdicts, below  # noqa: E402
from anomaly_u2net.recipe import Recipe  # noqa: E402
from anomaly_u2net.training import train  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The '.*dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed from"),
    pytest.mark.filterwarnings("ignore:You.re resuming from a checkpoint that ended before"),
    pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true but no accelerator"),
]

RECIPE: dict[str, Any] = {
    "name": "tiny",
    "data": {"validation_fraction": 0.2},
    "model": {"arch": "small", "width": 4, "depth": 2, "prior": 0.05},
    "input": {"size": 32},
    "train": {
        **{"steps": 7, "validate_every": 3, "batch_size": 4, "lr": 0.02, "warmup": 1},
        **{"ema": 0.9, "select": "last"},
    },
}


def recipe(**parts: dict[str, Any]) -> dict[str, Any]:
    return RECIPE | {name: RECIPE.get(name, {}) | part for name, part in parts.items()}


def engine(folder: Path, **settings: Any) -> Engine:
    return Engine(
        default_root_dir=folder, accelerator="cpu", devices=1, enable_progress_bar=False,
        enable_model_summary=False, **settings,
    )  # fmt: skip


@pytest.fixture(scope="module")
def fitted(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A network that anomalib trained on ``plate``: images of 48 × 40 pixels, a canvas of 32."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("anomalib")
    model = U2Net(RECIPE, false_reject=0.25)
    data = SupervisedFolder(str(tiny_data), "plate")
    runner = engine(folder)
    runner.fit(model, datamodule=data)
    checkpoint = Path(runner.best_model_path or "")
    again = U2Net.load_from_checkpoint(checkpoint)
    return SimpleNamespace(
        model=model, data=data, engine=runner, folder=folder, checkpoint=checkpoint, again=again,
        run=again.save_run(folder / "run"),
    )  # fmt: skip


def test_it_learns_the_weights_of_our_own_training(
    fitted: SimpleNamespace, tiny_data: Path, tmp_path: Path, quick_export: None
) -> None:
    """Seven steps: the last epoch is cut short, and the prior comes before the average."""
    own = Recipe.from_dict(recipe(data={"root": str(tiny_data), "categories": ["plate"]}))
    train(own, tmp_path / "run")
    ours = load_file(tmp_path / "run" / "checkpoints" / "last.safetensors")
    theirs = load_file(fitted.run / "model.safetensors")
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.allclose(value, theirs[name], atol=1e-6), name
    for name in ("split.csv", "recipe.yaml"):
        assert (tmp_path / "run" / name).read_text() == (fitted.run / name).read_text()
    assert fitted.engine.trainer.global_step == 7


def test_defects_enter_training_and_in_anomalibs_own_folder_they_do_not(
    fitted: SimpleNamespace, tiny_data: Path
) -> None:
    batch = next(iter(fitted.data.train_dataloader()))
    assert batch.mask.amax((1, 2, 3)).sum() == 2  # half of four, as train.defect_share says
    assert sum(record.defective for record in fitted.data.part("train")) > 0
    root = tiny_data / "plate"
    theirs = Folder("plate", "train/good", root=root, abnormal_dir="train/spot")
    theirs.setup()
    assert not theirs.train_data.has_anomalous


def test_setup_again_changes_nothing(fitted: SimpleNamespace) -> None:
    records, text = fitted.data.records, fitted.data.split_text()
    for stage in ("fit", "test", None):
        fitted.data.setup(stage)
    assert fitted.data.records is records
    assert fitted.data.split_text() == text == fitted.model.split


def set_up(data: SupervisedFolder, model: U2Net) -> SupervisedFolder:
    """``data`` as a Trainer of ``model`` prepares it."""
    data.trainer = SimpleNamespace(lightning_module=model, world_size=1)
    data.setup("fit")
    return data


def test_a_model_of_another_recipe_is_given_its_own(tiny_data: Path) -> None:
    data = set_up(SupervisedFolder(str(tiny_data), "plate"), U2Net(RECIPE))
    before = data.split_text()
    other = recipe(model={"width": 8}) | {"seed": 5}
    set_up(data, U2Net(other))
    assert (data.recipe.model.width, data.recipe.seed) == (8, 5)
    assert data.split_text() != before
    assert data.split_text() == set_up(
        SupervisedFolder(str(tiny_data), "plate"), U2Net(other)
    ).split_text()  # fmt: skip


@pytest.mark.parametrize("name", ["parts #1", "[parts]", "17"])
def test_a_root_of_any_name(name: str, tiny_data: Path, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / name).symlink_to(tiny_data)
    monkeypatch.chdir(tmp_path)
    data = set_up(SupervisedFolder(name, "plate"), U2Net(RECIPE))
    assert data.recipe.data.root == name
    assert len(data.part("test")) == 6


def test_the_parts_are_those_of_the_split(fitted: SimpleNamespace) -> None:
    data = fitted.data
    assert data.category == "plate"
    assert len(data.val_dataloader()) == len(data.part("validation")) == 3
    assert len(data.test_dataloader()) == 6
    (item,) = (b for b in data.test_dataloader() if b.image_path[0].endswith("spot_0.png"))
    assert item.image.shape == (1, 3, 48, 40)
    assert item.gt_mask.shape == (1, 48, 40)
    assert item.gt_mask.sum() == 100
    assert item.gt_label.item() == 1


def test_its_test_metrics_are_those_of_our_evaluation(fitted: SimpleNamespace) -> None:
    (found,) = fitted.engine.test(fitted.model, datamodule=fitted.data, verbose=False)
    records = run_records(fitted.run, "test")
    assert {record.category for record in records} == {"plate"}
    segmenter = Segmenter.load(fitted.run, backend="torch", threads=1)
    (row,) = evaluate(segmenter, records, intervals=False).categories
    names = {
        "PixelAUROC": "pixel_auroc", "PixelAP": "pixel_ap", "AUPRO": "aupro_0.30",
        "ImageAUROC": "image_auroc", "ImageAP": "image_ap",
    }  # fmt: skip
    assert set(found) == set(names)
    for theirs, ours in names.items():
        assert found[theirs] == pytest.approx(row.numbers[ours].value, abs=1e-9), theirs


def test_a_checkpoint_can_be_chosen_by_a_validation_metric(fitted: SimpleNamespace) -> None:
    (found,) = engine(fitted.folder).validate(fitted.again, datamodule=fitted.data, verbose=False)
    assert set(found) == {
        "val_" + k for k in ["PixelAUROC", "PixelAP", "AUPRO", "ImageAUROC", "ImageAP"]
    }


def test_predicted_maps_and_verdicts_are_ours_at_the_original_size(
    fitted: SimpleNamespace, tiny_data: Path
) -> None:
    """From a folder that anomalib reads, with images of two sizes."""
    mixed = fitted.folder / "mixed"
    mixed.mkdir()
    for category in ("plate", "sheet"):
        for name in ("good/test_good_0", "spot/test_spot_1"):
            path = tiny_data / category / "test" / f"{name}.png"
            shutil.copy(path, mixed / f"{category}_{path.name}")
    ours = Segmenter.load(fitted.run, backend="onnx", threads=1)
    batches = engine(fitted.folder).predict(fitted.again, dataset=PredictDataset(mixed))
    assert len(batches) == 4
    sizes = set()
    for batch in batches:
        expected = ours.predict(batch.image_path[0])
        verdict = ours.judge(expected, category="plate")
        sizes.add(tuple(batch.anomaly_map.shape))
        np.testing.assert_allclose(batch.anomaly_map[0], expected, atol=1e-5)
        assert batch.pred_score.item() == pytest.approx(expected.max(), abs=1e-5)
        assert batch.pred_label.item() is (verdict.decision == "NG")
        assert batch.pred_mask.sum() == verdict.area
    assert sizes == {(1, 48, 40), (1, 64, 64)}


def test_a_checkpoint_carries_thresholds_made_as_ours_are(fitted: SimpleNamespace) -> None:
    segmenter = Segmenter.load(fitted.run, backend="torch", threads=1)
    held = run_records(fitted.run, "calibration")
    fresh = Segmenter.load(fitted.run, calibrated=False)
    made = calibrate(fresh, held, terms=Terms(false_reject=0.25))
    assert segmenter.calibration is not None  # save_run gave it the hash of the weights on disk
    saved, own = (c.categories["plate"] for c in (segmenter.calibration, made))
    assert saved.image.value == pytest.approx(own.image.value, abs=1e-6)
    assert saved.pixel is not None
    assert saved.image.promise == own.image.promise
    assert fitted.again.post_processor.calibration == fitted.model.post_processor.calibration
    changed = U2Net.load_from_checkpoint(fitted.checkpoint)
    changed.on_train_batch_end()
    assert changed.post_processor.calibration is None  # they were for other weights


def test_too_few_images_for_the_promise_are_refused_before_training(
    tiny_data: Path, tmp_path: Path
) -> None:
    data = SupervisedFolder(str(tiny_data), "plate")
    with pytest.raises(CalibrationError, match=r"19.*got 4|4.*19.*--model.false_reject: a higher"):
        engine(tmp_path).fit(U2Net(RECIPE), datamodule=data)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_without_a_promise_there_are_no_labels(
    tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = U2Net(recipe(train={"steps": 1, "validate_every": 1, "select": "aupro"}), None, None)
    data = SupervisedFolder(str(tiny_data), "plate")
    runner = engine(tmp_path)
    runner.fit(model, datamodule=data)
    assert "train.select aupro: not used here, anomalib's Trainer" in caplog.text
    batch = runner.predict(model, datamodule=data)[0]
    assert batch.pred_label is None
    assert batch.pred_mask is None
    assert batch.anomaly_map is not None


def test_an_image_that_was_trained_on_is_refused_in_the_test(
    fitted: SimpleNamespace, tmp_path: Path
) -> None:
    for split in ("train", "validation", "calibration"):
        path = shutil.copy(fitted.data.part(split)[0].path, tmp_path / f"{split}.png")
        batch = ImageBatch.collate([PredictDataset(path)[0]])
        with pytest.raises(LeakError, match="trained, chosen or calibrated on these bytes"):
            fitted.again.test_step(batch)
        assert fitted.again.predict_step(batch).anomaly_map is not None


def test_the_torch_export_is_the_whole_road(fitted: SimpleNamespace) -> None:
    path = fitted.engine.export(fitted.again, "torch", export_root=fitted.folder)
    loaded = torch.load(path, weights_only=False)["model"]
    pixels = read_image(fitted.data.part("test")[0].path)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    found = loaded(image)
    expected = Segmenter.load(fitted.run, backend="torch").predict(pixels)
    np.testing.assert_allclose(found.anomaly_map[0, 0], expected, atol=1e-6)
    assert found.pred_label.shape == (1,)


@pytest.mark.parametrize("rule", ["max", "max inside 8"])
@pytest.mark.parametrize("fit", ["native", "letterbox"])
def test_the_onnx_export_gives_our_maps_on_the_canvas(
    fit: str, rule: str, fitted: SimpleNamespace, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import onnxruntime

    native = {"input": {"fit": "native"}, "augment": {"crop": 32}}
    parts = {"score": {"image_score": rule}, **(native if fit == "native" else {})}
    model = U2Net(recipe(**parts))
    model.model.average.load_state_dict(fitted.again.model.kept.state_dict())
    size = (3, 64, 96) if fit == "native" else (2, 32, 32)
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    images = pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255
    maps = model(torch.from_numpy(images)).anomaly_map
    inner, outer = (maps[..., m:-m, m:-m].amax((1, 2, 3)) for m in (8, 1))
    assert (inner < outer).any()  # so that the margin says something
    model.post_processor.calibration = at(
        (inner + outer)[(outer - inner).argmax()].item() / 2, fitted.again.post_processor
    )
    path = model.to_onnx(tmp_path)
    assert [p.name for p in path.parent.iterdir()] == ["model.onnx"]  # one file, with its weights
    session = onnxruntime.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    judged = ["pred_label", "pred_mask"] if fit == "native" else []
    assert sorted(names) == sorted(["pred_score", "anomaly_map", *judged])
    found = dict(zip(names, session.run(None, {"input": images}), strict=True))
    expected = model(torch.from_numpy(images))
    segmenter = Segmenter.load(fitted.run, calibrated=False)
    if fit == "letterbox":
        ours = np.stack([segmenter.predict(one) for one in pixels])
        np.testing.assert_allclose(found["anomaly_map"][:, 0], ours, atol=1e-5)
    np.testing.assert_allclose(found["anomaly_map"], expected.anomaly_map, atol=1e-5)
    np.testing.assert_allclose(found["pred_score"], expected.pred_score, atol=1e-5)
    by_hand = maps.amax((1, 2, 3)) if rule == "max" else inner
    np.testing.assert_allclose(found["pred_score"], by_hand, atol=1e-5)
    if judged:
        assert (found["pred_label"] == expected.pred_label.numpy()).all()
        assert (found["pred_mask"] != expected.pred_mask.numpy()).mean() < 1e-3


def at(value: float, verdicts: Verdicts) -> Calibration:
    """The calibration of ``verdicts`` with ``value`` as the image threshold."""
    assert verdicts.calibration is not None
    ((name, thresholds),) = verdicts.calibration.categories.items()
    moved = replace(thresholds, image=replace(thresholds.image, value=value))
    return replace(verdicts.calibration, categories={name: moved})


def test_an_exported_margin_that_leaves_nothing_is_no_verdict(tmp_path: Path) -> None:
    """As in Python, where it is an error; an amax of nothing would be −inf, the best of parts."""
    import onnxruntime

    native: dict[str, Any] = {"input": {"fit": "native"}, "augment": {"crop": 32}}
    model = U2Net(recipe(score={"image_score": "max inside 32"}, **native)).eval()
    session = onnxruntime.InferenceSession(model.to_onnx(tmp_path))
    for side in (32, 64):
        small = np.zeros((1, 3, side, 96), np.float32)
        with pytest.raises(MapError, match="larger than twice the margin of 32 pixels"):
            model(torch.from_numpy(small))
        with pytest.raises(Exception, match=r"TopK.* should not be greater than .* value \[0\]"):
            session.run(None, {"input": small})
    images = np.random.default_rng(0).random((2, 3, 96, 128), np.float32)
    images = (images * 255).round() / 255
    found = session.run(["pred_score"], {"input": images})[0]
    np.testing.assert_allclose(found, model(torch.from_numpy(images)).pred_score, atol=1e-5)


def test_what_the_export_cannot_do_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"input_size \(32, 32\), what .* got \(64, 64\)"):
        U2Net(RECIPE).to_onnx(tmp_path, input_size=(64, 64))
    native = U2Net(recipe(input={"fit": "native"}, augment={"crop": 32}))
    with pytest.raises(InputError, match=r"multiples of 32, .* got \(40, 64\)"):
        native.to_onnx(tmp_path, input_size=(40, 64))
    for rule in ("topk_mean", "topk_mean inside 8"):
        with pytest.raises(InputError, match=rf"max inside a margin, for the export, got {rule}:"):
            U2Net(recipe(score={"image_score": rule})).to_onnx(tmp_path)
    inset = {"score": {"image_score": "max inside 16"}}
    with pytest.raises(InputError, match=r"twice the margin of 16 pixels .* got \(32, 32\): exp"):
        U2Net(recipe(**inset)).to_onnx(tmp_path)
    native = U2Net(recipe(**inset, input={"fit": "native"}, augment={"crop": 32}))
    with pytest.raises(InputError, match=r"twice the margin of 16 pixels .* got \(32, 64\): exp"):
        native.to_onnx(tmp_path, input_size=(32, 64))
    assert not list(tmp_path.iterdir())


def test_other_models_and_other_data_are_refused(tiny_data: Path, tmp_path: Path) -> None:
    root = tiny_data / "plate"
    folder = Folder("plate", "train/good", root=root, abnormal_dir="test/spot")
    with pytest.raises(DatasetError, match="expected SupervisedFolder as the data module, got Fol"):
        engine(tmp_path).fit(U2Net(RECIPE), datamodule=folder)

    # What would fail in its own setup is not read at all, and what would be downloaded is not.
    class Unread(Folder):
        def prepare_data(self) -> None:
            raise AssertionError

        setup = prepare_data  # type: ignore[assignment]

    unread = Unread("plate", "train/none", root=root, abnormal_dir="test/none")
    with pytest.raises(DatasetError, match="as the data module, got Unread: anomalib's own leave"):
        engine(tmp_path).fit(U2Net(RECIPE), datamodule=unread)
    with pytest.raises(DatasetError, match="as the data module, got MVTecAD"):
        engine(tmp_path).train(U2Net(RECIPE), datamodule=MVTecAD(tmp_path / "none"))
    assert not (tmp_path / "none").exists()
    with pytest.raises(DatasetError, match="as the data module, got NoneType"):
        engine(tmp_path).fit(U2Net(RECIPE), train_dataloaders=DataLoader([0]))
    padim = Padim(pre_trained=False)
    with pytest.raises(InputError, match="expected U2Net as the model of SupervisedFolder, got P"):
        engine(tmp_path).fit(padim, datamodule=SupervisedFolder(str(root)))
    with pytest.raises(DatasetError, match=r"one category, .* found plate, sheet: .*--data.categ"):
        engine(tmp_path).fit(U2Net(RECIPE), datamodule=SupervisedFolder(str(tiny_data)))
    with pytest.raises(RecipeError, match=r"data.root is not set"):
        engine(tmp_path).fit(U2Net(RECIPE), datamodule=SupervisedFolder())


def test_wrong_arguments(fitted: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"unknown key 'train.step' \(did you mean 'steps'\?\)"):
        U2Net(RECIPE, ["train.step=2"])
    with pytest.raises(RecipeError, match="no such recipe file"):
        U2Net(str(tmp_path / "no.yaml"))
    with pytest.raises(InputError, match="false-reject rate between 0 and 1"):
        U2Net(RECIPE, false_reject=5)
    other = U2Net(recipe(model={"width": 8}))
    with pytest.raises(
        RecipeError, match=r"the checkpoint has model.width 4, and U2Net was given 8"
    ):
        engine(tmp_path).test(other, datamodule=fitted.data, ckpt_path=fitted.checkpoint)
    with pytest.raises(InputError, match=r"images in 0..1, got -1 to 2: U2Net normalises them"):
        fitted.again(torch.tensor([-1.0, 2.0, 0.5]).view(1, 3, 1, 1))
    with pytest.raises(InputError, match="expected a trained network"):
        U2Net(RECIPE).save_run(tmp_path / "run")
    with pytest.raises(InputError, match="already holds a run"):
        fitted.again.save_run(fitted.run)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    with pytest.raises(InputError, match="exists and is not a run"):
        fitted.again.save_run(tmp_path / "full")


def test_a_training_is_resumed_with_its_own_split(
    fitted: SimpleNamespace, own_data: Path, tmp_path: Path
) -> None:
    longer = U2Net(recipe(train={"steps": 9}), false_reject=None)
    data = SupervisedFolder(str(fitted.data.root), "plate")
    engine(tmp_path).fit(longer, datamodule=data, ckpt_path=fitted.checkpoint)
    assert longer.trainer.global_step == 9
    shutil.copy(
        own_data / "plate" / "test" / "good" / "test_good_0.png",
        own_data / "plate" / "train" / "good" / "new.png",
    )
    changed = SupervisedFolder(str(own_data), "plate")
    with pytest.raises(DatasetError, match="another split of the images"):
        engine(tmp_path).fit(
            U2Net(RECIPE, false_reject=None), datamodule=changed, ckpt_path=fitted.checkpoint
        )


def test_a_trained_network_is_not_trained_on_other_images(
    fitted: SimpleNamespace, tiny_data: Path, tmp_path: Path
) -> None:
    """It would forget which images it has seen, and test on them."""
    other = SupervisedFolder(str(tiny_data), "sheet")
    before = fitted.again.split
    with pytest.raises(DatasetError, match="another split of the images than the data give now"):
        engine(tmp_path).fit(fitted.again, datamodule=other)
    assert fitted.again.split == before


@given(st.floats(0, 1, width=32), st.floats(0, 1))
def test_no_score_changes_sides_where_the_threshold_is_rounded(score: float, limit: float) -> None:
    assert (np.float32(score) > np.float32(below(limit))) == (score > limit)
    assert (torch.tensor(score) > below(limit)).item() is (score > limit)


def test_metrics_can_be_pickled_with_the_model() -> None:
    model = U2Net(RECIPE)
    names = [m.name for m in pickle.loads(pickle.dumps(model)).evaluator.test_metrics]
    assert names == ["PixelAUROC", "PixelAP", "AUPRO", "ImageAUROC", "ImageAP"]


def test_without_anomalib_one_line_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['anomalib'] = None\n"
        "from anomaly_u2net.errors import MissingExtra\n"
        "try:\n    import anomaly_u2net.interop.anomalib\n"
        "except MissingExtra as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "anomalib is not installed: pip install 'anomaly_u2net[anomalib]'\n"
