"""Layouts that put images and masks side by side: KSDD2, DAGM, NEU-Seg, Magnetic tile."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from anomaly_u2net.data.images import image_files, read_labels
from anomaly_u2net.data.layouts.common import Fault, Layout, beside, few, marked_pixels, subfolders
from anomaly_u2net.errors import DatasetError, InputError
from anomaly_u2net.types import GOOD, ImageRecord, Split

logger = logging.getLogger(__name__)

#: The name of the only defect type where a set tells none apart.
DEFECT = "defect"
#: What the pixels of NEU-Seg's masks say; 0 is background.
NEU_TYPES = {1: "inclusion", 2: "patches", 3: "scratches"}


def _find_ksdd2(root: Path, single: str | None) -> dict[str, Path]:
    there = any(path.stem.endswith("_GT") for path in _files(root / "train"))
    return {single or root.resolve().name: root} if there else {}


def _read_ksdd2(place: Path, category: str, _: Path, fault: Fault) -> list[ImageRecord]:
    """An image is defective where its ``_GT`` marks a pixel. Copies (``10301 (copy).png``, which the
    official archive holds in train/, with its mask) are left out."""
    records: list[ImageRecord] = []
    splits: tuple[Split, ...] = ("train", "test")
    for split in splits:
        files = {path.stem: path for path in _files(place / split)}
        copies = [name for name in files if name.endswith("(copy)")]
        if copies:
            logger.warning("%s: left out %s", place / split, few(copies))
        for name, path in files.items():
            if name in copies or name.endswith("_GT"):
                continue
            mask = files.get(f"{name}_GT")
            good = mask is not None and marked_pixels(mask, fault) == 0
            record = ImageRecord(path, category, split, DEFECT, mask)
            records.append(replace(record, label=GOOD, mask=None) if good else record)
    return _by_label(records)


def _find_dagm(root: Path, _: str | None) -> dict[str, Path]:
    folders = [root] if _is_class(root) else [path for path in subfolders(root) if _is_class(path)]
    return {folder.resolve().name: folder for folder in folders}


def _is_class(folder: Path) -> bool:
    return re.fullmatch(r"Class\d+", folder.resolve().name) is not None and bool(subfolders(folder))


def _read_dagm(place: Path, category: str, _: Path, __: Fault) -> list[ImageRecord]:
    """An image is defective where ``Label/`` has its mask."""
    records: list[ImageRecord] = []
    sides: tuple[tuple[str, Split], ...] = (("Train", "train"), ("Test", "test"))
    for folder, split in sides:
        masks = {path.stem: path for path in _files(place / folder / "Label")}
        for path in _files(place / folder):
            mask = masks.pop(f"{path.stem}_label", None)
            label = DEFECT if mask else GOOD
            records.append(ImageRecord(path, category, split, label, mask))
        if masks:
            logger.warning(
                "%s: %d masks belong to no image: %s",
                *(place / folder / "Label", len(masks), few(sorted(masks))),
            )
    return _by_label(records)


def _find_neu(root: Path, single: str | None) -> dict[str, Path]:
    there = (root / "images" / "training").is_dir()
    return {single or root.resolve().name: root} if there else {}


def _read_neu(place: Path, category: str, _: Path, fault: Fault) -> list[ImageRecord]:
    """The type of an image is the one that most of its marked pixels have."""
    records: list[ImageRecord] = []
    sides: tuple[tuple[str, Split], ...] = (("training", "train"), ("test", "test"))
    for folder, split in sides:
        images = _files(place / "images" / folder)
        masks = {path.stem: path for path in _files(place / "annotations" / folder)}
        for path in images:
            mask = masks.get(path.stem)
            label = _neu_type(mask, fault) if mask else DEFECT
            mask = None if label == GOOD else mask
            records.append(ImageRecord(path, category, split, label, mask, None, "labels"))
    return _by_label(records)


def _neu_type(mask: Path, fault: Fault) -> str:
    try:
        values, counts = np.unique(read_labels(mask), return_counts=True)
    except InputError as error:
        fault(error)
        return DEFECT
    marked = dict(zip(values.tolist(), counts.tolist(), strict=True))
    marked.pop(0, None)
    if unknown := sorted(marked.keys() - NEU_TYPES.keys()):
        known = ", ".join(f"{value} {name}" for value, name in NEU_TYPES.items())
        text = f"mask {mask}: expected the labels 0 background, {known}; got {unknown}"
        fault(DatasetError(text))
    if not marked:
        return GOOD
    return NEU_TYPES.get(max(marked, key=lambda v: marked[v]), DEFECT)


def _find_tiles(root: Path, single: str | None) -> dict[str, Path]:
    there = (root / "MT_Free").is_dir()
    return {single or root.resolve().name: root} if there else {}


def _read_tiles(place: Path, category: str, _: Path, __: Fault) -> list[ImageRecord]:
    """The set has no split of its own: good images are called train, defects test."""
    records: list[ImageRecord] = []
    for folder in subfolders(place):
        if not folder.name.startswith("MT_"):
            continue
        label = folder.name.removeprefix("MT_").lower()
        files = image_files(folder / "Imgs") if (folder / "Imgs").is_dir() else []
        masks = {path.stem: path for path in files if path.suffix.lower() == ".png"}
        images = [path for path in files if path.suffix.lower() != ".png"]
        if label == "free":
            records += [ImageRecord(path, category, "train", GOOD) for path in images]
            continue
        records += [ImageRecord(p, category, "test", label, masks.get(p.stem)) for p in images]
    return _by_label(records)


def _files(folder: Path) -> list[Path]:
    return image_files(folder) if folder.is_dir() else []


def _by_label(records: list[ImageRecord]) -> list[ImageRecord]:
    """Training first, then by label and name, as in the layouts with folders."""
    return sorted(records, key=lambda r: (r.split != "train", r.label, r.path.name))


KSDD2 = Layout(
    "KSDD2",
    _find_ksdd2,
    _read_ksdd2,
    """
  <root>/
      train/<number>.png and train/<number>_GT.png   white on black; all black: no defect
      test/<number>.png and test/<number>_GT.png""",
    "<stem>_GT.png, beside the image",
    ("train", "test"),
    {"*/*_GT.png": beside("_GT"), "*/* (copy).png": None},
)
DAGM = Layout(
    "DAGM",
    _find_dagm,
    _read_dagm,
    """
  <root>/Class1 ... Class10/
      Train/<number>.PNG
      Train/Label/<number>_label.PNG    of the defect images alone
      Test/...""",
    "Label/<stem>_label.PNG, beside the image",
    ("Train", "Test"),
    {"Label/[Ll]abels.txt": None},
)
NEU_SEG = Layout(
    "NEU-Seg",
    _find_neu,
    _read_neu,
    """
  <root>/
      images/training/<number>.jpg
      images/test/<number>.jpg
      annotations/training/<number>.png   0 background, 1 inclusion, 2 patches, 3 scratches
      annotations/test/<number>.png""",
    "{place}/annotations/training/<stem>.png, or test/",
    ("images", "annotations"),
    {"annotations/*/*": lambda m: [m.parents[2] / "images" / m.parent.name / m.stem]},
)
MAGNETIC_TILE = Layout(
    "Magnetic tile",
    _find_tiles,
    _read_tiles,
    """
  <root>/
      MT_Free/Imgs/<name>.jpg
      MT_Blowhole/Imgs/<name>.jpg and <name>.png
      MT_Break/, MT_Crack/, MT_Fray/, MT_Uneven/ alike""",
    "<stem>.png, beside the image",
    ("MT_*/Imgs",),
    {"MT_Free/Imgs/*.png": beside()},
)
