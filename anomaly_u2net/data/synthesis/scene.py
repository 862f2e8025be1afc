"""What a generator is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from anomaly_u2net.data.synthesis.textures import Pick, Texture
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
    """A good image uint8 (H, W, 3), where its part is, bool (H, W), and what may be used on it."""

    image: Image
    part: Mask
    sources: Sources
    rng: np.random.Generator

    def pixel(self) -> tuple[int, int]:
        """A random (row, column) on the part."""
        places = np.flatnonzero(self.part)
        row, column = divmod(int(places[self.rng.integers(len(places))]), self.part.shape[1])
        return row, column
