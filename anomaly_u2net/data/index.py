"""From a folder to records: which file, category, split, label and mask."""

from __future__ import annotations

import csv
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from anomaly_u2net.data.cards import Card, load_card, nearest
from anomaly_u2net.data.layouts import LAYOUTS
from anomaly_u2net.data.layouts.common import Fault, refuse, stop
from anomaly_u2net.data.layouts.common import few as few
from anomaly_u2net.errors import DatasetError, MaskError
from anomaly_u2net.recipe import SynthesisRecipe
from anomaly_u2net.types import ImageRecord

logger = logging.getLogger(__name__)

GROUPS = "groups.csv"


def index_dataset(
    root: str | Path,
    *,
    card: str | Path | Card = "folder",
    categories: Sequence[str] | None = None,
    groups: bool = True,
) -> list[ImageRecord]:
    """Index a folder of categories, or one category, in the layout of the card.

    ``card`` is a card, its name or its path; the layout of most is that of MVTec AD, the others
    are in data/layouts. ``categories`` picks some of those found, None takes all. Images under
    ``validation/`` get the split ``"calibration"``. ``groups.csv`` in a
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
    places = find_places(root, card)
    if groups and (root / GROUPS).is_file() and root not in places.values():
        raise DatasetError(
            f"{root / GROUPS}: expected groups.csv inside each category's folder, found it beside "
            "them; split it by category, with paths relative to the category"
        )
    records: list[ImageRecord] = []
    for category in _chosen(sorted(places), categories, root=root):
        place = places[category]
        found = LAYOUTS[card.layout].read(place, category, root, stop)
        _check_files(found, category, place, root=root, card=card)
        for difference in count_differences(found, category, card=card):
            logger.warning(
                "category %r, %s; numbers will not compare with published ones",
                *(category, difference),
            )
        paths = [record.path for record in found]
        group_of = read_groups(place, paths, card) if groups and place.is_dir() else {}
        records += [replace(r, group=group_of.get(r.path, r.group)) for r in found]
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


def find_places(root: Path, card: Card) -> dict[str, Path]:
    """Category → where its images are found, by the layout of the card."""
    if not root.is_dir():
        found = "a file" if root.exists() else "nothing"
        raise DatasetError(f"{root}: expected a data-set folder, found {found}; check the path")
    layout = LAYOUTS[card.layout]
    places = layout.find(root, card.category)
    if not places:
        refuse(root, layout)
    if card.category and places.keys() - {card.category}:
        raise DatasetError(
            f"{root}: expected the one category of card {card.name!r} ({card.category}), found "
            f"{', '.join(sorted(places))}; name the folder of the category itself, "
            "or use the card 'folder'"
        )
    if card.categories is not None:
        for name in sorted(places.keys() - card.categories.keys()):
            raise DatasetError(
                f"{root}: expected categories of card {card.name!r} "
                f"({', '.join(card.categories)}), found {name!r}"
                f"{nearest(name, list(card.categories))}; rename it, or use the card 'folder'"
            )
    return places


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


def _check_files(
    records: list[ImageRecord], category: str, place: Path, *, root: Path, card: Card
) -> None:
    """There are images, each defect has its mask, and every file that a list names is there."""
    if not records:
        raise DatasetError(
            f"category {category!r}: expected images in {place}, found none; arrange them like "
            f"this:{LAYOUTS[card.layout].tree}"
        )
    if without := [r for r in records if r.defective and r.mask is None]:
        base = place if place.is_dir() else root
        looked = {LAYOUTS[card.layout].mask.format(place=place, label=r.label) for r in without}
        raise MaskError(
            f"category {category!r}: expected a mask for every defect image, {len(without)} have "
            f"none: {few([_below(base, r.path) for r in without])}; looked for "
            f"{few(sorted(looked))}; add the masks, or leave the images out"
        )
    if place.is_file() and (missing := missing_files(records)):
        raise DatasetError(
            f"category {category!r}: expected every file that {place} names, {len(missing)} are "
            f"missing: {few([str(path) for path in missing])}; unpack the data set again"
        )


def missing_files(records: Iterable[ImageRecord]) -> list[Path]:
    """The images and masks of ``records`` that are not there."""
    paths = [path for r in records for path in (r.path, r.mask) if path is not None]
    return [path for path in paths if not path.exists()]


def count_differences(
    records: Sequence[ImageRecord], category: str, *, card: Card
) -> Iterator[str]:
    """Where the images of a category are not as many as the card states, in words."""
    for split, stated in (card.categories or {}).get(category, {}).items():
        found = counted((record for record in records if record.split == split), like=stated)
        if found != stated:
            yield f"{split}: {count_text(stated, found, card=card)}"


def counted(records: Iterable[ImageRecord], *, like: tuple[int, ...]) -> tuple[int, ...]:
    """The number of records, as ``like``: (good, defective) or (all,)."""
    defective = Counter(record.defective for record in records)
    return (defective.total(),) if len(like) == 1 else (defective[False], defective[True])


def count_text(stated: tuple[int, ...], found: tuple[int, ...], *, card: Card) -> str:
    """What a card states and what was found, in words."""
    return (
        f"the card {card.name!r} states {images_in_words(stated)}, found "
        f"{' and '.join(map(str, found))}"
    )


def images_in_words(count: tuple[int, ...]) -> str:
    """(good, defective) or (all,) as a card states them, in words.

    >>> images_in_words((10, 2)), images_in_words((12,))
    ('10 good and 2 defective images', '12 images')
    """
    if len(count) == 1:
        return f"{count[0]} images"
    return f"{count[0]} good and {count[1]} defective images"


def _below(root: Path, path: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def read_groups(root: Path, images: list[Path], card: Card, fault: Fault = stop) -> dict[Path, str]:
    """The group of every image that ``groups.csv`` of the category lists.

    ``fault`` is told what is wrong with a row. Raises ``DatasetError`` for a file that cannot be read.
    """
    path = root / GROUPS
    if not path.is_file():
        if card.groups is None:
            return {}
        raise DatasetError(
            f"{path}: expected this file, because card {card.name!r} says which images belong "
            "together; found nothing: write it, or use the card 'folder' to split without groups"
        )
    rows = _group_rows(path, card)
    names = _image_names(root, images)
    groups: dict[Path, str] = {}
    for name, group in rows:
        matches = names.get(name, [])
        if len(matches) > 1:
            fault(
                DatasetError(
                    f"{path}: expected {name!r} to name one image, it names {len(matches)}: "
                    f"{few([str(match.relative_to(root)) for match in matches])}; "
                    "write paths relative to the folder of groups.csv"
                )
            )
        elif matches and groups.setdefault(matches[0], group) != group:
            fault(
                DatasetError(
                    f"{path}: expected one group for {name!r}, found {groups[matches[0]]!r} and "
                    f"{group!r}; keep one row an image"
                )
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


def missing_in_groups(root: Path, images: list[Path], card: Card) -> list[str]:
    """What ``groups.csv`` of a category names and is no image of it."""
    if not (root / GROUPS).is_file() or (card.groups and card.groups.left_out):
        return []
    names = _image_names(root, images)
    return [name for name, _ in _group_rows(root / GROUPS, card) if name and name not in names]


def _image_names(root: Path, images: list[Path]) -> dict[str, list[Path]]:
    """What ``groups.csv`` may call an image: its path, with or without suffix, its name, its stem."""
    names: dict[str, list[Path]] = defaultdict(list)
    for image in images:
        full = image.relative_to(root).as_posix()
        for key in {full, full.removesuffix(image.suffix), image.name, image.stem}:
            names[key].append(image)
    return names


def _group_rows(path: Path, card: Card) -> list[tuple[str, str]]:
    """(file, group) of each row."""
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
    return [
        ((row["file"] or "").replace("\\", "/").strip(), (row[column] or "").strip())
        for row in rows
    ]
