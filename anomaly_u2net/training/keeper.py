"""What a run does at each validation: measure, choose, save, warn, draw."""

from __future__ import annotations

import csv
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from anomaly_u2net.data.images import read_sample
from anomaly_u2net.evaluation import score_records
from anomaly_u2net.files import write_aside, write_json
from anomaly_u2net.inference.backends import module_backend
from anomaly_u2net.inference.bundle import ModelSpec
from anomaly_u2net.inference.segmenter import Segmenter
from anomaly_u2net.models import save_weights
from anomaly_u2net.recipe import Recipe
from anomaly_u2net.training.module import Interval, TrainingModule
from anomaly_u2net.types import ImageRecord
from anomaly_u2net.visual import panel, sheet, write_png

logger = logging.getLogger(__name__)

#: An output whose probabilities span less than this in the last steps is called constant.
CONSTANT_RANGE = 0.02
#: A fused output is blind whose mean logit on defects is not this much above that elsewhere: odds
#: of 1.65 to 1.
BLIND_SEPARATION = 0.5
SHEET_IMAGES = 8
#: Validation images that are timed before a run with a time limit.
PROBE_IMAGES = 4


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is. ``row`` is the last line of metrics.csv, empty before the first."""

    step: int
    steps: int
    seconds: float
    row: dict[str, float | int | str]


class Clock:
    """Seconds of this run, those before a resume included, against an optional limit.

    The limit leaves room for one more validation, as long as the longest so far (before the first:
    as a few timed images say). The export of the finished model, some 10 seconds, comes on top.
    """

    def __init__(self, limit_seconds: float | None) -> None:
        self._start = time.monotonic()
        self.limit = limit_seconds
        self.validation = 0.0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start

    def fraction(self) -> float:
        if self.limit is None:
            return 0.0
        return min(1.0, self.seconds / max(self.limit - self.validation, 1e-9))

    def add_earlier(self, seconds: float) -> None:
        self._start -= seconds


class Keeper(Callback):
    """Validates on held-out training images and keeps the run folder up to date.

    Everything is written whole or not at all, the resume state last: a run killed at any moment
    goes on from its last validation.
    """

    def __init__(
        self,
        out: Path,
        *,
        recipe: Recipe,
        spec: ModelSpec,
        validation: Sequence[ImageRecord],
        clock: Clock,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self.out, self.recipe, self.spec, self.clock = out, recipe, spec, clock
        self.validation = list(validation)
        self.on_progress = on_progress
        self.rows: list[dict[str, Any]] = []
        self.best: float | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "best": self.best, "seconds": self.clock.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows, self.best = list(state_dict["rows"]), state_dict["best"]
        self.clock.add_earlier(state_dict["seconds"])

    def on_save_checkpoint(
        self,
        trainer: Trainer,  # noqa: ARG002
        pl_module: LightningModule,  # noqa: ARG002
        checkpoint: dict[str, Any],
    ) -> None:
        """Declare the epoch over; Lightning would resume with one more batch of it."""
        loop = checkpoint["loops"]["fit_loop"]
        for counts in (loop["epoch_progress"]["current"], loop["epoch_progress"]["total"]):
            counts["completed"] = counts["processed"]
        batches = loop["epoch_loop.batch_progress"]
        batches["current"] = dict.fromkeys(batches["current"], 0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """With a time limit: learn from a few images how long a validation will take."""
        assert isinstance(pl_module, TrainingModule)
        if self.clock.limit is None or not self.validation or not trainer.is_global_zero:
            return
        probe = self.validation[:: math.ceil(len(self.validation) / PROBE_IMAGES)]
        begun = time.monotonic()
        score_records(Segmenter(module_backend(pl_module.kept), self.spec), probe)
        taken = time.monotonic() - begun
        self.clock.validation = taken * len(self.validation) / len(probe)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, *_: Any
    ) -> None:
        """With a time limit: the first process tells all of them how much of it has passed.

        This comes before the learning rate of the next step is set, and every process comes by.
        """
        if self.clock.limit is not None:
            assert isinstance(pl_module, TrainingModule)
            pl_module.elapsed = trainer.strategy.broadcast(self.clock.fraction())

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if self.clock.limit is not None:
            assert isinstance(pl_module, TrainingModule)
            trainer.should_stop = pl_module.elapsed >= 1
        if trainer.is_global_zero and self.on_progress is not None:
            self.on_progress(self._progress(trainer.global_step))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        if trainer.is_global_zero:
            self._keep(trainer.global_step, pl_module)
        pl_module.interval = Interval()
        # Every process takes part in writing the resume state; only the first one writes.
        resume = self.out / "checkpoints" / "resume.ckpt"
        aside = resume.with_suffix(".aside")
        trainer.save_checkpoint(aside)
        if trainer.is_global_zero:
            with write_aside(resume) as whole:
                aside.replace(whole)

    def _keep(self, step: int, module: TrainingModule) -> None:
        begun = time.monotonic()
        segmenter = Segmenter(module_backend(module.kept), self.spec)
        scores = score_records(segmenter, self.validation)
        row: dict[str, Any] = {"step": step, "seconds": round(self.clock.seconds, 1)}
        row |= {"lr": module.optimizers().param_groups[0]["lr"]}
        row |= {name: round(v, 6) for name, v in module.interval.summary().items()}
        row |= {
            f"val_{name}": "n/a" if value is None else round(value, 6)
            for name, value in scores.items()
        }
        self._warn_if_collapsed(row)
        self.rows.append(row)
        chosen = scores.get(self.recipe.train.select)
        is_best = chosen is None or self.best is None or chosen > self.best
        self._save(module, "last", row)
        if is_best:
            self.best = chosen
            self._save(module, "best", row)
        write_rows(self.out / "metrics.csv", self.rows)
        every = self.recipe.train.sheet_every
        if every and len(self.rows) % every == 0:
            self._draw(segmenter, step)
        self.clock.validation = max(self.clock.validation, time.monotonic() - begun)
        if self.on_progress is not None:
            self.on_progress(self._progress(step))

    def _save(self, module: TrainingModule, name: str, row: dict[str, Any]) -> None:
        folder = self.out / "checkpoints"
        save_weights(module.kept, folder / f"{name}.safetensors")
        about = {"recipe_hash": self.spec.recipe_hash, "select": self.recipe.train.select}
        write_json(folder / f"{name}.json", about | row)

    def _warn_if_collapsed(self, row: dict[str, Any]) -> None:
        ranges = {k.removeprefix("range_"): v for k, v in row.items() if k.startswith("range_")}
        constant = [name for name, value in ranges.items() if value < CONSTANT_RANGE]
        row["constant_outputs"] = " ".join(constant)
        if constant:
            found = (
                f"constant output of {', '.join(constant)} (on no training image with defects do "
                f"probabilities span {CONSTANT_RANGE}): the network may have collapsed to "
                "all-background"
            )
        elif row.get("val_map_range", 1.0) < CONSTANT_RANGE:
            found = (
                "the network that is kept (averaged weights, BatchNorm's averages) gives constant "
                f"maps: on no validation image do scores span {CONSTANT_RANGE}"
            )
        elif row.get("separation", 1.0) < BLIND_SEPARATION:
            found = (
                f"the fused output's mean logit on the defects of training images is only "
                f"{row['separation']:.2f} above that elsewhere (expected {BLIND_SEPARATION} and "
                "more): the network hardly tells defects from background"
            )
        else:
            return
        logger.warning("step %s: %s. Try %s", row["step"], found, _advice(self.recipe))

    def _draw(self, segmenter: Segmenter, step: int) -> None:
        defective = [r for r in self.validation if r.defective]
        good = [r for r in self.validation if not r.defective]
        stride = max(1, len(defective) // (SHEET_IMAGES - 2))
        chosen = defective[::stride][: SHEET_IMAGES - 2] + good[:2]
        panels = []
        for record in chosen:
            sample = read_sample(record)
            score_map = segmenter.predict(sample.image)
            title = f"{record.label} {record.path.stem}"
            panels.append(
                panel(sample.image, score_map, threshold=0.5, mask=sample.mask, title=title)
            )
        if panels:
            write_png(
                self.out / "samples" / f"step_{step:06d}.png", sheet(panels, columns=1, cell=1000)
            )

    def _progress(self, step: int) -> Progress:
        row = self.rows[-1] if self.rows else {}
        return Progress(step, self.recipe.train.steps, self.clock.seconds, row)


def _advice(recipe: Recipe) -> str:
    """What to try against a collapse, without what ``recipe`` has already.

    What helps, by recipes/README.md: random weights begin with Dice, pasted defects and outputs at
    the prior; a warm start does better with bce alone.
    """
    from_scratch = recipe.model.init is None
    instead = "" if recipe.model.prior is None else " instead of model.prior"
    losses = recipe.loss.pixel.split("+")
    tips = {
        f"a warm start (model.init{instead})": from_scratch,
        "model.prior 0.02": from_scratch and recipe.model.prior is None,
        "loss.pixel bce+dice": from_scratch and "dice" not in losses,
        "loss.pixel bce": not from_scratch and losses != ["bce"],
        "crops around defects (augment.crop)": recipe.augment.crop is None,
        "pasted defects (augment.paste 0.5)": from_scratch and not recipe.augment.paste,
        "loss.small_regions 0.5": not recipe.loss.small_regions,
    }
    return " or ".join([*(tip for tip, is_open in tips.items() if is_open), "a lower train.lr"])


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write dicts as CSV with the union of their keys as columns, whole or not at all."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with write_aside(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
