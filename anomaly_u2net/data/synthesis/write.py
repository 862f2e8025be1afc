"""Made defects as a data set on disk, in the MVTec layout."""

from __future__ import annotations

import csv
import logging
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from zlib import crc32

import numpy as np
from PIL import Image as Pillow

from anomaly_u2net.data.images import read_sample
from anomaly_u2net.data.index import GROUPS, few
from anomaly_u2net.data.synthesis.make import DEFAULT_PARAMETERS, make_defect
from anomaly_u2net.data.synthesis.scene import open_sources
from anomaly_u2net.errors import DatasetError, InputError
from anomaly_u2net.files import folder_aside, write_json
from anomaly_u2net.recipe import (
    DEFAULT_WEIGHTS,
    GENERATOR_NAMES,
    GeneratorParameters,
    unknown_generator,
)
from anomaly_u2net.types import GOOD, Image, ImageRecord, Mask

logger = logging.getLogger(__name__)

#: Good images that are tried for a defect before a generator is given up on.
IMAGES = 20
#: Images that are kept in memory, with their masks: of 12 megapixels each, 0.8 GB.
KEPT = 16
ABOUT = "made.json"


@dataclass(frozen=True, slots=True)
class Written:
    """One written image: what made it, its files, and the good image that it was made on."""

    category: str
    generator: str
    image: Path
    mask: Path
    source: ImageRecord


def synthesize(
    records: Sequence[ImageRecord],
    out: str | Path,
    *,
    count: int,
    generators: Sequence[str] = tuple(DEFAULT_WEIGHTS),
    textures: str | None = None,
    parameters: GeneratorParameters = DEFAULT_PARAMETERS,
    seed: int = 0,
    on_image: Callable[[int, int], None] | None = None,
) -> list[Written]:
    """Write ``count`` made defects of each generator and category to the new folder ``out``.

    records: an indexed data set; its good training images get the defects, its training defects are
    what ``paste`` pastes. parameters: what the generators keep to. The folder can be trained on by
    itself: ``train/good`` holds copies of the good images, ``train/<generator>`` made ones and
    ``ground_truth/<generator>`` their masks. ``groups.csv`` puts a made image into the group of the
    good one below it, so that no split parts them; ``made.json`` says how it was made. The folder
    appears whole or not at all; the same arguments give the same pixels. ``on_image`` is told
    (written, in all). A generator whose defects the texture hides is given up on with a warning.

    Raises ``InputError`` (unknown generators, a count below 1) and ``DatasetError`` (``out`` is not
    empty, no good training images, no real defects for ``paste``, a category in which nothing that
    can be seen was made).
    """
    out = Path(out)
    changed = parameters.model_dump(mode="json", exclude_defaults=True)
    _check(out, count, generators, textures, changed)
    kept = [record for record in records if record.split == "train"]
    own: dict[str, tuple[list[int], list[int]]] = {}
    for index, record in enumerate(kept):
        own.setdefault(record.category, ([], []))[record.defective].append(index)
    _check_images({record.category for record in records}, own, generators)

    @lru_cache(maxsize=KEPT)
    def read(index: int) -> tuple[Image, Mask]:
        sample = read_sample(kept[index])
        return sample.image, sample.mask

    sources = open_sources(read, own, textures=textures)
    written: list[Written] = []
    with folder_aside(out) as aside:
        for category, (good, _) in sorted(own.items()):
            _copy(aside / category, [kept[index] for index in good])
            begun = len(written)
            for name in generators:
                rng = np.random.default_rng([seed, crc32(f"{category}/{name}".encode())])
                make = partial(
                    make_defect,
                    weights={name: 1},
                    sources=sources[category],
                    rng=rng,
                    parameters=parameters,
                )
                made = _made(name, category, good, read=read, make=make, rng=rng)
                for number, (index, image, mask) in enumerate(islice(made, count)):
                    written.append(_save(aside, kept[index], name, number, image, mask))
                    if on_image is not None:
                        on_image(len(written), count * len(generators) * len(own))
            if len(written) == begun:
                raise DatasetError(
                    f"category {category!r}: expected defects that can be seen, got none by "
                    f"{', '.join(generators)}: the texture hides them; try other generators"
                )
            _write_groups(aside / category, written, [kept[index] for index in good])
        about = {"generators": list(generators), "parameters": changed, "textures": textures}
        said = {"made": "by data synthesize: no real defects", "count": count, "seed": seed}
        write_json(aside / ABOUT, {**said, **about})
    return [replace(one, image=out / one.image, mask=out / one.mask) for one in written]


def _made(
    name: str,
    category: str,
    good: Sequence[int],
    *,
    read: Callable[[int], tuple[Image, Mask]],
    make: Callable[[Image], tuple[Image, Mask]],
    rng: np.random.Generator,
) -> Iterator[tuple[int, Image, Mask]]:
    """(index of the good image, image, mask): all good images in turn, shuffled, over and over.

    Ends, with a warning, when none of `IMAGES` images in a row shows a defect.
    """
    failed = 0
    while True:
        for index in rng.permutation(good):
            image, mask = make(read(int(index))[0])
            failed = 0 if mask.any() else failed + 1
            if failed == IMAGES:
                logger.warning(
                    "%s: no defect by generator %r could be seen on %d good images in a row: given "
                    "up on",
                    *(category, name, IMAGES),
                )
                return
            if mask.any():
                yield int(index), image, mask


def _save(
    root: Path, record: ImageRecord, name: str, number: int, image: Image, mask: Mask
) -> Written:
    """Write an image and its mask below ``root``; the paths in the result are relative to it."""
    stem = f"{name}_{number:04d}"
    picture = Path(record.category, "train", name, f"{stem}.png")
    marks = Path(record.category, "ground_truth", name, f"{stem}_mask.png")
    for path, pixels in ((picture, image), (marks, np.where(mask, np.uint8(255), np.uint8(0)))):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(pixels).save(root / path)
    return Written(record.category, name, picture, marks, record)


def _copy(root: Path, good: Sequence[ImageRecord]) -> None:
    folder = root / "train" / GOOD
    folder.mkdir(parents=True)
    for record in good:
        shutil.copyfile(record.path, folder / record.path.name)


def _write_groups(root: Path, written: Sequence[Written], good: Sequence[ImageRecord]) -> None:
    with (root / GROUPS).open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["file", "group"])
        for record in good:
            rows.writerow([f"train/{GOOD}/{record.path.name}", _group(record)])
        for made in written:
            if made.category == root.name:
                path = made.image.relative_to(made.category)
                rows.writerow([path.as_posix(), _group(made.source)])


def _group(record: ImageRecord) -> str:
    return record.group or record.path.name


def _check(
    out: Path,
    count: int,
    generators: Sequence[str],
    textures: str | None,
    parameters: Collection[str],
) -> None:
    if count < 1:
        raise InputError(f"expected a count of 1 or more images, got {count}")
    if not generators:
        raise InputError(f"expected a generator, got none; known: {', '.join(GENERATOR_NAMES)}")
    for name in generators:
        if name not in GENERATOR_NAMES:
            raise InputError(unknown_generator(name))
        if list(generators).count(name) > 1:
            raise InputError(f"the generator {name!r} is there twice: name each once")
    if textures is not None and "perlin" not in generators:
        raise InputError(
            f"textures {textures} changes nothing without the generator perlin: add it, or leave "
            "textures out"
        )
    if unused := [name for name in parameters if name not in generators]:
        raise InputError(
            f"the parameters of {few(unused)} change nothing without that generator (named: "
            f"{', '.join(generators)}): add it, or leave its parameters out"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DatasetError(
            f"{out}: expected a new or empty folder, found other files; name another folder, or "
            "remove this one"
        )


def _check_images(
    categories: set[str], own: dict[str, tuple[list[int], list[int]]], generators: Sequence[str]
) -> None:
    for category in sorted(categories):
        good, defective = own.get(category, ([], []))
        if not good:
            raise DatasetError(
                f"category {category!r}: expected good images in train/good/ to make defects on, "
                "found none"
            )
        if "paste" in generators and not defective:
            raise DatasetError(
                f"category {category!r}: the generator paste expects defect images with masks in "
                "training, found none; leave it out, or put some into train/<defect>/"
            )
