"""The built-in sample: three photographs with drawn defects, in the MVTec layout.

The photographs (brick, grass, gravel; CC0, 512 x 512 gray) lie in scikit-image's own package, so
nothing is downloaded. Images are crops. Those of one split overlap, as pictures of a moving web
do; those of different splits come from different blocks of the photograph and never share a
pixel. The blocks are interleaved, so that light and perspective are alike in all splits. The
numbers that a model reaches here say that the software works, nothing about real defects.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from zlib import crc32

import numpy as np
from PIL import Image as Pillow

from anomaly_u2net.data.drawing import Gray, draw_defect
from anomaly_u2net.data.images import read_image
from anomaly_u2net.errors import DatasetError
from anomaly_u2net.files import folder_aside, write_json
from anomaly_u2net.types import GOOD

CATEGORIES = ("brick", "grass", "gravel")
#: The defects drawn into it, keys of ``drawing.DEFECTS``.
KINDS = ("scratch", "stain", "hole", "foreign_body")
#: Side of a crop in pixels.
SIDE = 96
#: Side of a block; the photograph has 4 rows of 4. T(rain), V(alidation) or E (test) owns each.
BLOCK = 128
OWNERS = ("TVTE", "ETVT", "TETV", "VTET")
#: folder → (its letter, good images, images per defect type)
PARTS = {"train": ("T", 48, 12), "validation": ("V", 40, 2), "test": ("E", 30, 4)}
_MARKER = "demo.json"
_VERSION = 2


def write_demo(out: str | Path, *, seed: int = 0) -> Path:
    """Write the sample to the folder ``out``, whole or not at all, and return it.

    570 gray PNG images of 96 x 96 pixels and 216 masks, about 5 MB, in a few seconds: per
    category 48 good and 48 defect images to train on, 40 and 8 to calibrate (``validation/``),
    30 and 16 to test. The same seed gives the same pixels. Where ``out`` already holds the
    same sample, nothing is written.

    Raises ``DatasetError`` when ``out`` holds anything else, and when the installed scikit-image
    does not carry the photographs.

    >>> import tempfile
    >>> folder = write_demo(Path(tempfile.mkdtemp()) / "demo")
    >>> sorted(path.name for path in folder.iterdir())
    ['brick', 'demo.json', 'grass', 'gravel']
    """
    out = Path(out)
    if _is_written(out, seed=seed):
        return out
    try:
        with folder_aside(out) as aside:
            for category in CATEGORIES:
                _write_category(aside / category, photograph(category), seed=seed)
            files = sum(1 for _ in aside.rglob("*.png"))
            write_json(aside / _MARKER, {"demo": _VERSION, "seed": seed, "files": files})
    except OSError:
        if not _is_written(out, seed=seed):  # another process was quicker with the same
            raise
    return out


def photograph(name: str) -> Gray:
    """One of the photographs as gray float (512, 512) in 0..255, from scikit-image's package."""
    # The file, not skimage.data.<name>(), which would download what the package does not carry.
    package = importlib.util.find_spec("skimage")
    folders = package.submodule_search_locations if package else None
    path = Path((folders or ["skimage"])[0]) / "data" / f"{name}.png"
    if not path.is_file():
        raise DatasetError(
            f"{path}: expected the photograph in the installed scikit-image, found nothing; "
            "reinstall scikit-image from its wheel"
        )
    return read_image(path)[..., 0].astype(np.float64)


def _write_category(root: Path, photo: Gray, *, seed: int) -> None:
    for part, (letter, good, each) in PARTS.items():
        rng = np.random.default_rng([seed, crc32(f"{root.name}/{part}".encode())])
        labels = [GOOD] * good + [kind for kind in KINDS for _ in range(each)]
        for number, label in enumerate(labels):
            crop = _crop(photo, letter, rng=rng)
            name = f"{part}_{number:03d}"
            if label != GOOD:
                crop, mask = draw_defect(crop, label, rng=rng)
                _save(
                    root / "ground_truth" / label / f"{name}_mask.png",
                    255 * mask.astype(np.float64),
                )
            _save(root / part / label / f"{name}.png", _expose(crop, rng=rng))


def blocks(letter: str) -> list[tuple[int, int]]:
    """The (top, left) of the blocks that a split owns, by its letter."""
    return [
        (row * BLOCK, column * BLOCK)
        for row, owners in enumerate(OWNERS)
        for column, owner in enumerate(owners)
        if owner == letter
    ]


def _crop(photo: Gray, letter: str, *, rng: np.random.Generator) -> Gray:
    """A crop (SIDE, SIDE) out of one of the split's blocks, flipped or not."""
    own = blocks(letter)
    top, left = own[rng.integers(len(own))]
    y = top + int(rng.integers(BLOCK - SIDE + 1))
    x = left + int(rng.integers(BLOCK - SIDE + 1))
    crop = photo[y : y + SIDE, x : x + SIDE]
    return crop[:, ::-1] if rng.random() < 0.5 else crop


def _expose(crop: Gray, *, rng: np.random.Generator) -> Gray:
    """The light of one picture: gain, offset, a slope across it, and noise of the sensor."""
    gain, offset = rng.uniform(0.9, 1.1), rng.uniform(-8, 8)
    slope = rng.uniform(-8, 8, 2)
    y, x = np.mgrid[: crop.shape[0], : crop.shape[1]] / SIDE - 0.5
    return crop * gain + offset + slope[0] * x + slope[1] * y + rng.normal(0, 1.5, crop.shape)


def _save(path: Path, values: Gray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    Pillow.fromarray(pixels).save(path, optimize=False)


def _is_written(out: Path, *, seed: int) -> bool:
    """True for this sample, false for nothing or an empty folder; anything else is refused."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    try:
        marker = json.loads((out / _MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        marker = None
    files = sum(1 for _ in out.rglob("*.png"))
    if marker == {"demo": _VERSION, "seed": seed, "files": files}:
        return True
    what = f"another demo ({marker}, {files} images)" if marker else "other files"
    raise DatasetError(
        f"{out}: expected an empty or new folder, or the demo with seed {seed}, found {what}; "
        "name another folder, or remove this one"
    )
