"""One made defect by weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from anomaly_u2net.data.synthesis.foreground import foreground_mask
from anomaly_u2net.data.synthesis.generators import GENERATORS
from anomaly_u2net.data.synthesis.scene import Scene, Sources
from anomaly_u2net.errors import InputError
from anomaly_u2net.recipe import GeneratorParameters, unknown_generator
from anomaly_u2net.types import Image, Mask

#: Generators that are drawn before the image is left good.
TRIES = 5
DEFAULT_PARAMETERS = GeneratorParameters()


def make_defect(
    image: Image,
    weights: Mapping[str, float],
    *,
    sources: Sources,
    rng: np.random.Generator,
    part: Mask | None = None,
    parameters: GeneratorParameters = DEFAULT_PARAMETERS,
) -> tuple[Image, Mask]:
    """(image, mask) with one made defect, by a generator drawn by ``weights`` (name → weight).

    image: uint8 (H, W, 3), good, without padding. part: bool (H, W), where defects may lie; None
    finds it (`foreground_mask`). parameters: what the generators keep to, as a recipe's
    ``synthesis`` has it. Where a defect would not be seen, another is drawn, `TRIES` times; then the
    image comes back as it is, with an empty mask. The same arguments and the same state of ``rng``
    give the same pixels. Raises ``InputError`` for an unknown name and for no weight at all.

    >>> from anomaly_u2net.data.synthesis.textures import noise
    >>> flat = np.full((64, 64, 3), 120, np.uint8)
    >>> sources = Sources(good=lambda rng: flat, texture=noise)
    >>> made, mask = make_defect(flat, {"hole": 1}, sources=sources, rng=np.random.default_rng(0))
    >>> bool(((made != flat).any(axis=2) == mask).all()), bool(mask.any())
    (True, True)
    """
    for name in weights:
        if name not in GENERATORS:
            raise InputError(unknown_generator(name))
    total = sum(weights.values())
    if not total > 0:
        raise InputError(f"expected generators with positive weights, got {dict(weights)}")
    names = list(weights)
    shares = np.array([weights[name] / total for name in names])
    where = foreground_mask(image) if part is None else part
    scene = Scene(image, where, sources, rng, parameters)
    for _ in range(TRIES if scene.part.any() else 0):
        made, mask = GENERATORS[names[rng.choice(len(names), p=shares)]](scene)
        if mask.any():
            return made, mask
    return image, np.zeros(image.shape[:2], bool)
