"""Models of anomalib on our images: trained by its Engine, asked for their raw maps.

The only file of the benchmark that imports anomalib.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import math
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningDataModule, seed_everything
from torch.utils.data import DataLoader, Dataset

from anomaly_u2net.benchmark.backbones import (
    local_backbone,
    normalise_as,
    one_line,
    with_weights,
)
from anomaly_u2net.benchmark.methods import USUAL_SIZE, AnomalibMethod
from anomaly_u2net.data.geometry import plan
from anomaly_u2net.data.images import read_sample
from anomaly_u2net.data.training_set import BalancedBatches
from anomaly_u2net.errors import InputError, MissingExtra, ModelFileError
from anomaly_u2net.recipe.part import hint
from anomaly_u2net.resources import require_extra
from anomaly_u2net.types import Image, ImageRecord, Mask, ScoreMap

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PeerModel:
    """A trained model of anomalib behind the calls of `evaluation.Predictor`.

    Its maps and scores are on the model's own raw scale, before anomalib normalises or clamps them.
    steps, minutes: of its training. supervised: whether it was trained on masks.
    """

    module: Any
    size: int
    model_hash: str
    recipe_hash: str
    steps: int
    minutes: float
    supervised: bool
    calibration: None = None
    calibration_hash: str = ""

    def predict_scored(self, image: Image) -> tuple[ScoreMap, float]:
        """uint8 (H, W, 3) → raw map (H, W) at the original size, and the model's image score.

        The score is the one that the model gives, the map's highest value where it gives none.
        Raises `InputError` for a model that gives no map.
        """
        from anomalib.data import ImageBatch

        batch = ImageBatch(image=_tensor(image, self.size)[None])
        batch.image = self.module.pre_processor.transform(batch.image)
        with torch.inference_mode():
            found = self.module.validation_step(batch, 0)
        _check_map(self.module, found)
        raw = found.anomaly_map.detach().float().cpu().numpy().reshape(found.anomaly_map.shape[-2:])
        score = raw.max() if found.pred_score is None else found.pred_score.detach().float().cpu()
        height, width = image.shape[:2]
        canvas = (raw.shape[0], raw.shape[1])
        return plan((height, width), "stretch", size=canvas).back(raw), float(score)


def train_peer(
    method: AnomalibMethod,
    records: Sequence[ImageRecord],
    *,
    seed: int,
    out: str | Path,
    max_minutes: float | None = None,
    accelerator: str = "auto",
) -> PeerModel:
    """Train a model of anomalib on the images of split ``train``; checkpoints go to ``out``.

    A model that knows supervised training (an argument ``supervised``) gets the masks of the
    training part, good and defective images in turn; every other one sees the good images only.
    The last weights are taken; images of split ``validation`` are shown to models that look at
    good ones for their scale, and choose nothing.

    Raises `InputError` for an unknown model or argument and for one that a benchmark of maps cannot
    use, `ModelFileError` for weights or a package of the model that are not there, `MissingExtra`
    without anomalib.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is fetched unless a user turns it off
    require_extra("anomalib", "anomalib")
    seed_everything(seed, verbose=False)
    trained = [r for r in records if r.split == "train"]
    module, supervised, size = _module(method, masks=any(r.defective for r in trained))
    shown = trained if supervised else [r for r in trained if not r.defective]
    data = _Data(
        shown,
        [r for r in records if r.split == "validation" and not r.defective],
        size=size,
        batch_size=method.batch_size,
        supervised=supervised,
        seed=seed,
    )
    begun = time.monotonic()
    steps = _fit(module, data, method, Path(out), max_minutes, accelerator)
    minutes = (time.monotonic() - begun) / 60
    module = module.eval().cpu()
    return PeerModel(module, size, _digest(module), method.digest, steps, minutes, supervised)


def _module(method: AnomalibMethod, *, masks: bool) -> tuple[Any, bool, int]:
    """The untrained model, whether it is to see masks, and the side of the square it sees."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of anomalib, on its own imports
        import anomalib.models  # noqa: F401  # so that every model is known
        from anomalib.models.components import AnomalibModule
    kinds: dict[str, Any] = {kind.__name__: kind for kind in _heirs(AnomalibModule)}
    if method.anomalib not in kinds:
        raise InputError(
            f"anomalib has no model {method.anomalib!r}{hint(method.anomalib, sorted(kinds))}"
        )
    kind = kinds[method.anomalib]
    takes = inspect.signature(kind).parameters
    _check_kind(kind, takes)
    arguments = {
        name: os.path.expandvars(value) if isinstance(value, str) else value
        for name, value in method.arguments.items()
    }
    if unknown := [name for name in arguments if name not in takes]:
        raise InputError(
            f"{method.anomalib} of anomalib has no {unknown[0]}{hint(unknown[0], takes)}"
        )
    for name, parameter in takes.items():  # its texture images, say, which it would download
        folder = arguments.get(name, parameter.default)
        if name.endswith("_dir") and isinstance(folder, (str, Path)) and not Path(folder).is_dir():
            raise ModelFileError(
                f"the folder {name} of {method.anomalib}, {folder}, which is not here: give the "
                f"method arguments: {{{name}: PATH}}"
            )
    if "supervised" in takes:
        arguments.setdefault("supervised", masks)
    pre_processor, size = _pre_processor(kind, method)
    quiet = dict.fromkeys(("post_processor", "evaluator", "visualizer"), False)
    with ExitStack() as stack:
        if method.weights is not None:
            if "backbone" not in takes:
                raise InputError(
                    f"{method.anomalib} of anomalib has no backbone to give weights to"
                )
            arch = str(arguments.get("backbone", takes["backbone"].default))
            arguments["backbone"] = stack.enter_context(local_backbone(method.weights, arch))
            normalise_as(pre_processor, method.weights)
        module = _made(method, lambda: kind(**arguments, **quiet, pre_processor=pre_processor))
    return module, bool(arguments.get("supervised", False)), size


def _check_kind(kind: Any, takes: Mapping[str, inspect.Parameter]) -> None:
    """Refuse what cannot be used, before it is made; takes: the arguments of its constructor."""
    if kind.__module__.startswith("anomalib.models.video."):
        raise InputError(
            f"{kind.__name__} of anomalib looks at videos: a benchmark of images cannot use it"
        )
    if "pre_processor" not in takes:
        raise InputError(
            f"{kind.__name__} of anomalib takes no pre_processor, it reads the images by itself: a "
            "benchmark that gives a model its images cannot use it"
        )


def _check_map(module: Any, found: Any) -> None:
    """Refuse a model by what its validation_step returned."""
    if getattr(found, "anomaly_map", None) is None:
        raise InputError(
            f"{type(module).__name__} of anomalib gives no anomaly map, only an image score: a "
            "benchmark of maps cannot use it"
        )


def _pre_processor(kind: Any, method: AnomalibMethod) -> tuple[Any, int]:
    """What brings images to the model, and the side of the square that it sees.

    The whole image is seen: a model that cuts the border off by default (Dinomaly: 392 of 448)
    gets all of it at the size that is left, because all of it is tested.
    """
    size = method.size or USUAL_SIZE
    try:
        made = kind.configure_pre_processor((size, size))
        if (seen := _seen(made)) == size:
            return made, size
        reason = f"it would see {seen} × {seen} of it"
    except ValueError as error:
        reason = str(error)
    own = _seen(kind.configure_pre_processor())
    if method.size is not None:
        raise InputError(
            f"{method.anomalib} of anomalib does not take images of size {size} ({reason}): leave "
            f"size out, or give its own, {own}"
        )
    return kind.configure_pre_processor((own, own)), own


def _seen(pre_processor: Any) -> int:
    """The side of what comes out, resized and cut."""
    return int(pre_processor.transform(torch.zeros(3, 64, 64)).shape[-1])


def _heirs(kind: type) -> list[type]:
    found: list[type] = kind.__subclasses__()
    return found + [heir for kind in found for heir in _heirs(kind)]


def _made(method: AnomalibMethod, make: Callable[[], Any]) -> Any:
    """The model that ``make`` returns; a Python package that it has not is said to be missing."""
    try:
        return with_weights(method, make)
    except MissingExtra:
        raise
    except ImportError as error:
        raise ModelFileError(
            f"a Python package for {method.anomalib} that is not installed ({one_line(error)}): "
            "install it into this environment"
        ) from error


def _fit(
    module: Any,
    data: _Data,
    method: AnomalibMethod,
    out: Path,
    max_minutes: float | None,
    accelerator: str,
) -> int:
    """Train; returns the optimiser steps.

    ``steps`` of the method is looked at after each batch. A model that optimises by hand may make
    several steps in one (Cflow: one for every 64 places of a layer), and ends with the batch that
    reaches ``steps``, having made more: nothing can end it within one.
    """
    from anomalib.engine import Engine

    out.mkdir(parents=True, exist_ok=True)
    limits: dict[str, Any] = {}
    if method.steps is not None:
        epochs = math.ceil(method.steps / len(data.train_dataloader()))
        limits = {"max_steps": method.steps, "max_epochs": epochs}
    if max_minutes is not None:
        limits["max_time"] = {"minutes": max_minutes}
    for name in ("lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # of Lightning and anomalib, on what they do themselves
        log = stack.enter_context((out / "training.log").open("a", encoding="utf-8"))
        stack.enter_context(redirect_stderr(log))  # progress bars of the models themselves
        engine = Engine(
            default_root_dir=out,
            accelerator={"cuda": "gpu"}.get(accelerator, accelerator),
            devices=1,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[_OnlyMaps()],
            **limits,
        )
        try:
            with_weights(method, lambda: engine.fit(module, datamodule=data))
        except ValueError as error:
            if "batch_size" not in str(error):
                raise
            raise InputError(
                f"{method.anomalib} of anomalib does not take batches of {method.batch_size} "
                f"({one_line(error)}): set the method's batch_size to that"
            ) from error
    return int(engine.trainer.global_step)


class _OnlyMaps(Callback):
    """A model without maps is refused at its first validation, not after a long training."""

    def on_validation_batch_end(self, trainer: Any, module: Any, found: Any, *_: Any) -> None:  # noqa: ARG002
        _check_map(module, found)


class _Images(Dataset[Any]):
    """Images and masks at the model's size, as anomalib's items."""

    def __init__(self, records: Sequence[ImageRecord], size: int) -> None:
        self.records, self.size = records, size

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, draw: int | tuple[int, int]) -> Any:
        from anomalib.data import ImageItem

        record = self.records[draw if isinstance(draw, int) else draw[0]]
        sample = read_sample(record)
        return ImageItem(
            image=_tensor(sample.image, self.size),
            gt_mask=_mask(sample.mask, self.size),
            gt_label=torch.tensor(record.defective),
            image_path=str(record.path),
        )


class _Data(LightningDataModule):
    """The training and the good validation images, under the names that anomalib looks for."""

    name, category = "images", ""

    def __init__(
        self,
        trained: Sequence[ImageRecord],
        shown: Sequence[ImageRecord],
        *,
        size: int,
        batch_size: int,
        supervised: bool,
        seed: int,
    ) -> None:
        super().__init__()
        self.trained, self.shown, self.size = trained, shown, size
        self.train_batch_size = self.eval_batch_size = batch_size
        self.supervised, self.seed = supervised, seed

    def train_dataloader(self) -> DataLoader[Any]:
        from anomalib.data import ImageBatch

        images = _Images(self.trained, self.size)
        if self.supervised:
            batches = BalancedBatches(
                [record.defective for record in self.trained],
                batch_size=self.train_batch_size,
                defect_share=0.5,
                steps_per_epoch=math.ceil(len(self.trained) / self.train_batch_size),
                seed=self.seed,
            )
            return DataLoader(images, batch_sampler=batches, collate_fn=ImageBatch.collate)
        return DataLoader(
            images,
            batch_size=self.train_batch_size,
            shuffle=True,
            generator=torch.Generator().manual_seed(self.seed),
            collate_fn=ImageBatch.collate,
        )

    def val_dataloader(self) -> Any:
        from anomalib.data import ImageBatch

        if not self.shown:
            return []
        images = _Images(self.shown, self.size)
        return DataLoader(images, batch_size=self.eval_batch_size, collate_fn=ImageBatch.collate)


def _tensor(image: Image, size: int) -> torch.Tensor:
    """uint8 (H, W, 3) → float32 (3, size, size) in 0..1, resized as anomalib does."""
    from torchvision.transforms.v2 import functional

    whole = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    scaled = functional.to_dtype(whole, torch.float32, scale=True)
    return functional.resize(scaled, [size, size], antialias=True)


def _mask(mask: Mask, size: int) -> torch.Tensor:
    """bool (H, W) → bool (size, size): a pixel is defective when at least half of it is."""
    small = plan((mask.shape[0], mask.shape[1]), "stretch", size=(size, size)).mask(mask)
    return torch.from_numpy(small)


def _digest(module: Any) -> str:
    """SHA-256 over the names and values of all weights and buffers."""
    found = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        found.update(name.encode())
        if isinstance(value, torch.Tensor):
            found.update(value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
