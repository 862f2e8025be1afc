"""Layouts with a folder a label: MVTec AD (also LOCO and MPDD), BTAD, MVTec AD 2."""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from anomaly_u2net.data.images import EXTENSIONS, image_files
from anomaly_u2net.data.layouts.common import Fault, Layout, few, marked_pixels, subfolders
from anomaly_u2net.errors import DatasetError, MaskError
from anomaly_u2net.types import GOOD, ImageRecord, Split

logger = logging.getLogger(__name__)


class Folders(NamedTuple):
    """Where the images of a category lie.

    splits: folder → split. masks: the folder with a folder of masks a label. good: what the folder
    of good images is called.
    """

    splits: dict[str, Split]
    tree: str
    masks: str = "ground_truth"
    good: str = GOOD


MVTEC_FOLDERS = Folders(
    {"train": "train", "validation": "calibration", "test": "test"},
    """
  <root>/<category>/          or one category directly: <root>/train/...
      train/good/             training images without defect
      train/<defect>/         optional: defect images to train on
      validation/good/        optional: held out for the thresholds
      test/good/
      test/<defect>/
      ground_truth/<defect>/<stem>_mask.png   white on black, the size of the image
                                              (or a folder <stem>/ of several masks)""",
)
BTAD_FOLDERS = Folders(
    {"train": "train", "test": "test"},
    """
  <root>/{01,02,03}/
      train/ok/
      test/ok/
      test/ko/
      ground_truth/ko/<stem>.png (or .bmp)""",
    good="ok",
)
AD2_FOLDERS = Folders(
    {"train": "train", "validation": "calibration", "test_public": "test"},
    """
  <root>/<category>/
      train/good/<number>_<light>.png
      validation/good/
      test_public/good/
      test_public/bad/
      test_public/ground_truth/bad/<stem>_mask.png""",
    masks="test_public/ground_truth",
)


def find_categories(root: Path, single: str | None, *, folders: Folders) -> dict[str, Path]:
    """Category → its folder, where ``root`` is one category or holds several."""
    if _is_category(root, folders):
        return {single or root.resolve().name: root}
    return {path.name: path for path in subfolders(root) if _is_category(path, folders)}


def read_category(
    place: Path, category: str, _: Path, fault: Fault, *, folders: Folders
) -> list[ImageRecord]:
    """The records of one category, masks found."""
    records: list[ImageRecord] = []
    masks = _masks(place / folders.masks)
    used: set[Path] = set()
    for folder, split in folders.splits.items():
        for name, path in _labelled_images(place / folder, folders, fault):
            label = GOOD if name == folders.good else name
            found = masks.get((name, f"{path.stem}_mask")) or masks.get((name, path.stem), [])
            if len(found) > 1:
                fault(
                    MaskError(
                        f"{path}: expected one mask, found {few([mask.name for mask in found])} "
                        f"in {found[0].parent}; keep one"
                    )
                )
            mask = found[0] if found else None
            used.update(found)
            if label == GOOD and mask:
                _check_blank(path, mask, fault)
                mask = None
            records.append(ImageRecord(path, category, split, label, mask))
    _check_good(records, category, place, folders, fault)
    _check_one_mask_each(records, fault)
    if orphans := sorted({path for paths in masks.values() for path in paths} - used):
        names = few([str(path.relative_to(place)) for path in orphans])
        logger.warning("%s: %d masks belong to no image: %s", place, len(orphans), names)
    return records


def read_ad2(place: Path, category: str, root: Path, fault: Fault) -> list[ImageRecord]:
    """MVTec AD 2: the shots of one part in several lights are one group.

    Files are called ``<number>_<light>.png``, and the numbers begin anew in each folder.
    """
    records = read_category(place, category, root, fault, folders=AD2_FOLDERS)
    return [
        replace(r, group=f"{r.split}/{r.label}/{r.path.stem.partition('_')[0]}") for r in records
    ]


def _check_good(
    records: list[ImageRecord], category: str, place: Path, folders: Folders, fault: Fault
) -> None:
    if not records:
        fault(
            DatasetError(
                f"{place}: expected images in {few([f'{name}/' for name in folders.splits])}, "
                f"found only empty folders; arrange the images like this:{folders.tree}"
            )
        )
    elif all(record.defective for record in records):
        labels = sorted({record.label for record in records})
        fault(
            DatasetError(
                f"category {category!r}: expected good images in train/{folders.good}/ or "
                f"test/{folders.good}/, found only {few(labels)}; put the images without defect "
                f"into a folder named {folders.good!r}"
            )
        )


def _labelled_images(split: Path, folders: Folders, fault: Fault) -> list[tuple[str, Path]]:
    """(folder's name, image) of every image in ``split``/<label>/, sorted."""
    if not split.is_dir():
        return []
    if loose := image_files(split):
        fault(
            DatasetError(
                f"{split}: expected images in folders named {folders.good!r} or after their "
                f"defect, found {len(loose)} directly in it "
                f"({few([path.name for path in loose])}); move them"
            )
        )
    pairs: list[tuple[str, Path]] = []
    for folder in subfolders(split):
        if folder == split.parent / folders.masks:
            continue
        name = folder.name
        if name != folders.good and name.lower() == folders.good:
            name = folders.good
            fault(DatasetError(f"{folder}: expected the name {name!r} in lower case; rename it"))
        images = image_files(folder)
        if not images:
            names = [path.name for path in sorted(folder.iterdir())]
            fault(
                DatasetError(
                    f"{folder}: expected images ({' '.join(EXTENSIONS)}), found "
                    f"{few(names) or 'an empty folder'}; fill the folder or remove it"
                )
            )
        pairs += [(name, path) for path in images]
    return pairs


def _masks(root: Path) -> dict[tuple[str, str], list[Path]]:
    """(label, stem of the mask) → the mask files of that stem, or a folder of masks."""
    masks: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for folder in subfolders(root):
        for path in image_files(folder):
            masks[folder.name, path.stem].append(path)
        for several in subfolders(folder):
            masks[folder.name, several.name].append(several)
    return dict(masks)


def _check_blank(image: Path, mask: Path, fault: Fault) -> None:
    if marked := marked_pixels(mask, fault):
        fault(
            MaskError(
                f"{image}: expected no defect in a good image, but its mask {mask} marks {marked} "
                "pixels; move the image to its defect type, or remove the mask"
            )
        )


def _check_one_mask_each(records: list[ImageRecord], fault: Fault) -> None:
    owner: dict[Path, Path] = {}
    for record in records:
        if record.mask is None:
            continue
        first = owner.setdefault(record.mask, record.path)
        if first != record.path:
            fault(
                MaskError(
                    f"mask {record.mask}: expected one image of that stem, found two: {first} and "
                    f"{record.path}; rename one image and its mask"
                )
            )


def _is_category(folder: Path, folders: Folders) -> bool:
    # Not the calibration folder: it does not make a category.
    return any(
        (folder / name).is_dir() for name, split in folders.splits.items() if split != "calibration"
    )


def _good_images(mask: Path, *, folders: Folders) -> list[Path]:
    """Where the good image of a mask that marks nothing may lie, without the extension."""
    place = mask.parents[len(Path(folders.masks).parts) + 1]
    stems = (mask.stem, mask.stem.removesuffix("_mask"))
    return [place / side / folders.good / stem for side in folders.splits for stem in stems]


def _layout(name: str, folders: Folders, *, mask: str, others: tuple[str, ...] = ()) -> Layout:
    blank = {f"{folders.masks}/{folders.good}/*": partial(_good_images, folders=folders)}
    return Layout(
        name,
        partial(find_categories, folders=folders),
        partial(read_category, folders=folders),
        folders.tree,
        mask,
        (*folders.splits, folders.masks),
        {**blank, **dict.fromkeys(others)},
    )


MVTEC = _layout(
    "MVTec",
    MVTEC_FOLDERS,
    mask="{place}/ground_truth/{label}/<stem>_mask.png (or <stem>.png)",
)
BTAD = _layout(
    "BTAD",
    BTAD_FOLDERS,
    mask="{place}/ground_truth/{label}/<stem>.png (or .bmp)",
)
MVTEC_AD2 = _layout(
    "MVTec AD 2",
    AD2_FOLDERS,
    mask="{place}/test_public/ground_truth/{label}/<stem>_mask.png",
    others=("test_private/*", "test_private_mixed/*"),
)._replace(read=read_ad2)
