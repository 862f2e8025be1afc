"""The network of a recipe as a model of anomalib."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anomalib import LearningType
from anomalib.data import ImageBatch, InferenceBatch
from anomalib.metrics import Evaluator
from anomalib.models import AnomalibModule
from anomalib.visualization import Visualizer
from lightning.pytorch import Callback
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from anomaly_u2net.calibration import HeldOutImages, Terms
from anomaly_u2net.data.geometry import MEAN, STD
from anomaly_u2net.errors import (
    CalibrationError,
    DatasetError,
    InputError,
    LeakError,
    RecipeError,
)
from anomaly_u2net.evaluation import calibrate
from anomaly_u2net.files import sha256_file, write_text
from anomaly_u2net.inference.backends import module_backend
from anomaly_u2net.inference.bundle import write_spec
from anomaly_u2net.inference.export import export_onnx
from anomaly_u2net.inference.segmenter import CALIBRATION_NAME, Segmenter
from anomaly_u2net.interop.anomalib.data import SupervisedFolder
from anomaly_u2net.interop.anomalib.metrics import AUPRO, ImageAP, ImageAUROC, PixelAP, PixelAUROC
from anomaly_u2net.interop.anomalib.verdicts import Verdicts
from anomaly_u2net.metrics import image_score, split_margin
from anomaly_u2net.models import build_model, save_weights
from anomaly_u2net.recipe import Recipe
from anomaly_u2net.training.module import TrainingModule
from anomaly_u2net.training.run import (
    check_folder,
    check_settings,
    initialise,
    spec_in_training,
)
from anomaly_u2net.training.speed import keep_freed_memory
from anomaly_u2net.types import STRIDE, Batch, ImageRecord

logger = logging.getLogger(__name__)

#: Keys of ``train`` that anomalib's Trainer and callbacks decide, and what they do by default.
THEIRS = {"select": "last", "precision": "fp32", "accelerator": "auto", "devices": 1}


class U2Net(AnomalibModule):
    """The network of a recipe, trained on masks.

    recipe: a YAML file, or what would stand in one; None: all defaults. overrides: as ``--set``,
    ``["train.steps=100"]``. Its part ``data`` may be empty: `SupervisedFolder` fills it in. The
    start weights and batches are those of ``anomaly-u2net train`` with the same recipe.
    false_reject: every checkpoint made by training with a `SupervisedFolder` carries thresholds
    that promise at most this share of false rejects; None: no thresholds.
    evaluator, visualizer: as in every anomalib model; True: ours, with the exact metrics.

    Raises RecipeError for an unknown key, InputError for a rate that is none.
    """

    def __init__(
        self,
        recipe: str | dict[str, Any] | None = None,
        overrides: list[str] | None = None,
        false_reject: float | None = Terms().false_reject,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        settings = _read(recipe, overrides or [])
        check_settings(settings)
        self.terms = None if false_reject is None else Terms(false_reject=false_reject)
        super().__init__(
            pre_processor=False,  # the Segmenter resizes and normalises, once
            post_processor=Verdicts(),
            evaluator=evaluator,
            visualizer=visualizer,
        )
        self._use(settings)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.model = TrainingModule(build_model(settings.model), settings)
        #: What `write_split` wrote of the images that it was trained with; None: not trained.
        self.split: str | None = None
        self._on_canvas = False

    def _use(self, recipe: Recipe) -> None:
        """Take ``recipe`` as the one that checkpoints carry."""
        self.recipe = recipe
        self.hparams.update(recipe=recipe.to_dict(), overrides=None)

    @property
    def learning_type(self) -> LearningType:
        return LearningType.ONE_CLASS  # anomalib has no name for learning from masks

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """What the recipe decides of the Trainer; in anomalib it goes before ``--trainer``."""
        settings = self.recipe.train
        return {
            "max_steps": settings.steps,
            "max_epochs": -1,
            "gradient_clip_val": settings.clip,
            "num_sanity_val_steps": 0,
        }

    @property
    def input_size(self) -> tuple[int, int] | None:
        """(height, width) of the network's canvas; None where images keep their own size."""
        return None if self.recipe.input.fit == "native" else self.recipe.input.size

    @staticmethod
    def configure_evaluator() -> Evaluator:
        """The exact metrics; undefined ones are NaN. ``val_PixelAP`` can choose a checkpoint."""
        kinds = (PixelAUROC, PixelAP, AUPRO, ImageAUROC, ImageAP)
        val, test = ([k(prefix=p, undefined="nan") for k in kinds] for p in ("val_", ""))
        return Evaluator(val_metrics=val, test_metrics=test)

    def configure_callbacks(self) -> Sequence[Callback] | Callback:
        """As every model's; before training it refuses a data module that is not ours.

        It is the first of the hooks: later ones come after the data module has downloaded and read
        its images, and then that module's errors stand in the way.
        """
        if self._trainer is not None and self._trainer.state.fn == TrainerFn.FITTING:
            self._data_module()
        return super().configure_callbacks()

    def _data_module(self) -> SupervisedFolder:
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, SupervisedFolder):
            raise DatasetError(
                f"expected SupervisedFolder as the data module, got {type(data).__name__}: "
                "anomalib's own leave defects with masks out of training; use "
                "--data anomaly_u2net.interop.anomalib.SupervisedFolder"
            )
        return data

    def setup(self, stage: str) -> None:
        """Before training: take over the data module's recipe and split, and start the weights."""
        if stage != "fit":
            return
        data = self._data_module()
        _warn_of_unused(data.recipe)
        keep_freed_memory()
        if self.terms is not None:
            _rehearse(self.terms, data.part("calibration"))
        split = data.split_text()
        self._check_split(split)
        self._use(data.recipe)
        if self.split is None:
            initialise(self.model.model, self.recipe, data.train_dataloader())
            if self.model.average is not None:
                self.model.average.load_state_dict(self.model.model.state_dict())
        self.split = split

    def _check_split(self, split: str) -> None:
        """Raise DatasetError where the network was trained with another one."""
        if self.split not in (None, split):
            raise DatasetError(
                "the network was trained with another split of the images than the data give now: "
                "a training goes on with its own data; restore them, or train from the start"
            )

    def configure_optimizers(self) -> Any:
        return self.model.configure_optimizers()

    def training_step(self, batch: Batch, index: int) -> Tensor:
        loss = self.model.training_step(batch, index)
        self.log("train_loss", loss.detach(), prog_bar=True, batch_size=len(batch.image))
        return loss

    def on_train_batch_end(self, *_: Any) -> None:
        self.model.on_train_batch_end()
        self.post_processor.calibration = None  # its thresholds were for other weights

    def forward(self, batch: Tensor, *_: Any, **__: Any) -> InferenceBatch:
        """Images (B, 3, H, W) in 0..1 → maps (B, 1, H, W) and verdicts; what is exported.

        In an ONNX or OpenVINO file: images as they lie on the network's canvas.
        """
        if not self._on_canvas:
            return self.post_processor(self._predicted(batch))
        mean, std = (torch.from_numpy(v).view(1, 3, 1, 1).to(batch) for v in (MEAN, STD))
        maps = torch.sigmoid(self.model.kept((batch - mean) / std).fused)
        edge = split_margin(self.recipe.score.image_score)[1]
        inside = maps[:, 0, edge : maps.shape[2] - edge, edge : maps.shape[3] - edge]
        # Not amax: where nothing is inside, onnxruntime's is −inf, a good part; its TopK fails.
        found = InferenceBatch(anomaly_map=maps, pred_score=inside.flatten(1).topk(1)[0][:, 0])
        return self.post_processor(found) if self.recipe.input.fit == "native" else found

    def validation_step(self, batch: ImageBatch, *_: Any, **__: Any) -> ImageBatch:
        return batch.update(**self._predicted(batch.image)._asdict())

    def predict_step(self, batch: ImageBatch, *_: Any, **__: Any) -> ImageBatch:
        return self.validation_step(batch)

    def test_step(self, batch: ImageBatch, *_: Any, **__: Any) -> ImageBatch:
        """Raises LeakError for an image whose bytes had a part in the weights or thresholds."""
        for path in batch.image_path or []:
            if self.split is not None and sha256_file(path) in _hashes(self.split):
                raise LeakError(
                    f"{path}: expected test images that the model was not made from, but it was "
                    "trained, chosen or calibrated on these bytes: take it out of the test images"
                )
        return self.validation_step(batch)

    def _predicted(self, images: Tensor) -> InferenceBatch:
        """Maps at the size of the images and their scores, by the `Segmenter`."""
        if images.numel() and (images.min() < 0 or images.max() > 1):
            raise InputError(
                f"expected images in 0..1, got {images.min():.3g} to {images.max():.3g}: U2Net "
                "normalises them itself, leave that out of augmentations and pre-processors"
            )
        segmenter = self.segmenter()
        pixels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        maps = [segmenter.predict(np.ascontiguousarray(one)) for one in pixels]
        score = image_score(self.recipe.score.image_score)
        return InferenceBatch(
            anomaly_map=torch.from_numpy(np.stack(maps)).unsqueeze(1).to(images.device),
            pred_score=torch.tensor([score(one) for one in maps], device=images.device),
        )

    def segmenter(self) -> Segmenter:
        """The weights that are kept, as ours: no copy, and without a calibration."""
        return Segmenter(module_backend(self.model.kept), spec_in_training(self.recipe))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Calibrate in training, so that the checkpoint's thresholds are those of its weights."""
        if self.terms and self.trainer.state.fn == TrainerFn.FITTING:
            held = self.trainer.datamodule.part("calibration")
            self.post_processor.calibration = calibrate(self.segmenter(), held, terms=self.terms)
        super().on_save_checkpoint(checkpoint)
        checkpoint["anomaly_u2net_split"] = self.split

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raises RecipeError for a checkpoint of another network or input, DatasetError for one
        of another split."""
        saved = Recipe.from_dict(checkpoint["hyper_parameters"]["recipe"])
        for part in ("model", "input", "score"):
            theirs, ours = (getattr(r, part).model_dump() for r in (saved, self.recipe))
            wrong = [key for key in ours if theirs[key] != ours[key]]
            if wrong:
                raise RecipeError(
                    f"expected the recipe of the training (--model.recipe): the checkpoint has "
                    f"{', '.join(f'{part}.{key} {theirs[key]}' for key in wrong)}, and U2Net was "
                    f"given {', '.join(str(ours[key]) for key in wrong)}"
                )
        super().on_load_checkpoint(checkpoint)
        self._check_split(checkpoint["anomaly_u2net_split"])
        self.split = checkpoint["anomaly_u2net_split"]

    def to_onnx(
        self,
        export_root: Path | str,
        model_file_name: str = "model",
        input_size: tuple[int, int] | None = None,
        **kwargs: Any,
    ) -> Path:
        """As anomalib's; to_openvino comes by here too.

        The file takes images in 0..1 as they lie on the canvas, and gives maps there. With
        ``input.fit`` native that is the image itself, sides multiples of 32, and the verdicts are
        in the file; otherwise the thresholds, made for maps of the original size, are left out.
        A margin of ``score.image_score`` is left out of the canvas.
        Raises InputError for another ``input_size``, one of no more than twice that margin, or an
        image score other than max.
        """
        rule, edge = split_margin(self.recipe.score.image_score)
        if rule != "max":
            raise InputError(
                f"expected score.image_score max, or max inside a margin, for the export, got "
                f"{self.recipe.score.image_score}: export torch, or use a run folder (save_run)"
            )
        size = input_size and (input_size[0], input_size[1])
        if size and (any(s % STRIDE for s in size) or size != (self.input_size or size)):
            expected = self.input_size or f"multiples of {STRIDE}"
            raise InputError(
                f"expected input_size {expected}, what the network is made for, got {size}: "
                "leave it out, and resize images to it"
            )
        size = size or self.input_size
        if size and min(size) <= 2 * edge:
            raise InputError(
                f"expected an input_size larger than twice the margin of {edge} pixels that "
                f"score.image_score leaves out, got {size}: export torch, or train with a smaller "
                "margin"
            )
        if size is None:
            least = max(2, 2 * edge // STRIDE + 1)
            size = (STRIDE * least, STRIDE * least)  # of the exporter's example
            rows, columns = (torch.export.Dim(n, min=least, max=512) for n in ("rows", "columns"))
            batch = torch.export.Dim("batch", min=1, max=1024)
            kwargs = {
                "dynamic_shapes": ({0: batch, 2: STRIDE * rows, 3: STRIDE * columns},)
            } | kwargs
        with self._canvas():
            return super().to_onnx(
                export_root,
                model_file_name,
                size,
                **({"opset_version": 18, "external_data": False} | kwargs),
            )

    @contextmanager
    def _canvas(self) -> Iterator[None]:
        self._on_canvas = True
        try:
            yield
        finally:
            self._on_canvas = False

    def save_run(self, out: str | Path) -> Path:
        """Write the kept weights as a run folder, which all of our verbs take; returns it.

        With the recipe, the split, ``model.onnx`` and, where it was calibrated, the thresholds.
        Raises InputError for a network that was not trained, or a folder that is not empty.
        """
        out = Path(out)
        if self.split is None:
            raise InputError(
                "expected a trained network: U2Net.load_from_checkpoint(CHECKPOINT).save_run(OUT)"
            )
        if (out / "recipe.yaml").is_file():
            raise InputError(f"{out} already holds a run: expected a new or empty folder")
        check_folder(out)
        self.recipe.save(out / "recipe.yaml")
        write_text(out / "split.csv", self.split)
        save_weights(self.model.kept, out / "model.safetensors")
        export_onnx(self.model.kept, out / "model.onnx")
        spec = write_spec(out, self.recipe)
        calibration = self.post_processor.calibration
        if calibration is not None:
            replace(calibration, model_hash=spec.digest).save(out / CALIBRATION_NAME)
        return out


def _read(recipe: str | dict[str, Any] | None, overrides: Sequence[str]) -> Recipe:
    if isinstance(recipe, str):
        return Recipe.load(recipe, overrides=overrides)
    return Recipe.from_dict(recipe or {"name": "anomalib"}).with_overrides(overrides)


def _warn_of_unused(recipe: Recipe) -> None:
    asked = {key: getattr(recipe.train, key) for key in THEIRS}
    unused = [f"train.{key} {value}" for key, value in asked.items() if value != THEIRS[key]]
    if unused:
        logger.warning(
            "%s: not used here, anomalib's Trainer and callbacks decide it (--trainer; see "
            "docs/learn/anomalib.md)",
            ", ".join(unused),
        )


def _rehearse(terms: Terms, records: Sequence[ImageRecord]) -> None:
    """Raise CalibrationError before training when ``records`` are too few for the promise."""
    held = HeldOutImages(terms)
    for record in records:
        held.add(
            0.0, np.zeros((1, 1), np.float32), np.full((1, 1), record.defective), group=record.group
        )
    try:
        held.thresholds()
    except CalibrationError as error:
        raise CalibrationError(
            f"{error} (data.calibration_fraction); or set --model.false_reject: a higher rate, or "
            "null for no thresholds"
        ) from error


def _hashes(split: str) -> set[str]:
    """The SHA-256 of the images outside the test split."""
    rows = csv.DictReader(io.StringIO(split))
    return {row["sha256"] for row in rows if row["split"] != "test"}
