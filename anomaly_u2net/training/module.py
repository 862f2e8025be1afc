"""The training step as a Lightning module: loss, optimiser, schedule, averaged weights."""

from __future__ import annotations

import copy
import math
from collections import deque
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from anomaly_u2net.errors import CollapseError
from anomaly_u2net.losses import deep_supervision, pixel_loss
from anomaly_u2net.models import SideNet
from anomaly_u2net.recipe import Recipe
from anomaly_u2net.training.speed import (
    channels_last,
    keep_freed_memory,
    precision,
    recompute_stages,
)
from anomaly_u2net.types import Batch

#: Of so many steps before a validation the outputs are looked at.
RECENT = 20


class TrainingModule(LightningModule):
    """``model`` under training and ``average``, its exponential moving average.

    ``elapsed`` is the fraction of the allowed time that has passed (0 without a limit), so that the
    learning rate of a run with ``--max-minutes`` still comes down to zero. `Keeper` sets it, the
    same in every process: different rates would part their weights.
    """

    def __init__(self, model: SideNet, recipe: Recipe) -> None:
        super().__init__()
        channels_last(model)
        if recipe.train.checkpoint:
            recompute_stages(model)
        self.model = model
        self.recipe = recipe
        self.average = copy.deepcopy(model).requires_grad_(False) if recipe.train.ema else None
        self.elapsed = 0.0
        self.interval = Interval()

    @property
    def kept(self) -> SideNet:
        """The network that is validated and saved."""
        return self.average if self.average is not None else self.model

    def setup(self, stage: str) -> None:  # noqa: ARG002
        keep_freed_memory()  # here, because every process of several comes by

    def training_step(self, batch: Batch, _: int) -> Tensor:
        logits = self.model(batch.image)
        loss, weights = self.recipe.loss, self.recipe.loss.side_weights
        if self.recipe.model.supervision == "fused_only":
            weights = (0.0,) * len(logits.sides)
        total, terms = deep_supervision(
            logits,
            batch.mask,
            pixel_loss=pixel_loss(loss.pixel, reduce=loss.reduce),
            weight=batch.weight,
            side_weights=weights,
            fused_weight=loss.fused_weight,
            side_target=loss.side_target,
        )
        if not torch.isfinite(total):
            raise CollapseError(
                f"the loss became {total.item()} at step {self.global_step}: lower train.lr, set "
                "train.clip, or use train.precision fp32"
            )
        with torch.no_grad():
            ranges = [_range(side) for side in (*logits.sides, logits.fused)]
            separation = _separation(logits.fused, batch.mask)
        self.interval.add(
            total.detach(), torch.stack(terms).detach(), torch.stack(ranges), separation
        )
        return total

    def on_train_batch_end(self, *_: Any) -> None:
        if self.average is None:
            return
        # A young average forgets its random start faster (1+n)/(10+n, as TensorFlow's EMA does).
        step = self.global_step
        decay = min(self.recipe.train.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            pairs = zip(
                self.average.state_dict().values(), self.model.state_dict().values(), strict=True
            )
            for mean, value in pairs:
                if mean.is_floating_point():
                    mean.lerp_(value, 1 - decay)
                else:
                    mean.copy_(value)

    def configure_optimizers(self) -> Any:
        settings = self.recipe.train
        optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            fused=precision(settings) == "fp32",  # Lightning clips no others in mixed precision
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.lr_factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def lr_factor(self, step: int) -> float:
        """The learning rate at ``step`` as a fraction of ``train.lr``."""
        settings = self.recipe.train
        warm = min(1.0, (step + 1) / (settings.warmup + 1))
        if settings.schedule == "constant":
            return warm
        done = min(1.0, max(step / settings.steps, self.elapsed))
        return warm * (1 + math.cos(math.pi * done)) / 2

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, _: int) -> Batch:
        return Batch(batch.image.to(device), batch.mask.to(device), batch.weight.to(device))


class Interval:
    """What happened in training since the last validation: mean losses, and how outputs were last.

    Only the last `RECENT` steps tell whether the outputs have collapsed: before, they had not.
    """

    def __init__(self) -> None:
        self.steps = 0
        self._loss: Tensor | float = 0.0
        self._terms: Tensor | float = 0.0
        self._ranges: deque[Tensor] = deque(maxlen=RECENT)
        self._separations: deque[Tensor] = deque(maxlen=RECENT)

    def add(self, loss: Tensor, terms: Tensor, ranges: Tensor, separation: Tensor) -> None:
        """``terms`` and ``ranges``: one per side output, finest first, fused last.

        separation: a number, NaN for a batch without defects.
        """
        self.steps += 1
        self._loss = self._loss + loss
        self._terms = self._terms + terms
        self._ranges.append(ranges)
        self._separations.append(separation)

    def summary(self) -> dict[str, float]:
        """Column name → value: mean losses, widest recent ranges, mean recent separation if any."""
        if not self.steps:
            return {}
        terms = (torch.as_tensor(self._terms) / self.steps).tolist()
        ranges = torch.stack(list(self._ranges)).amax(dim=0).tolist()
        names = [*(f"side{i + 1}" for i in range(len(terms) - 1)), "fused"]
        row = {"loss": float(self._loss) / self.steps}
        row |= {f"loss_{name}": term for name, term in zip(names, terms, strict=True)}
        row |= {f"range_{name}": r for name, r in zip(names, ranges, strict=True)}
        separation = torch.stack(list(self._separations)).nanmean().item()
        return row if math.isnan(separation) else row | {"separation": separation}


def _range(logits: Tensor) -> Tensor:
    """Highest minus lowest probability of one image, of the image where that is most.

    Near 0 when an output is constant, even one that is another constant for each image.
    """
    low, high = torch.sigmoid(torch.stack(torch.aminmax(logits.flatten(1).float(), dim=1)))
    return (high - low).amax()


def _separation(logits: Tensor, mask: Tensor) -> Tensor:
    """Mean logit on defects minus that elsewhere, NaN without defects.

    Near 0 for an output that says nothing of defects, even one with a few high pixels, and below 0
    for one that is turned round. It is of logits, so that a low prior does not make it small.
    """
    said, defect = logits.float(), mask > 0.5
    on, off = said * defect, said * ~defect
    return on.sum() / defect.sum() - off.sum() / (~defect).sum()
