"""What the layouts share: what a layout is, and how they say that a folder is none of theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, NoReturn

from anomaly_u2net.data.images import read_mask
from anomaly_u2net.errors import DatasetError, InputError, MaskError
from anomaly_u2net.types import ImageRecord

#: What a reader does with a fault that it finds: raise it, or note it, and the reader goes on.
Fault = Callable[[InputError], None]
#: A category's records from its place (a folder, or the file that lists it), its name and the root.
Read = Callable[[Path, str, Path, Fault], list[ImageRecord]]

#: From a mask that is no record's to where its image may lie, without the extension.
ImageOf = Callable[[Path], list[Path]]


def beside(ending: str = "") -> ImageOf:
    """The image lies beside its mask, and is called like it but for the ending.

    >>> [path.as_posix() for path in beside("_GT")(Path("test/9_GT.png"))]
    ['test/9']
    """
    return lambda mask: [mask.with_name(mask.stem.removesuffix(ending))]


class Layout(NamedTuple):
    """How the files of a data set lie.

    name: what a message calls it. find: from the root, and the card's single category if it states
    one, to category → its place; empty where the layout is not there. read: a defect image without
    a mask comes with mask None. tree: drawn for messages. mask: where the mask of an image is
    looked for; {place} and {label} are filled in. holds: globs, in a category's folder, of the
    folders that hold images and masks and nothing else, at any depth. spare: globs of files that
    belong to the set and are no record's, as masks that mark nothing; where such a file needs an
    image to belong to, which. folder: from a category's place, its name and the root to the folder
    that holds its files and nothing else. gaps: from a category's records, its name and the root to
    (file, what is missing) of a list beside the one that was read; it need not be there.
    """

    name: str
    find: Callable[[Path, str | None], dict[str, Path]]
    read: Read
    tree: str
    mask: str
    holds: tuple[str, ...]
    spare: Mapping[str, ImageOf | None] = MappingProxyType({})
    folder: Callable[[Path, str, Path], Path] = lambda place, _, __: place
    gaps: Callable[[Sequence[ImageRecord], str, Path], Iterator[tuple[Path, str]]] = (
        lambda _, __, ___: iter(())
    )


def stop(fault: InputError) -> None:
    """The `Fault` that raises: nothing is trained on a set that has one."""
    raise fault


def marked_pixels(mask: Path, fault: Fault) -> int | None:
    """How many pixels a mask marks; None where it cannot be read, which ``fault`` is told."""
    try:
        return int(read_mask(mask).sum())
    except MaskError as error:
        fault(error)
        return None


def refuse(root: Path, layout: Layout) -> NoReturn:
    """Raise ``DatasetError``: ``root`` does not have ``layout``."""
    names = [path.name for path in sorted(root.iterdir())]
    raise DatasetError(
        f"{root}: expected the {layout.name} layout, found {few(names) or 'an empty folder'}; "
        f"arrange the images like this:{layout.tree}"
    )


def subfolders(folder: Path) -> list[Path]:
    """The folders in ``folder``, sorted, without hidden ones; none where it is not there."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def few(names: Sequence[str], most: int = 3) -> str:
    """The first names and the number of the rest, for a message.

    >>> few(["a", "b", "c", "d"], 2)
    'a, b and 2 more'
    """
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
