"""What an odd shape is filled with: noise, other images, or a folder of textures.

Everything is uint8 (H, W, 3) in 0..255, as images are: a source in another range (0..1, or
normalised) would make every defect black or white.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_u2net.data.images import image_files, read_image
from anomaly_u2net.errors import DatasetError
from anomaly_u2net.recipe.part import expanded
from anomaly_u2net.types import Image

#: (shape (h, w), rng) → texture uint8 (h, w, 3)
Texture = Callable[[tuple[int, int], np.random.Generator], Image]
#: rng → an image uint8 (H, W, 3)
Pick = Callable[[np.random.Generator], Image]

#: The shorter side that textures of a folder are kept at, in pixels.
SIDE = 512
#: Textures are kept in memory up to this many bytes; the rest is read each time.
CACHE_BYTES = 256 * 2**20
#: The share of a texture's shorter side that is cut out, at least and at most.
PIECE = 0.3, 1.0


class FolderTextures:
    """Pieces of the images below a folder, each read once and kept small."""

    def __init__(self, folder: str | Path, *, cache_bytes: int = CACHE_BYTES) -> None:
        folder = expanded(
            str(folder), key="synthesis.textures", instead="name a folder, or use self or noise"
        )
        if not folder.is_dir():
            found = "a file" if folder.exists() else "nothing"
            raise DatasetError(
                f"synthesis.textures {folder}: expected self, noise or a folder of images, found "
                f"{found}; check the name"
            )
        folders = [folder, *sorted(p for p in folder.rglob("*") if p.is_dir())]
        self.files = [path for inner in folders for path in image_files(inner)]
        if not self.files:
            raise DatasetError(
                f"synthesis.textures {folder}: expected images in it or below it, found none; name "
                "another folder, or use self or noise"
            )
        self._kept: dict[int, Image] = {}
        self._free = cache_bytes

    def __call__(self, shape: tuple[int, int], rng: np.random.Generator) -> Image:
        return _piece(self._read(int(rng.integers(len(self.files)))), shape, rng)

    def _read(self, index: int) -> Image:
        if index in self._kept:
            return self._kept[index]
        image = read_image(self.files[index])
        height, width = image.shape[:2]
        zoom = SIDE / min(height, width)
        if zoom < 1:
            size = round(width * zoom), round(height * zoom)
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        if image.nbytes <= self._free:
            self._free -= image.nbytes
            self._kept[index] = image
        return image


def noise(shape: tuple[int, int], rng: np.random.Generator) -> Image:
    """A procedural texture: noise of several cell sizes, stretched, between two random colours.

    >>> made = noise((32, 48), np.random.default_rng(0))
    >>> made.shape, made.dtype.name
    ((32, 48, 3), 'uint8')
    """
    height, width = shape
    field = np.zeros(shape, np.float32)
    stretch = 2.0 ** rng.uniform(-1.5, 1.5)
    falloff = rng.uniform(0.3, 1.0)
    for octave in range(2, 8):
        size = [
            max(1, min(side, round(2**octave * by)))
            for side, by in ((width, stretch), (height, 1 / stretch))
        ]
        grid = rng.standard_normal((size[1], size[0]), np.float32)
        field += falloff**octave * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    low, high = cv2.minMaxLoc(field)[:2]
    levels = ((field - low) * (255 / max(high - low, 1e-6))).astype(np.uint8)
    between = np.linspace(0, 1, 256)[:, None]
    colours = rng.uniform(0, 255, (2, 3))
    table = (colours[0] * (1 - between) + colours[1] * between).round().astype(np.uint8)
    return np.asarray(cv2.LUT(cv2.merge([levels] * 3), table[None]), np.uint8)


def own(good: Pick, shape: tuple[int, int], rng: np.random.Generator) -> Image:
    """A piece of a good image."""
    return _piece(good(rng), shape, rng)


def either(good: Pick, shape: tuple[int, int], rng: np.random.Generator) -> Image:
    """A piece of a good image, or noise, each half of the time."""
    return own(good, shape, rng) if rng.random() < 0.5 else noise(shape, rng)


def recolour(image: Image, rng: np.random.Generator) -> Image:
    """``image`` in another light: gamma, brightness, contrast, now and then inverted.

    One curve for all channels, times a tint of up to 15 % each where the image has colours.
    """
    levels = np.linspace(0, 1, 256)[:, None] ** 2.0 ** rng.uniform(-1, 1)
    levels = (levels - 0.5) * rng.uniform(0.6, 1.5) + 0.5 + rng.uniform(-0.25, 0.25)
    if rng.random() < 0.15:
        levels = 1 - levels
    tint = 1 + (not is_gray(image)) * rng.uniform(-0.15, 0.15, 3)
    table = (255 * levels * tint).round().clip(0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(image, table[None]), np.uint8)


def is_gray(image: NDArray[np.uint8]) -> bool:
    """Whether all channels of uint8 (H, W, 3) are alike."""
    first = image[..., 0]
    return bool((first == image[..., 1]).all() and (first == image[..., 2]).all())


def like(image: Image, texture: Image) -> Image:
    """``texture`` without its colours where ``image`` has none: colour would give defects away."""
    if not is_gray(image):
        return texture
    return np.asarray(cv2.cvtColor(cv2.cvtColor(texture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB))


def _piece(texture: Image, shape: tuple[int, int], rng: np.random.Generator) -> Image:
    """A random piece of ``texture``, mirrored, turned, in another light, resized to (h, w)."""
    height, width = texture.shape[:2]
    side = max(1, round(min(height, width) * rng.uniform(*PIECE)))
    top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
    cut = np.rot90(texture[top : top + side, left : left + side], int(rng.integers(4)))
    cut = np.ascontiguousarray(cut[:, :: int(rng.choice([-1, 1]))])
    return recolour(np.asarray(cv2.resize(cut, (shape[1], shape[0])), np.uint8), rng)
