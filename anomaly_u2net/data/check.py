"""Is a data set whole? What is missing, broken or unexpected, by count and by file.

``index_dataset`` stops at the first fault, because nothing may be trained on a set that has one.
Here every image and mask is read, and every fault is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from anomaly_u2net.data.cards import Card, load_card, nearest
from anomaly_u2net.data.images import EXTENSIONS, image_files, read_image, read_sample
from anomaly_u2net.data.index import (
    GROUPS,
    count_differences,
    count_text,
    counted,
    find_places,
    missing_files,
    missing_in_groups,
    read_groups,
)
from anomaly_u2net.data.layouts import LAYOUTS
from anomaly_u2net.errors import DatasetError, ImageError, InputError, MaskError
from anomaly_u2net.types import ImageRecord

#: What is told of a file among images that is none by its name.
UNREAD = (
    f"is not read: expected images alone in this folder ({' '.join(EXTENSIONS)}); rename one that is "
    "in such a format, convert any other, remove what is no image"
)
#: Windows hides them.
HIDDEN = ("desktop.ini", "thumbs.db")

Kind: TypeAlias = Literal["missing", "broken", "unexpected", "count"]


class Finding(NamedTuple):
    """One thing that is wrong.

    kind: missing (a category, image or mask that is not there), broken (unreadable, of another
    size, an empty mask, a layout that cannot be read), unexpected (an image file that belongs to
    nothing, a file among images that is not read, a category that the card does not state), count
    (other than the card states). category: empty for all or none. file: below the root, or empty.
    """

    kind: Kind
    category: str
    file: str
    text: str


class Total(NamedTuple):
    """Images of all categories together, (good, defective) or (all,): as the card states, and found.

    absent: the categories of the card that are not there; with one, the two do not compare.
    """

    stated: tuple[int, ...]
    found: tuple[int, ...]
    absent: tuple[str, ...]


class CheckReport(NamedTuple):
    """images: how many were read; findings: what is wrong, none for a whole data set.

    uncounted: the categories that were found and of which the card states no counts to verify against.
    total: where the card states one.
    """

    images: int
    findings: list[Finding]
    uncounted: tuple[str, ...] = ()
    total: Total | None = None


def check_dataset(
    root: str | Path,
    *,
    card: str | Path | Card = "folder",
    on_image: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Read every image and mask below ``root`` and tell all that is wrong.

    ``on_image`` is called with (images read, images in all) after each. Raises ``DatasetError``
    where the layout of the card is not there at all.

    >>> import tempfile, numpy as np
    >>> from PIL import Image as Pillow
    >>> root = Path(tempfile.mkdtemp()) / "bolt"
    >>> for name in ("train/good/0.png", "test/good/1.png", "test/cut/2.png"):
    ...     (root / name).parent.mkdir(parents=True)
    ...     Pillow.fromarray(np.zeros((8, 8), np.uint8)).save(root / name)
    >>> check_dataset(root).findings[0][:3]
    ('missing', 'bolt', 'test/cut/2.png')
    """
    root = Path(root)
    card = card if isinstance(card, Card) else load_card(card)
    places = find_places(root, card.model_copy(update={"categories": None}))
    records: list[ImageRecord] = []
    findings = [*_of_root(places, root=root, card=card)]
    for category, place in sorted(places.items()):
        if card.categories is not None and category not in card.categories:
            continue  # told as unexpected
        faults: list[InputError] = []
        found = LAYOUTS[card.layout].read(place, category, root, faults.append)
        records += found
        findings += [Finding("broken", category, "", str(fault)) for fault in faults]
        findings += _of_category(found, category, place, root=root, card=card)
    total = _total(records, places, card)
    if total and not total.absent and total.found != total.stated:
        text = count_text(total.stated, total.found, card=card)
        findings.append(Finding("count", "", "", f"all categories: {text}"))
    for number, record in enumerate(records, start=1):
        findings += _of_image(record, root)
        if on_image:
            on_image(number, len(records))
    by_file = {finding.text for finding in findings if finding.file}
    findings = [finding for finding in findings if finding.file or finding.text not in by_file]
    order = ("missing", "broken", "unexpected", "count")
    findings.sort(key=lambda f: (order.index(f.kind), f.category, f.file))
    stated = card.categories or {}
    uncounted = tuple(
        name for name in sorted({r.category for r in records}) if not stated.get(name)
    )
    return CheckReport(len(records), findings, uncounted, total)


def _total(records: list[ImageRecord], places: dict[str, Path], card: Card) -> Total | None:
    if card.total is None:
        return None
    absent = sorted((card.categories or {}).keys() - places.keys())
    return Total(card.total, counted(records, like=card.total), tuple(absent))


def _of_root(places: dict[str, Path], *, root: Path, card: Card) -> Iterator[Finding]:
    """Categories that are too few or too many, and images that lie in none."""
    folder = LAYOUTS[card.layout].folder
    homes = {folder(place, category, root) for category, place in places.items()}
    one = homes == {root}  # the root is one category, of however many
    if card.categories is not None:
        for category in sorted(set() if one else card.categories.keys() - places.keys()):
            yield Finding("missing", category, "", "the card states this category")
        for category in sorted(places.keys() - card.categories.keys()):
            hint = nearest(category, list(card.categories))
            text = f"the card {card.name!r} states no such category{hint}"
            yield Finding("unexpected", category, "", text)
    if one:
        return
    for parent in {home.parent for home in homes}:
        for path in filter(_is_image, _files_below(parent)):
            if parent / path.relative_to(parent).parts[0] not in homes:
                yield Finding("unexpected", "", _below(root, path), "belongs to no category")


def _of_category(
    records: Sequence[ImageRecord], category: str, place: Path, *, root: Path, card: Card
) -> Iterator[Finding]:
    """What is wrong with the files of a category, before any is read."""
    layout = LAYOUTS[card.layout]
    for record in records:
        if record.defective and record.mask is None:
            looked = layout.mask.format(place=_below(root, place), label=record.label)
            text = f"a defect image without a mask; looked for {looked}"
            yield Finding("missing", category, _below(root, record.path), text)
    for path in missing_files(records):
        yield Finding("missing", category, _below(root, path), f"named in {_below(root, place)}")
    for path, text in layout.gaps(records, category, root):
        yield Finding("missing", category, _below(root, path), text)
    if place.is_dir():
        yield from _of_groups([record.path for record in records], category, place, root, card)
    if not records:
        yield Finding("missing", category, "", "no image of this category found")
    known = {path for r in records for path in (r.path, r.mask) if path}
    known |= {file for path in known if path.is_dir() for file in image_files(path)}
    base = layout.folder(place, category, root)
    images = {record.path.with_suffix("") for record in records}
    for glob, image_of in layout.spare.items():
        spare = base.rglob(glob)
        known |= {p for p in spare if image_of is None or not images.isdisjoint(image_of(p))}
    for path in _strangers(base, known, layout.holds):
        text = "belongs to no image" if _is_image(path) else UNREAD
        yield Finding("unexpected", category, _below(root, path), text)
    for difference in count_differences(records, category, card=card):
        yield Finding("count", category, "", difference)


def _of_groups(
    images: list[Path], category: str, place: Path, root: Path, card: Card
) -> Iterator[Finding]:
    """What is wrong with the groups.csv of a category."""
    faults: list[InputError] = []
    missing: list[str] = []
    try:
        read_groups(place, images, card, faults.append)
        missing = missing_in_groups(place, images, card)
    except DatasetError as error:
        faults.append(error)
    file = _below(root, place / GROUPS)
    yield from (Finding("broken", category, file, str(fault)) for fault in faults)
    for name in missing:
        yield Finding("missing", category, _below(root, place / name), f"named in {file}")


def _of_image(record: ImageRecord, root: Path) -> Iterator[Finding]:
    """What reading the image and its mask brings to light."""
    path = record.path
    if not path.is_file() or (record.mask and not record.mask.exists()):
        return  # told as missing
    try:
        if record.mask:
            read_sample(record)
        else:
            read_image(path)
    except (ImageError, MaskError) as error:
        file = record.mask if isinstance(error, MaskError) and record.mask else path
        yield Finding("broken", record.category, _below(root, file), str(error))


def _strangers(base: Path, known: set[Path], holds: Sequence[str]) -> Iterator[Path]:
    """The images below ``base`` that are not known, and in the folders ``holds`` any such file."""
    folders = [path for glob in holds for path in base.glob(glob) if path.is_dir()]
    for path in _files_below(base):
        if path not in known and (_is_image(path) or any(map(path.is_relative_to, folders))):
            yield path


def _files_below(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.name.lower() not in HIDDEN
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS


def _below(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
