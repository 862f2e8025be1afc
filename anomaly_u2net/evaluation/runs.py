"""The labelled images that belong to a run, by the split it was trained with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from anomaly_u2net.data.cards import load_card
from anomaly_u2net.data.index import GROUPS, index_dataset
from anomaly_u2net.data.split_files import read_split, training_hashes
from anomaly_u2net.data.splits import check_disjoint
from anomaly_u2net.errors import DatasetError, ModelFileError
from anomaly_u2net.recipe import Recipe
from anomaly_u2net.types import ImageRecord, Split


def run_recipe(run: str | Path) -> Recipe:
    """The resolved recipe that ``run`` was trained with; `ModelFileError` if there is none."""
    path = Path(run) / "recipe.yaml"
    if not path.is_file():
        raise ModelFileError(f"{run}: no recipe.yaml here: expected the folder of a training run")
    return Recipe.load(path)


def run_records(
    run: str | Path,
    split: Split,
    *,
    data_root: str | Path | None = None,
    category: str | None = None,
) -> list[ImageRecord]:
    """The images of ``split`` as the run's split.csv has them, of all categories or of one.

    They are looked for under the recipe's data root, or under ``data_root`` when they moved.
    """
    root = run_recipe(run).data_root() if data_root is None else data_root
    return read_split(
        Path(run) / "split.csv", root, only=split, category=category, check_bytes=True
    )


def other_records(
    run: str | Path, root: str | Path, *, category: str | None = None
) -> list[ImageRecord]:
    """The test images of another folder in MVTec layout, for a model trained elsewhere.

    ``category`` renames the one category of ``root``, so that its thresholds are found. Groups are
    read where there is a groups.csv, for the intervals, and need not be there. Raises
    `LeakError` when an image's bytes are among those that the run trained, chose or calibrated on.
    """
    # Whatever the card expects of its own data set (categories, groups), this is another one.
    card = load_card(run_recipe(run).data.card)
    grouped = any((folder / GROUPS).is_file() for folder in (Path(root), *Path(root).glob("*")))
    card = card.model_copy(update={"categories": None} | ({} if grouped else {"groups": None}))
    records = [record for record in index_dataset(root, card=card) if record.split == "test"]
    if not records:
        raise DatasetError(f"{root}: no test images: expected test/good/ and test/<defect>/ there")
    if category is not None:
        found = sorted({record.category for record in records})
        if len(found) > 1:
            raise DatasetError(
                f"--category names one category, but {root} holds {', '.join(found)}"
            )
        records = [replace(record, category=category) for record in records]
    check_disjoint(training_hashes(Path(run) / "split.csv"), records)
    return records
