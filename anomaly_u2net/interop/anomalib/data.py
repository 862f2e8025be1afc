"""Labelled images, defects included, for anomalib's Trainer."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from anomalib import TaskType
from anomalib.data import AnomalibDataModule, ImageBatch, ImageItem
from torch.utils.data import DataLoader, Dataset

from anomaly_u2net.data.images import read_sample
from anomaly_u2net.data.split_files import write_split
from anomaly_u2net.errors import DatasetError, InputError
from anomaly_u2net.recipe import Recipe
from anomaly_u2net.training.run import split_data, training_loader
from anomaly_u2net.types import Batch, ImageRecord, Split


class SupervisedFolder(AnomalibDataModule):
    """A folder in MVTec layout, or a card's data set, with its defects in training.

    The part ``data`` of the model's recipe says which images and what is held out; root and
    category go before it. Training gets the recipe's augmented, balanced batches (`TrainingSet`);
    validation and test get one image a batch, at its original size. The split is made once for a
    recipe, and the same each time (`split_records`): calling ``setup`` again changes nothing.
    """

    def __init__(self, root: str | None = None, category: str | None = None) -> None:
        super().__init__(train_batch_size=1, eval_batch_size=1, num_workers=0)
        self.root, self.category = root, category or ""
        wanted = {"data.root": root, "data.categories": category and [category]}
        self._changes = [f"{key}={json.dumps(value)}" for key, value in wanted.items() if value]
        self.records: list[ImageRecord] = []

    @property
    def name(self) -> str:
        """What anomalib calls the folder of results."""
        return Path(self.root).resolve().name if self.root else type(self).__name__

    def _setup(self, _stage: str | None = None) -> None:
        """Find and split the images by the recipe of the model; raises DatasetError."""
        model = self._model
        recipe = getattr(model, "recipe", None)
        if not isinstance(recipe, Recipe):
            raise InputError(
                f"expected U2Net as the model of SupervisedFolder, got {type(model).__name__}: its "
                "recipe says how images are split, resized and augmented"
            )
        if self.trainer.world_size > 1:
            raise InputError(
                f"expected one device, got {self.trainer.world_size}: set --trainer.devices 1, or "
                "train with 'anomaly-u2net train --devices'"
            )
        self.recipe = recipe.with_overrides(self._changes)
        self.records = split_data(self.recipe)
        found = sorted({record.category for record in self.records})
        if len(found) > 1:
            raise DatasetError(
                f"expected one category, as anomalib trains them, found {', '.join(found)}: choose "
                f"one with --data.category {found[0]}"
            )
        self.category = found[0]

    def setup(self, stage: str | None = None) -> None:
        """Split, unless that was done for a model of this recipe."""
        recipe = getattr(self._model, "recipe", None)
        if not self.records or (
            isinstance(recipe, Recipe) and recipe.with_overrides(self._changes) != self.recipe
        ):
            self._setup(stage)

    @property
    def _model(self) -> Any:
        return self.trainer and self.trainer.lightning_module

    def part(self, split: Split) -> list[ImageRecord]:
        """The images of one split."""
        return [record for record in self.records if record.split == split]

    def split_text(self) -> str:
        """The split as `write_split` writes it."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "split.csv"
            write_split(path, self.records, root=self.recipe.data_root())
            return path.read_text(encoding="utf-8")

    @property
    def task(self) -> TaskType:
        return TaskType.SEGMENTATION

    def train_dataloader(self) -> DataLoader[Any]:
        return training_loader(self.recipe, self.part("train"))

    def val_dataloader(self) -> DataLoader[Any]:
        return self._whole("validation")

    def test_dataloader(self) -> DataLoader[Any]:
        return self._whole("test")

    def transfer_batch_to_device(self, batch: Any, device: torch.device, index: int) -> Any:
        if isinstance(batch, Batch):
            return Batch(batch.image.to(device), batch.mask.to(device), batch.weight.to(device))
        return super().transfer_batch_to_device(batch, device, index)

    def _whole(self, split: Split) -> DataLoader[Any]:
        return DataLoader(_Images(self.part(split)), batch_size=1, collate_fn=ImageBatch.collate)


class _Images(Dataset[ImageItem]):
    """Records at their original size, as anomalib has them: float32 in 0..1."""

    def __init__(self, records: Sequence[ImageRecord]) -> None:
        self.records = records

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> ImageItem:
        sample = read_sample(self.records[index])
        return ImageItem(
            image=torch.from_numpy(sample.image).permute(2, 0, 1),
            gt_mask=torch.from_numpy(sample.mask),
            gt_label=torch.tensor(int(sample.record.defective)),
            image_path=str(sample.record.path),
        )
