"""From a folder in the MVTec layout to records: which file, category, split, label and mask."""

from __future__ import annotations

import csv
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from anomaly_u2net.data.cards import Card, load_card, nearest
from anomaly_u2net.data.images import EXTENSIONS, image_files, read_mask
from anomaly_u2net.errors import DatasetError, MaskError
from anomaly_u2net.recipe import SynthesisRecipe
from anomaly_u2net.types import GOOD, ImageRecord, Split

logger = logging.getLogger(__name__)

MASKS = "ground_truth"
GROUPS = "groups.csv"
_SPLITS: dict[str, Split] = {"train": "train", "validation": "calibration", "test": "test"}
_TREE = """
  <root>/<category>/          or one category directly: <root>/train/...
      train/good/             training images without defect
      train/<defect>/         optional: defect images to train on
      validation/good/        optional: held out for the thresholds
      test/good/
      test/<defect>/
      ground_truth/<defect>/<stem>_mask.png   white on black, the size of the image"""


def index_dataset(
    root: str | Path,
    *,
    card: str | Path | Card = "folder",
    categories: Sequence[str] | None = None,
    groups: bool = True,
) -> list[ImageRecord]:
    """Index a folder of categories, or one category, in the MVTec layout.

    ``card`` is a card, its name or its path. ``categories`` picks some of those found, None takes
    all. Images under ``validation/`` get the split ``"calibration"``. ``groups.csv`` in a
    category (columns ``file`` and ``group``, or the column that the card states) fills
    ``record.group``; ``groups=False`` leaves that out, for images that are not to be split. Records
    come sorted by category, split, label and file name.

    Raises ``DatasetError`` (no layout, empty folders, unknown categories, a category without
    good images, a wrong ``groups.csv``) and ``MaskError`` (defect images without a mask, one
    mask for two images, a good image with a mask that marks pixels).

    >>> import tempfile
    >>> root = Path(tempfile.mkdtemp()) / "bolt"
    >>> for name in ("train/good/0.png", "test/cut/1.png", "ground_truth/cut/1_mask.png"):
    ...     (root / name).parent.mkdir(parents=True, exist_ok=True)
    ...     (root / name).touch()
    >>> [(r.category, r.split, r.label, r.mask and r.mask.name) for r in index_dataset(root)]
    [('bolt', 'train', 'good', None), ('bolt', 'test', 'cut', '1_mask.png')]
    """
    root = Path(root)
    card = card if isinstance(card, Card) else load_card(card)
    folders = _category_folders(root, card)
    if groups and (root / GROUPS).is_file() and root not in folders.values():
        raise DatasetError(
            f"{root / GROUPS}: expected groups.csv inside each category's folder, found it beside "
            "them; split it by category, with paths relative to the category"
        )
    records: list[ImageRecord] = []
    for category in _chosen(sorted(folders), categories, root=root):
        found = _index_category(folders[category], category)
        _compare_counts(found, category, card=card)
        paths = [record.path for record in found]
        group_of = _groups(folders[category], paths, card) if groups else {}
        records += [
            ImageRecord(r.path, r.category, r.split, r.label, r.mask, group_of.get(r.path))
            for r in found
        ]
    return records


def check_trainable(
    records: Iterable[ImageRecord], *, synthesis: SynthesisRecipe | None = None
) -> None:
    """Raise ``DatasetError`` unless every category has good and defect images in training.

    Good images are enough where ``synthesis`` makes defects on them without a real one to begin with.
    Call it on the records as they will be trained on: after ``split_records``.
    """
    counts: dict[str, Counter[bool]] = defaultdict(Counter)
    for record in records:
        counts[record.category][record.defective] += record.split == "train"
    if not counts:
        raise DatasetError("expected images to train on, got no records at all")
    for category, count in sorted(counts.items()):
        if not count[False]:
            raise DatasetError(
                f"category {category!r}: expected good images in training, found none; "
                "put images without defect into train/good/"
            )
        if not count[True] and synthesis is not None and set(synthesis.generators) == {"paste"}:
            raise DatasetError(
                f"category {category!r}: expected defect images in training, found none, and "
                "paste, the only one of synthesis.generators, needs one to begin with; add another "
                "generator, as perlin, or put defect images into train/<defect>/"
            )
        if not count[True] and (synthesis is None or not synthesis.share):
            raise DatasetError(
                f"category {category!r}: expected defect images in training, found none; put "
                "defect images into train/<defect>/ with their masks in ground_truth/<defect>/, "
                "or move some of the test defects into training: set data.protocol, as kshot-10, "
                "or data.borrow_defects, a share; "
                "or synthesis.share to train on good images with made defects (0.5: half of them)"
            )


def _category_folders(root: Path, card: Card) -> dict[str, Path]:
    if not root.is_dir():
        found = "a file" if root.exists() else "nothing"
        raise DatasetError(f"{root}: expected a data-set folder, found {found}; check the path")
    if _is_category(root):
        folders = {card.category or root.resolve().name: root}
    else:
        folders = {path.name: path for path in _subfolders(root) if _is_category(path)}
        if card.category and folders.keys() - {card.category}:
            raise DatasetError(
                f"{root}: expected the one category of card {card.name!r} ({card.category}), found "
                f"{', '.join(sorted(folders))}; name the folder of the category itself, "
                "or use the card 'folder'"
            )
    if not folders:
        names = [path.name for path in sorted(root.iterdir())]
        raise DatasetError(
            f"{root}: expected the MVTec layout, found {few(names) or 'an empty folder'}; "
            f"arrange the images like this:{_TREE}"
        )
    if card.categories is not None:
        for name in sorted(folders.keys() - card.categories.keys()):
            raise DatasetError(
                f"{root}: expected categories of card {card.name!r} "
                f"({', '.join(card.categories)}), found {name!r}"
                f"{nearest(name, list(card.categories))}; rename it, or use the card 'folder'"
            )
    return folders


def _chosen(found: list[str], categories: Sequence[str] | None, *, root: Path) -> list[str]:
    if categories is None:
        return found
    if isinstance(categories, str) or not categories:
        raise DatasetError(
            f"expected a list of categories, or None for all, got {categories!r}; "
            f"found in {root}: {', '.join(found)}"
        )
    for name in categories:
        if name not in found:
            raise DatasetError(
                f"{root}: expected categories out of {', '.join(found)}; "
                f"got {name!r}{nearest(name, found)}"
            )
    return sorted(set(categories))


def _index_category(root: Path, category: str) -> list[ImageRecord]:
    """The records of one category, masks found, groups not yet."""
    records: list[ImageRecord] = []
    masks = _masks(root)
    without: list[Path] = []
    used: set[Path] = set()
    for folder, split in _SPLITS.items():
        for label, path in _labelled_images(root / folder):
            found = masks.get((label, f"{path.stem}_mask")) or masks.get((label, path.stem), [])
            if len(found) > 1:
                raise MaskError(
                    f"{path}: expected one mask, found {few([mask.name for mask in found])} "
                    f"in {found[0].parent}; keep one"
                )
            mask = found[0] if found else None
            used.update(found)
            if label == GOOD and mask:
                _check_blank(path, mask)
                mask = None
            elif label != GOOD and not mask:
                without.append(path)
            records.append(ImageRecord(path, category, split, label, mask))
    if without:
        labels = sorted({path.parent.name for path in without})
        looked = few([str(root / MASKS / label / "<stem>_mask.png") for label in labels])
        raise MaskError(
            f"category {category!r}: expected a mask for every defect image, {len(without)} have "
            f"none: {few([str(path.relative_to(root)) for path in without])}; looked for {looked} "
            "(or <stem>.png); add the masks, or leave the images out"
        )
    if not records:
        raise DatasetError(
            f"{root}: expected images in train/, validation/ or test/, found only empty folders; "
            f"arrange the images like this:{_TREE}"
        )
    if all(record.defective for record in records):
        labels = sorted({record.label for record in records})
        raise DatasetError(
            f"category {category!r}: expected good images in train/good/ or test/good/, found "
            f"only {few(labels)}; put the images without defect into a folder named 'good'"
        )
    _check_one_mask_each(records)
    if orphans := sorted({path for paths in masks.values() for path in paths} - used):
        names = few([str(path.relative_to(root)) for path in orphans])
        logger.warning("%s: %d masks belong to no image: %s", root, len(orphans), names)
    return records


def _labelled_images(split: Path) -> list[tuple[str, Path]]:
    """(label, image) of every image in ``split``/<label>/, sorted."""
    if not split.is_dir():
        return []
    if loose := image_files(split):
        raise DatasetError(
            f"{split}: expected images in folders named 'good' or after their defect, found "
            f"{len(loose)} directly in it ({few([path.name for path in loose])}); move them"
        )
    pairs: list[tuple[str, Path]] = []
    for folder in _subfolders(split):
        if folder.name != GOOD and folder.name.lower() == GOOD:
            raise DatasetError(f"{folder}: expected the name 'good' in lower case; rename it")
        images = image_files(folder)
        if not images:
            names = [path.name for path in sorted(folder.iterdir())]
            raise DatasetError(
                f"{folder}: expected images ({' '.join(EXTENSIONS)}), found "
                f"{few(names) or 'an empty folder'}; fill the folder or remove it"
            )
        pairs += [(folder.name, path) for path in images]
    return pairs


def _masks(root: Path) -> dict[tuple[str, str], list[Path]]:
    """(label, stem of the mask) → the mask files of that stem."""
    masks: dict[tuple[str, str], list[Path]] = defaultdict(list)
    if (root / MASKS).is_dir():
        for folder in _subfolders(root / MASKS):
            for path in image_files(folder):
                masks[folder.name, path.stem].append(path)
    return dict(masks)


def _check_blank(image: Path, mask: Path) -> None:
    marked = int(read_mask(mask).sum())
    if marked:
        raise MaskError(
            f"{image}: expected no defect in a good image, but its mask {mask} marks {marked} "
            "pixels; move the image to its defect type, or remove the mask"
        )


def _check_one_mask_each(records: list[ImageRecord]) -> None:
    owner: dict[Path, Path] = {}
    for record in records:
        if record.mask is None:
            continue
        first = owner.setdefault(record.mask, record.path)
        if first != record.path:
            raise MaskError(
                f"mask {record.mask}: expected one image of that stem, found two: {first} and "
                f"{record.path}; rename one image and its mask"
            )


def _compare_counts(records: list[ImageRecord], category: str, *, card: Card) -> None:
    for split, expected in (card.categories or {}).get(category, {}).items():
        defective = Counter(record.defective for record in records if record.split == split)
        found = (defective[False], defective[True])
        if found != expected:
            logger.warning(
                "category %r, %s: the card %r states %d good and %d defective images, found "
                "%d and %d; numbers will not compare with published ones",
                *(category, split, card.name, *expected, *found),
            )


def _groups(root: Path, images: list[Path], card: Card) -> dict[Path, str]:
    """The group of every image that ``groups.csv`` of the category lists."""
    path = root / GROUPS
    if not path.is_file():
        if card.groups is None:
            return {}
        raise DatasetError(
            f"{path}: expected this file, because card {card.name!r} says which images belong "
            "together; found nothing: write it, or use the card 'folder' to split without groups"
        )
    column = card.groups.column if card.groups else "group"
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), list(reader.fieldnames or [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(
            f"{path}: expected a CSV file in UTF-8, cannot read it: {error}"
        ) from error
    if missing := [name for name in ("file", column) if name not in columns]:
        raise DatasetError(
            f"{path}: expected the columns 'file' and {column!r}, found {few(columns, 12)}, "
            f"without {' and '.join(missing)}; rename the column, or state the one that holds "
            "the group in the card: groups: {column: <name>}"
        )
    names: dict[str, list[Path]] = defaultdict(list)
    for image in images:
        relative = image.relative_to(root)
        full = relative.as_posix()
        for key in (full, full.removesuffix(image.suffix), image.name, image.stem):
            names[key].append(image)
    groups: dict[Path, str] = {}
    for row in rows:
        name, group = (row["file"] or "").replace("\\", "/").strip(), (row[column] or "").strip()
        matches = names.get(name, [])
        if len(matches) > 1:
            raise DatasetError(
                f"{path}: expected {name!r} to name one image, it names {len(matches)}: "
                f"{few([str(match.relative_to(root)) for match in matches])}; "
                "write paths relative to the folder of groups.csv"
            )
        if matches and groups.setdefault(matches[0], group) != group:
            raise DatasetError(
                f"{path}: expected one group for {name!r}, found {groups[matches[0]]!r} and "
                f"{group!r}; keep one row an image"
            )
    if not groups:
        raise DatasetError(
            f"{path}: expected the names of images in the column 'file' (stem, file name or "
            f"relative path), none of its {len(rows)} rows names one of {len(images)} images"
        )
    if len(groups) < len(images):
        logger.warning(
            "%s: %d of %d images are not listed: each is split as a group of its own",
            *(path, len(images) - len(groups), len(images)),
        )
    return {image: group for image, group in groups.items() if group}


def _is_category(folder: Path) -> bool:
    return (folder / "train").is_dir() or (folder / "test").is_dir()


def _subfolders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def few(names: Sequence[str], most: int = 3) -> str:
    """The first names and the number of the rest, for a message.

    >>> few(["a", "b", "c", "d"], 2)
    'a, b and 2 more'
    """
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
