"""Layouts whose images are named in a list: VisA (CSV) and Real-IAD (JSON)."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from anomaly_u2net.data.layouts.common import Fault, Layout, beside
from anomaly_u2net.errors import DatasetError
from anomaly_u2net.types import GOOD, ImageRecord, Split

logger = logging.getLogger(__name__)

_SPLITS: dict[str, Split] = {"train": "train", "test": "test"}
VISA_COLUMNS = ("object", "split", "label", "image", "mask")
#: What VisA calls a good image, and a defect whose type is not told.
NORMAL, ANOMALY = "normal", "anomaly"
#: In a category of VisA, the defect types of its images; it need not be there.
VISA_TYPES = "image_anno.csv"
#: Folders of Real-IAD's images, largest first.
REALIAD_SIZES = ("realiad_raw", "realiad_1024", "realiad_512", "realiad_256")


def _find_visa(root: Path, _: str | None) -> dict[str, Path]:
    path = root / "split_csv" / "1cls.csv"
    if not path.is_file():
        return {}
    return dict.fromkeys(sorted({row["object"] for row in _rows(path, VISA_COLUMNS)}), path)


def _read_visa(place: Path, category: str, root: Path, fault: Fault) -> list[ImageRecord]:
    """The type of a defect is the one that ``image_anno.csv`` has, where it is there."""
    records: list[ImageRecord] = []
    for row in _rows(place, VISA_COLUMNS):
        if row["object"] == category:
            try:
                records.append(_visa_record(row, root, source=place))
            except DatasetError as error:
                fault(error)
    types = _visa_types(root, category, fault)
    if types is None:
        return _sorted(records)
    source = root / category / VISA_TYPES
    defects = [record for record in records if record.defective]
    if without := sum(record.path not in types for record in defects):
        logger.warning(
            "%s: %d of %d defect images have no row: their type is %r",
            *(source, without, len(defects), ANOMALY),
        )
    return _sorted([_typed(r, types.get(r.path, r.label), fault, source=source) for r in records])


def _visa_record(row: dict[str, str], root: Path, *, source: Path) -> ImageRecord:
    split = _SPLITS.get(row["split"])
    if split is None or row["label"] not in (NORMAL, ANOMALY) or not row["image"]:
        raise DatasetError(
            f"{source}: expected the split train or test, the label normal or anomaly, and an "
            f"image, found {row['split']!r}, {row['label']!r} and {row['image']!r}; download "
            "the list again"
        )
    label = GOOD if row["label"] == NORMAL else ANOMALY
    image = _under(root, row["image"], source=source)
    mask = _under(root, row["mask"], source=source) if label != GOOD and row["mask"] else None
    return ImageRecord(image, row["object"], split, label, mask, None, "labels")


def _typed(record: ImageRecord, label: str, fault: Fault, *, source: Path) -> ImageRecord:
    if not label:
        return record  # told already
    if (label == GOOD) != (record.label == GOOD):
        stated = "defect types" if record.defective else NORMAL
        found = NORMAL if record.defective else label
        fault(
            DatasetError(
                f"{source}: expected {stated} for {record.path}, as split_csv/1cls.csv has it, found "
                f"{found!r}; download the two lists again"
            )
        )
        return record
    return replace(record, label=label)


def _visa_types(root: Path, category: str, fault: Fault) -> dict[Path, str] | None:
    """Image → its label by ``image_anno.csv``, empty where ``fault`` is told that it is none.

    None where the file is not there or cannot be read.
    """
    path = root / category / VISA_TYPES
    if not path.is_file():
        return None
    types: dict[Path, str] = {}
    try:
        rows = _rows(path, ("image", "label"))
    except DatasetError as error:
        fault(error)
        return None
    for row in rows:
        try:
            image = _under(root, row["image"], source=path)
        except DatasetError as error:
            fault(error)
            continue
        label = _visa_label(row, fault, source=path)
        if types.setdefault(image, label) != label:
            fault(
                DatasetError(
                    f"{path}: expected one label for {row['image']}, found {types[image]!r} and "
                    f"{label!r}; keep one row an image"
                )
            )
    return types


def _visa_label(row: dict[str, str], fault: Fault, *, source: Path) -> str:
    """One name for the types of an image, in whatever order they stand: melt,bent is bent+melt."""
    types = sorted({" ".join(part.split()) for part in (row["label"] or "").split(",")} - {""})
    if types == [NORMAL]:
        return GOOD
    if not types or {NORMAL, GOOD} & set(types):
        fault(
            DatasetError(
                f"{source}: expected the label {NORMAL}, or defect types with commas between them, "
                f"for {row['image']}, found {row['label']!r}; download the list again"
            )
        )
        return ""
    return "+".join(types)


def _visa_gaps(
    records: Sequence[ImageRecord], category: str, root: Path
) -> Iterator[tuple[Path, str]]:
    """Images that ``image_anno.csv`` alone names and that are not there, and those without a row."""
    types = _visa_types(root, category, lambda _: None)  # the reader told its faults
    if types is None:
        return
    listed = {record.path for record in records}
    for image in sorted(types.keys() - listed):
        if not image.exists():
            yield image, f"named in {category}/{VISA_TYPES}"
    for image in sorted(listed - types.keys()):
        yield image, f"without a row in {category}/{VISA_TYPES}"


def _rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: expected a CSV file, cannot read it: {error}") from error
    if missing := [name for name in columns if name not in (reader.fieldnames or [])]:
        raise DatasetError(f"{path}: expected the columns {', '.join(columns)}; no {missing}")
    return rows


def _find_realiad(root: Path, _: str | None) -> dict[str, Path]:
    """The lists beside the images: ``root`` holds both, or is the folder of one image size."""
    base = root.parent if root.name in REALIAD_SIZES else root
    for folder in (base / "realiad_jsons" / "realiad_jsons", base / "realiad_jsons"):
        if lists := sorted(folder.glob("*.json")):
            images = _realiad_images(root)
            return {path.stem: path for path in lists if (images / path.stem).is_dir()}
    return {}


def _realiad_images(root: Path) -> Path:
    if root.name in REALIAD_SIZES:
        return root
    sizes = [name for name in REALIAD_SIZES if (root / name).is_dir()]
    if len(sizes) != 1:
        raise DatasetError(
            f"{root}: expected one folder of images ({', '.join(REALIAD_SIZES)}), found "
            f"{', '.join(sizes) or 'none'}; name the one to use instead of {root.name}"
        )
    return root / sizes[0]


def _read_realiad(place: Path, category: str, root: Path, fault: Fault) -> list[ImageRecord]:
    """The views of one part (its folder) are one group."""
    folder = _realiad_images(root) / category
    records: list[ImageRecord] = []
    for split, item in _realiad_items(place, fault):
        try:
            records.append(_realiad_record(item, category, split, folder, source=place))
        except DatasetError as error:
            fault(error)
        except (KeyError, TypeError, AttributeError) as error:
            fault(_no_list(place, error))
    return _sorted(records)


def _realiad_items(place: Path, fault: Fault) -> list[tuple[Split, Any]]:
    """(split, item) of the lists in a category's file."""
    try:
        content: Any = json.loads(place.read_text(encoding="utf-8"))
        return [(split, item) for name, split in _SPLITS.items() for item in content[name]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        fault(_no_list(place, error))
        return []


def _realiad_record(
    item: Any, category: str, split: Split, folder: Path, *, source: Path
) -> ImageRecord:
    kind, mask = item["anomaly_class"], item.get("mask_path")
    return ImageRecord(
        _under(folder, item["image_path"], source=source),
        category,
        split,
        GOOD if kind == "OK" else str(kind),
        _under(folder, mask, source=source) if kind != "OK" and mask else None,
        PurePosixPath(item["image_path"]).parent.as_posix(),
    )


def _no_list(place: Path, error: Exception) -> DatasetError:
    return DatasetError(
        f"{place}: expected a JSON object with the lists train and test of image_path, "
        f"mask_path and anomaly_class, cannot read it: {type(error).__name__}: {error}"
    )


def _under(root: Path, name: str | None, *, source: Path) -> Path:
    path = PurePosixPath(name or "")
    if not name or path.is_absolute() or ".." in path.parts:
        raise DatasetError(f"{source}: expected paths under {root}, found {name!r}")
    return root / path


def _sorted(records: list[ImageRecord]) -> list[ImageRecord]:
    return sorted(records, key=lambda r: (r.split != "train", r.label, r.path))


VISA = Layout(
    "VisA",
    _find_visa,
    _read_visa,
    """
  <root>/
      split_csv/1cls.csv                     object,split,label,image,mask
      <category>/Data/Images/Normal/*.JPG
      <category>/Data/Images/Anomaly/*.JPG
      <category>/Data/Masks/Anomaly/*.png    0 background, 1 and more are defects
      <category>/image_anno.csv              optional: image,label,mask; the defect types""",
    "its path in {place}",
    ("Data",),
    folder=lambda _, category, root: root / category,
    gaps=_visa_gaps,
)
REALIAD = Layout(
    "Real-IAD",
    _find_realiad,
    _read_realiad,
    """
  <root>/
      realiad_jsons/<category>.json     (or realiad_jsons/realiad_jsons/<category>.json)
      realiad_1024/<category>/OK/<part>/*.jpg       one size; of several, name one as the root
      realiad_1024/<category>/NG/<type>/<part>/*.jpg and *_mask.png""",
    "its path in {place}",
    ("*",),
    {"*_mask.png": beside("_mask")},
    lambda _, category, root: _realiad_images(root) / category,
)
