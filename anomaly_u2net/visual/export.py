"""Pictures on disk: whole files, under names that say which image they show."""

from __future__ import annotations

import csv
import hashlib
import itertools
import os
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from anomaly_u2net.errors import InputError
from anomaly_u2net.files import write_aside
from anomaly_u2net.types import Image
from anomaly_u2net.visual.checks import check_image

#: Bytes of a name without its ".png", so that common file systems (255 bytes) take it.
_LONGEST = 251
#: Which picture shows which image, in a folder of pictures.
INDEX = "index.csv"


def write_png(path: str | Path, image: Image) -> None:
    """Write an RGB image uint8 (H, W, 3) as PNG, whole or not at all.

    Raises InputError for an image of another type, a name that does not end in .png, or an image
    that the encoder refuses; OSError when the disk does.
    """
    path = Path(path)
    checked = check_image(image)
    if path.suffix.lower() != ".png":
        raise InputError(f"expected a file name that ends in .png, got {path.name!r}")
    done, encoded = cv2.imencode(".png", np.ascontiguousarray(checked[..., ::-1]))
    if not done:
        raise InputError(
            f"{path}: the PNG encoder refused an image of shape {checked.shape}; "
            "write a smaller picture"
        )
    with write_aside(path) as aside:
        aside.write_bytes(encoded.tobytes())


def overlay_names(paths: Sequence[Path]) -> list[str]:
    """A PNG name for each of N image paths, telling which image it is; equal paths, equal names.

    A stem that is the only one of its kind stays ``<stem>.png``. Images that share a stem get as
    many parent folders in front as tell them apart, ``scratch__000.png``; where no folder does, or
    the name is taken or too long, a short hash of the path behind it, ``000__1f3a9c07.png``.

    Different paths have names that differ even where upper and lower case do not. Names depend on
    the set of paths only, not on their order: name all images of a run in one call.

    >>> overlay_names([Path("test/cut/000.png"), Path("test/good/000.png"), Path("test/good/1.png")])
    ['cut__000.png', 'good__000.png', '1.png']
    """
    alike: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(set(paths)):
        if not path.name:
            raise InputError(f"expected the path of an image file, got {str(path)!r}")
        alike[_key(path.stem)].append(path)

    taken = set(alike)
    named: dict[Path, str] = {}
    for _, group in sorted(alike.items()):
        names = _plain(group) or _by_folders(group, taken) or _by_hash(group, taken)
        taken.update(map(_key, names))
        named.update(zip(group, names, strict=True))
    return [f"{named[path]}.png" for path in paths]


def claim_names(folder: str | Path, paths: Sequence[Path]) -> dict[Path, str]:
    """The PNG name of each image in an output folder that is written to again and again.

    Names given before are kept, in the folder's ``index.csv`` (name, path), so that the picture of
    one image never overwrites that of another, whichever call drew it. New images are named as
    `overlay_names` names them among all. Raises InputError for an index that cannot be read.
    """
    index = Path(folder) / INDEX
    known = _read_index(index) if index.is_file() else {}
    new = [path for path in dict.fromkeys(paths) if path not in known]
    every = [*known, *new]
    taken = {_key(Path(name).stem) for name in known.values()}
    for path, name in list(zip(every, overlay_names(every), strict=True))[len(known) :]:
        stem = Path(name).stem
        stem = stem if _key(stem) not in taken else _by_hash([path], taken)[0]
        taken.add(_key(stem))
        known[path] = f"{stem}.png"
    if new:
        with write_aside(index) as aside, aside.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["name", "path"])
            writer.writerows((name, str(path)) for path, name in known.items())
    return {path: known[path] for path in paths}


def _read_index(index: Path) -> dict[Path, str]:
    try:
        with index.open(newline="", encoding="utf-8") as file:
            return {Path(row["path"]): row["name"] for row in csv.DictReader(file)}
    except (OSError, UnicodeDecodeError, csv.Error, KeyError) as error:
        raise InputError(
            f"{index}: expected the columns name and path, cannot read it ({error}): "
            "write the pictures to another folder"
        ) from error


def _plain(group: list[Path]) -> list[str] | None:
    return [group[0].stem] if len(group) == 1 and _fits(group[0].stem) else None


def _by_folders(group: list[Path], taken: set[str]) -> list[str] | None:
    """The group's stems behind as few parent folders as tell them apart; None where none do."""
    if len(group) == 1:
        return None
    folders = [[part for part in path.parts[:-1] if _is_folder(path, part)] for path in group]
    for depth in range(1, max(map(len, folders)) + 1):
        names = [
            "__".join([*parents[-depth:], path.stem])
            for path, parents in zip(group, folders, strict=True)
        ]
        keys = set(map(_key, names))
        if len(keys) == len(group) and not keys & taken and all(map(_fits, names)):
            return names
    return None


def _by_hash(group: list[Path], taken: set[str]) -> list[str]:
    """The group's stems before a short hash of each whole path, again until every name is free."""
    names: list[str] = []
    keys: set[str] = set()
    for path in group:
        for attempt in itertools.count():
            text = f"{attempt}:{path.as_posix()}"
            digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
            name = f"{path.stem[:50]}__{digest}"
            if _key(name) not in keys | taken:
                break
        names.append(name)
        keys.add(_key(name))
    return names


def _is_folder(path: Path, part: str) -> bool:
    return part != path.anchor and part != ".."


def _fits(name: str) -> bool:
    return len(os.fsencode(name)) <= _LONGEST


def _key(name: str) -> str:
    """What file systems that ignore case, or normalise Unicode, hold to be the same name."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())
