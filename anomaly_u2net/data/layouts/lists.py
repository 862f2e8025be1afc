"""Layouts whose images are named in a list: VisA (CSV) and Real-IAD (JSON)."""

from __future__ import annotations

import csv
import json
from pathlib import Path, PurePosixPath
from typing import Any

from anomaly_u2net.data.layouts.common import Fault, Layout, beside
from anomaly_u2net.errors import DatasetError
from anomaly_u2net.types import GOOD, ImageRecord, Split

_SPLITS: dict[str, Split] = {"train": "train", "test": "test"}
VISA_COLUMNS = ("object", "split", "label", "image", "mask")
#: Folders of Real-IAD's images, largest first.
REALIAD_SIZES = ("realiad_raw", "realiad_1024", "realiad_512", "realiad_256")


def _find_visa(root: Path, _: str | None) -> dict[str, Path]:
    path = root / "split_csv" / "1cls.csv"
    if not path.is_file():
        return {}
    return dict.fromkeys(sorted({row["object"] for row in _visa_rows(path)}), path)


def _read_visa(place: Path, category: str, root: Path, fault: Fault) -> list[ImageRecord]:
    records: list[ImageRecord] = []
    for row in _visa_rows(place):
        if row["object"] == category:
            try:
                records.append(_visa_record(row, root, source=place))
            except DatasetError as error:
                fault(error)
    return _sorted(records)


def _visa_record(row: dict[str, str], root: Path, *, source: Path) -> ImageRecord:
    split = _SPLITS.get(row["split"])
    if split is None or row["label"] not in ("normal", "anomaly") or not row["image"]:
        raise DatasetError(
            f"{source}: expected the split train or test, the label normal or anomaly, and an "
            f"image, found {row['split']!r}, {row['label']!r} and {row['image']!r}; download "
            "the list again"
        )
    label = GOOD if row["label"] == "normal" else row["label"]
    image = _under(root, row["image"], source=source)
    mask = _under(root, row["mask"], source=source) if label != GOOD and row["mask"] else None
    return ImageRecord(image, row["object"], split, label, mask, None, "labels")


def _visa_rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: expected a CSV file, cannot read it: {error}") from error
    if missing := [name for name in VISA_COLUMNS if name not in (reader.fieldnames or [])]:
        raise DatasetError(f"{path}: expected the columns {', '.join(VISA_COLUMNS)}; no {missing}")
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


def _under(root: Path, name: str, *, source: Path) -> Path:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
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
      <category>/Data/Masks/Anomaly/*.png    0 background, 1 and more are defects""",
    "its path in {place}",
    folder=lambda _, category, root: root / category,
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
    {"*_mask.png": beside("_mask")},
    lambda _, category, root: _realiad_images(root) / category,
)
