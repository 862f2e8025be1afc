"""Changes to a training image, its mask and its weight together, by torchvision's v2 transforms.

Randomness comes from one seed per sample, so a sample does not depend on what was drawn before it:
a resumed run sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from anomaly_u2net.recipe import AugmentRecipe
from anomaly_u2net.types import Image, Mask

Weight = NDArray[np.float32]


def augment(
    image: Image, mask: Mask, *, weight: Weight, recipe: AugmentRecipe, seed: int
) -> tuple[Image, Mask, Weight]:
    """Return a changed (image, mask, weight).

    image: uint8 (h, w, 3). mask: bool (h, w). weight: float32 (h, w). With ``recipe.crop`` the
    results are crop × crop, otherwise (h, w). Pixels from outside the image get weight 0.
    """
    rng = np.random.default_rng(seed)
    if recipe.crop is not None:
        image, mask, weight = _crop(image, mask, weight, recipe, rng)
    if recipe.quarter_turns:  # the recipe sees to it that images are square then
        turns = int(rng.integers(4))
        image, mask, weight = np.rot90(image, turns), np.rot90(mask, turns), np.rot90(weight, turns)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**62)))
        picture, truth, counted = _transforms(recipe)(
            tv_tensors.Image(torch.from_numpy(image.copy()).permute(2, 0, 1)),
            tv_tensors.Mask(torch.from_numpy(mask.astype(np.uint8))[None]),
            tv_tensors.Mask(torch.from_numpy(weight.copy())[None]),
        )
    if recipe.crop is not None:
        picture, truth, counted = (
            TF.center_crop(item, [recipe.crop, recipe.crop]) for item in (picture, truth, counted)
        )
    return picture.permute(1, 2, 0).numpy(), truth[0].bool().numpy(), counted[0].numpy()


def crop_corner(
    mask: Mask, side: int, *, rng: np.random.Generator, on_defect: bool
) -> tuple[int, int]:
    """The (top, left) of a random ``side`` × ``side`` window.

    Where the image is at least ``side`` long the window lies inside it, otherwise it is centred on
    it (a negative corner). ``on_defect``: it holds a randomly drawn defect pixel, if there is one.
    """
    pixels = np.argwhere(mask) if on_defect else np.empty((0, 2), int)
    pixel = pixels[rng.integers(len(pixels))] if len(pixels) else None
    corner = []
    for axis, length in enumerate(mask.shape):
        low, high = 0, length - side
        if high <= 0:
            corner.append(high // 2)
            continue
        if pixel is not None:
            low, high = max(low, int(pixel[axis]) - side + 1), min(high, int(pixel[axis]))
        corner.append(int(rng.integers(low, high + 1)))
    return corner[0], corner[1]


def _crop(
    image: Image, mask: Mask, weight: Weight, recipe: AugmentRecipe, rng: np.random.Generator
) -> tuple[Image, Mask, Weight]:
    """Cut a random window, with the margin that a rotation or a zoom out will need around it."""
    assert recipe.crop is not None
    # Padding lies below and to the right of the image and has no weight; crops stay off it.
    height, width = int(weight.any(axis=1).sum()), int(weight.any(axis=0).sum())
    top, left = crop_corner(
        mask[:height, :width],
        recipe.crop,
        rng=rng,
        on_defect=bool(rng.random() < recipe.crop_on_defect),
    )
    diagonal = math.sqrt(2) if recipe.rotate else 1.0
    margin = math.ceil(recipe.crop * (max(1.0, diagonal / recipe.scale[0]) - 1) / 2)
    window = (top - margin, left - margin, recipe.crop + 2 * margin)
    return (
        _window(image, *window, outside="symmetric"),
        _window(mask, *window, outside="symmetric"),
        _window(weight, *window, outside="constant"),
    )


def _window(array: NDArray[Any], top: int, left: int, side: int, *, outside: Any) -> NDArray[Any]:
    height, width = array.shape[:2]
    inside = array[max(top, 0) : top + side, max(left, 0) : left + side]
    if inside.shape[:2] == (side, side):
        return inside
    pad = [
        (max(-top, 0), max(top + side - height, 0)),
        (max(-left, 0), max(left + side - width, 0)),
    ]
    return np.pad(inside, pad + [(0, 0)] * (array.ndim - 2), mode=outside)


def _transforms(recipe: AugmentRecipe) -> v2.Transform:
    steps: list[v2.Transform] = []
    if recipe.flip:
        steps += [v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()]
    if recipe.rotate or recipe.scale != (1.0, 1.0):
        steps.append(
            v2.RandomAffine(
                degrees=recipe.rotate,
                scale=recipe.scale,
                interpolation=v2.InterpolationMode.BILINEAR,
            )
        )
    if recipe.brightness or recipe.contrast:
        steps.append(v2.ColorJitter(brightness=recipe.brightness, contrast=recipe.contrast))
    return v2.Compose(steps or [v2.Identity()])
