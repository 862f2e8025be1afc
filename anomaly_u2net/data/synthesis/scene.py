"""What a generator is given: a good image, and where its defects' pixels may come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from anomaly_u2net.data.synthesis.textures import (
    CACHE_BYTES,
    FolderTextures,
    Pick,
    Texture,
    either,
    noise,
    own,
)
from anomaly_u2net.recipe import GeneratorParameters
from anomaly_u2net.types import Image, Mask


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a defect's pixels may come from.

    good: gives a good image of the category. texture: gives a texture of a shape. real: gives a real
    defect with its mask, None where there is none.
    """

    good: Pick
    texture: Texture
    real: Callable[[np.random.Generator], tuple[Image, Mask]] | None = None


class Scene(NamedTuple):
    """A good image uint8 (H, W, 3), where its part is, bool (H, W), and what may be used on it.

    parameters: of the generators, the default ones where nothing is given.
    """

    image: Image
    part: Mask
    sources: Sources
    rng: np.random.Generator
    parameters: GeneratorParameters = GeneratorParameters()

    def pixel(self) -> tuple[int, int]:
        """A random (row, column) on the part."""
        places = np.flatnonzero(self.part)
        row, column = divmod(int(places[self.rng.integers(len(places))]), self.part.shape[1])
        return row, column


def open_sources(
    read: Callable[[int], tuple[Image, Mask]],
    images: Mapping[str, tuple[Sequence[int], Sequence[int]]],
    *,
    textures: str | None,
    cache_bytes: int = CACHE_BYTES,
) -> dict[str, Sources]:
    """The sources of each category, its own images; they can be pickled when ``read`` can.

    read: gives image and mask of an index. images: category → the indexes of its good images, and of
    its defect images. textures: "self", "noise", None for both by turns, or a folder, which all
    categories share. Raises ``DatasetError`` for a folder without images.
    """
    named = textures in ("self", "noise", None)
    folder = None if named else FolderTextures(str(textures), cache_bytes=cache_bytes)
    found = {}
    for category, (good, defective) in images.items():
        pick = partial(_image, read, good)
        texture: Texture
        if folder is not None:
            texture = folder
        elif textures == "noise":
            texture = noise
        else:
            texture = partial(own if textures == "self" else either, pick)
        real = partial(_picked, read, defective) if defective else None
        found[category] = Sources(pick, texture, real)
    return found


def _picked(
    read: Callable[[int], tuple[Image, Mask]], indexes: Sequence[int], rng: np.random.Generator
) -> tuple[Image, Mask]:
    return read(indexes[int(rng.integers(len(indexes)))])


def _image(
    read: Callable[[int], tuple[Image, Mask]], indexes: Sequence[int], rng: np.random.Generator
) -> Image:
    return _picked(read, indexes, rng)[0]
