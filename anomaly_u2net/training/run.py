"""A training run: from a recipe to a run folder."""

from __future__ import annotations

import json
import logging
import os
import platform
import signal
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import torch
from lightning.pytorch import Trainer, seed_everything
from torch.utils.data import DataLoader

from anomaly_u2net.data.duplicates import picture_groups
from anomaly_u2net.data.index import check_trainable, index_dataset
from anomaly_u2net.data.protocols import (
    near_copies_grouped,
    split_by_protocol,
    warn_of_near_copies,
    without_near_copies,
)
from anomaly_u2net.data.split_files import training_hashes, write_split
from anomaly_u2net.data.splits import check_disjoint, split_records
from anomaly_u2net.data.training_set import BalancedBatches, TrainingSet, collate
from anomaly_u2net.errors import (
    DatasetError,
    InputError,
    MissingExtra,
    ModelFileError,
    RecipeError,
    UnfitWeightsError,
)
from anomaly_u2net.files import sha256_file, write_json
from anomaly_u2net.inference.bundle import SPEC_NAME, ModelSpec, write_spec
from anomaly_u2net.inference.export import export_onnx
from anomaly_u2net.models import (
    SideNet,
    build_model,
    load_weights,
    reestimate_batchnorm,
    save_weights,
)
from anomaly_u2net.models.packaged import packaged_weights
from anomaly_u2net.recipe import DataRecipe, Recipe
from anomaly_u2net.recipe.part import expanded
from anomaly_u2net.recipe.protocol import parse_fold
from anomaly_u2net.training.keeper import Clock, Keeper, Progress
from anomaly_u2net.training.module import TrainingModule
from anomaly_u2net.training.speed import on_gpu, precision
from anomaly_u2net.types import ImageRecord

logger = logging.getLogger(__name__)

PRECISIONS: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
#: Batches from which a BatchNorm-folded warm start takes its statistics.
WARM_START_BATCHES = 8
#: What a run was made on and from.
ENVIRONMENT = "environment.json"


@dataclass(frozen=True, slots=True)
class TrainResult:
    """Where a finished run lies and how its kept weights did on the validation part."""

    folder: Path
    steps: int
    seconds: float
    metrics: dict[str, Any]


def train(
    recipe: Recipe,
    out: str | Path,
    *,
    resume: bool = False,
    max_minutes: float | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> TrainResult:
    """Train by ``recipe`` into the folder ``out`` and return where everything is.

    ``out`` gets the resolved recipe, split.csv, metrics.csv, checkpoints/, samples/, and, when
    training is over, the model itself (model.json, model.safetensors, model.onnx). ``resume`` goes
    on from the last validation of a killed run, on a CPU to the same weights as without the kill.
    ``max_minutes`` ends training early and brings the learning rate down by then.
    ``on_progress`` is called after every step; not with several devices.

    Raises `RecipeError`, `DatasetError`, `InputError` (``out`` holds another run),
    `CollapseError` (the loss is not finite).
    """
    out = Path(out)
    clock = Clock(None if max_minutes is None else max_minutes * 60)
    check_limit(max_minutes)
    check_settings(recipe)
    records = split_data(recipe)
    resume_from = _prepare_folder(out, recipe, records, resume=resume)
    parts = {split: [r for r in records if r.split == split] for split in ("train", "validation")}
    if recipe.train.select != "last" and not any(r.defective for r in parts["validation"]):
        logger.warning(
            "train.select %s needs defect images in the validation part, and there are none: the "
            "last weights are kept. Raise data.validation_fraction (or choose fewer folds), or set "
            "train.select last (with made defects only: that one)",
            recipe.train.select,
        )
    seed_everything(recipe.seed, verbose=False)
    model = build_model(recipe.model)
    loader = training_loader(recipe, parts["train"], resume_from)
    if resume_from is None:
        initialise(model, recipe, loader)
    module = TrainingModule(model, recipe)
    keeper = Keeper(
        out,
        recipe=recipe,
        spec=spec_in_training(recipe),
        validation=parts["validation"],
        clock=clock,
        on_progress=on_progress if recipe.train.devices == 1 else None,
    )
    _fit(module, loader, keeper, recipe, resume_from)
    return _finish(out, model, recipe, keeper)


def check_limit(max_minutes: float | None) -> None:
    """Raise `InputError` unless ``max_minutes`` is a time, or None."""
    if max_minutes is not None and not max_minutes > 0:
        raise InputError(f"max_minutes must be positive, got {max_minutes}")


def check_settings(recipe: Recipe) -> None:
    """Raise `ModelFileError`, `MissingExtra` or `RecipeError` for what this machine does not have."""
    init = init_path(recipe)
    if init is not None and not init.is_file():
        raise ModelFileError(f"{init}: no such weights file (model.init): check the path")
    settings = recipe.train
    if settings.accelerator == "cuda" and not torch.cuda.is_available():
        raise RecipeError("train.accelerator is cuda, but torch sees no GPU: use auto or cpu")
    if settings.precision == "fp16" and not on_gpu(settings):
        raise RecipeError("train.precision fp16 needs a GPU: use fp32 (or bf16) on a CPU")


def check_folder(out: Path) -> None:
    """Raise `InputError` when ``out`` is there, neither empty nor a run."""
    is_run = (out / "recipe.yaml").is_file()
    if out.exists() and not is_run and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not a run: expected a new or empty folder as --out")


def check_same_weights(out: Path, recipe: Recipe) -> None:
    """Raise `InputError` when the run in ``out`` began from another file than ``model.init`` names.

    A recipe names a path, and files change. With no weights there now (a file or package that is
    gone, a variable that is not set), or none noted then, there is nothing to compare.
    """
    noted = out / ENVIRONMENT
    if not noted.is_file() or not any((out / "checkpoints").glob("*")):
        return
    try:
        began = json.loads(noted.read_text(encoding="utf-8")).get("init_sha256")
    except (ValueError, AttributeError) as error:
        raise InputError(
            f"{noted}: expected what the run was made on and from, could not read it ({error}): "
            "restore it, or give another --out"
        ) from error
    try:
        init = init_path(recipe)
    except (MissingExtra, ModelFileError):
        return
    if began is None or init is None or not init.is_file():
        return
    if sha256_file(init) != began:
        raise InputError(
            f"{init} is not the file that the run in {out} began from (SHA-256 {began[:12]}): "
            "restore it, or give another --out"
        )


def split_data(recipe: Recipe) -> list[ImageRecord]:
    """The images that ``recipe`` is trained with, each with its split; raises `DatasetError`."""
    records = data_records(recipe.data, recipe.data_root(), seed=recipe.seed)
    check_trainable(records, synthesis=recipe.synthesis)
    return records


def data_records(data: DataRecipe, root: Path, *, seed: int) -> list[ImageRecord]:
    """The images of ``data`` under ``root``, each with its split, whoever trains on them."""
    found = index_dataset(root, card=data.card, categories=data.categories)
    split = split_by_protocol(found, data.protocol, seed=seed)
    groups = {} if data.near_copies == "keep" else picture_groups(found)
    if data.near_copies == "leave":
        split = without_near_copies(split, groups)
    if groups:
        split = near_copies_grouped(split, groups)
    records = split_records(
        split,
        calibration_fraction=data.calibration_fraction,
        validation_fraction=data.validation_fraction,
        seed=seed,
        borrow_defects=data.borrow_defects,
        validation_fold=parse_fold(data.validation_fold) if data.validation_fold else None,
    )
    warn_of_near_copies(records, groups)
    return records


def _prepare_folder(
    out: Path, recipe: Recipe, records: Sequence[ImageRecord], *, resume: bool
) -> Path | None:
    """Make the run folder; returns the state to resume from, if there is one."""
    saved, state = out / "recipe.yaml", out / "checkpoints" / "resume.ckpt"
    if resume and not saved.is_file():
        raise InputError(f"{out}: nothing to resume: expected the folder of a run that was begun")
    if saved.is_file() and any((out / "checkpoints").glob("*")):
        if not resume:
            raise InputError(f"{out} already holds a run: give --resume, or another --out")
        if Recipe.load(saved).digest != recipe.digest:
            raise RecipeError(
                f"{saved} differs from the recipe given, and a run is resumed with its own: "
                f"anomaly-u2net train {saved} --out {out} --resume; "
                "for a changed recipe give another --out"
            )
        check_same_weights(out, recipe)
    check_folder(out)
    try:
        (out / "checkpoints").mkdir(parents=True, exist_ok=True)
        recipe.save(saved)
        _write_split(out / "split.csv", records, root=recipe.data_root(), resumed=state.is_file())
        write_json(out / ENVIRONMENT, _environment(recipe))
    except OSError as error:
        raise InputError(f"{out}: cannot write the run folder: {error}") from error
    return state if state.is_file() else None


def _write_split(path: Path, records: Sequence[ImageRecord], *, root: Path, resumed: bool) -> None:
    before = path.read_bytes() if resumed else None
    aside = path.with_name("split.new.csv")
    write_split(aside, records, root=root)
    if before is not None and aside.read_bytes() != before:
        raise DatasetError(
            f"{path} lists other images than {aside}, the split of the data as they are now: a run "
            "is resumed with its own data; restore them, or give another --out"
        )
    aside.replace(path)
    check_disjoint(training_hashes(path), records)


def _environment(recipe: Recipe) -> dict[str, Any]:
    packages = [
        "anomaly_u2net",
        "torch",
        "lightning",
        "numpy",
        "opencv-python-headless",
    ]
    init = init_path(recipe)
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "packages": {name: version(name) for name in packages},
        "precision": precision(recipe.train),
        "init_sha256": sha256_file(init) if init and init.is_file() else None,
    }


def training_loader(
    recipe: Recipe, records: Sequence[ImageRecord], resume_from: Path | None = None
) -> DataLoader[Any]:
    """Balanced, augmented batches of ``records``, for ever; ``resume_from``: a run's saved state."""
    settings = recipe.train
    ranks = settings.devices
    batches = BalancedBatches(
        [record.defective for record in records],
        batch_size=settings.batch_size,
        defect_share=settings.defect_share,
        steps_per_epoch=settings.validate_every,
        seed=recipe.seed,
        ranks=ranks,
        good_only=recipe.synthesis.share > 0,
    )
    if resume_from is not None:  # loader processes fetch ahead before Lightning restores the epoch
        state = torch.load(resume_from, map_location="cpu", weights_only=True)
        batches.set_epoch(state["epoch"] + 1)  # it was saved at the end of that one
    dataset = TrainingSet(
        records,
        fit=recipe.input,
        augmentation=recipe.augment,
        loss=recipe.loss,
        synthesis=recipe.synthesis,
        processes=settings.devices * max(1, settings.workers),
    )
    if settings.workers:  # threads of OpenCV do not survive a fork: its next call there would hang
        cv2.setNumThreads(1)
    return DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=settings.workers,
        persistent_workers=settings.workers > 0,
    )


def initialise(model: SideNet, recipe: Recipe, loader: DataLoader[Any]) -> None:
    """Set the prior, or load ``model.init``; folded BatchNorms take statistics from ``loader``."""
    if recipe.model.prior is not None:
        model.set_prior(recipe.model.prior)
    init = init_path(recipe)
    if init is None:
        return
    try:
        load_weights(model, init, start=True)
    except UnfitWeightsError as error:
        raise UnfitWeightsError(
            f"{error}, or start from random weights (model.init=null)"
        ) from error
    if init.suffix == ".onnx":  # its BatchNorm is folded away: give it statistics again
        batches = (batch.image for batch, _ in zip(loader, range(WARM_START_BATCHES), strict=False))
        reestimate_batchnorm(model, batches)


def init_path(recipe: Recipe) -> Path | None:
    """The file that ``model.init`` names, None for none: a path, ``~`` and ``$VARIABLES`` expanded,
    or weights that come as a package, which raise `MissingExtra` without it. Raises
    `ModelFileError` for a variable that is not set.
    """
    init = recipe.model.init
    if init is None:
        return None
    return packaged_weights(init) or expanded(
        init, key="model.init", instead="give --init FILE", error=ModelFileError
    )


def spec_in_training(recipe: Recipe) -> ModelSpec:
    """What turns an image into a map, for a network in memory: it names no weight files."""
    return ModelSpec(
        name=recipe.name,
        model=recipe.model,
        input=recipe.input,
        score=recipe.score,
        recipe_hash=recipe.digest,
        files={},
    )


def _fit(
    module: TrainingModule,
    loader: DataLoader[Any],
    keeper: Keeper,
    recipe: Recipe,
    resume_from: Path | None,
) -> None:
    settings = recipe.train
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # Images are cached in memory; loader processes are the user's choice (train.workers).
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*GPU available but not used.*")
        warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated.*")  # Lightning's own
        trainer = Trainer(
            accelerator={"cuda": "gpu"}.get(settings.accelerator, settings.accelerator),
            devices=settings.devices,
            strategy="ddp_spawn" if settings.devices > 1 else "auto",
            precision=PRECISIONS[precision(settings)],
            gradient_clip_val=settings.clip,
            max_steps=settings.steps,
            callbacks=[keeper],
            use_distributed_sampler=False,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        # Its loader knows the epoch, and each epoch makes its own batches.
        warnings.filterwarnings("ignore", ".*resuming from a checkpoint that ended before.*")
        on_interrupt = signal.getsignal(signal.SIGINT)
        try:
            trainer.fit(module, loader, ckpt_path=resume_from, weights_only=True)
        except SystemExit:  # what Lightning makes of Ctrl-C, which it also turns off
            signal.signal(signal.SIGINT, on_interrupt)
            raise KeyboardInterrupt from None


def _finish(out: Path, model: SideNet, recipe: Recipe, keeper: Keeper) -> TrainResult:
    """Turn the kept weights into the run's model."""
    about = json.loads((out / "checkpoints" / "best.json").read_text(encoding="utf-8"))
    load_weights(model, out / "checkpoints" / "best.safetensors")
    save_weights(model, out / "model.safetensors")
    export_onnx(model, out / "model.onnx")
    write_spec(out, recipe)
    logger.info("wrote %s", out / SPEC_NAME)
    last = json.loads((out / "checkpoints" / "last.json").read_text(encoding="utf-8"))
    return TrainResult(out, last["step"], keeper.clock.seconds, about)
