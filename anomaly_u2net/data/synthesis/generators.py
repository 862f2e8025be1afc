"""The generators of made defects, by name. Each turns a `Scene` into (image, mask).

image: uint8 (H, W, 3), mask: bool (H, W), true where the image visibly differs from the scene's
(see `visible.settle`), always on the part. A generator that changes nothing visible gives back the
scene's image and an empty mask. All randomness is the scene's ``rng``, all that can be set is in its
``parameters``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_u2net.data.drawing import draw_defect
from anomaly_u2net.data.paste import paste_defect
from anomaly_u2net.data.synthesis.perlin import perlin_mask
from anomaly_u2net.data.synthesis.scene import Scene
from anomaly_u2net.data.synthesis.textures import like, recolour
from anomaly_u2net.data.synthesis.visible import settle
from anomaly_u2net.recipe import DrawnRecipe, PerlinRecipe
from anomaly_u2net.types import Image, Mask

Generator = Callable[[Scene], tuple[Image, Mask]]


def perlin(scene: Scene) -> tuple[Image, Mask]:
    """Odd shapes filled with another texture (DRAEM, arXiv 2108.07610, section 3.2)."""
    shape = scene.part.shape[0], scene.part.shape[1]
    texture = like(scene.image, scene.sources.texture(shape, scene.rng))
    return _filled(scene, texture, scene.parameters.perlin)


def structure(scene: Scene) -> tuple[Image, Mask]:
    """Odd shapes filled with the image itself in another light, its tiles shuffled.

    MemSeg (arXiv 2205.00908), section 3.2: 8 × 8 tiles.
    """
    recipe = scene.parameters.structure
    height, width = scene.part.shape
    along = recipe.tiles
    down, right = (math.ceil(side / along) for side in (height, width))
    whole = cv2.copyMakeBorder(
        recolour(scene.image, scene.rng),
        *(0, along * down - height, 0, along * right - width),
        cv2.BORDER_REFLECT,
    )
    tiles = whole.reshape(along, down, along, right, 3).swapaxes(1, 2).reshape(-1, down, right, 3)
    mixed = tiles[scene.rng.permutation(len(tiles))].reshape(along, along, down, right, 3)
    shuffled = mixed.swapaxes(1, 2).reshape(whole.shape)
    return _filled(scene, np.asarray(shuffled[:height, :width], np.uint8), recipe)


def _filled(scene: Scene, filling: NDArray[np.uint8], recipe: PerlinRecipe) -> tuple[Image, Mask]:
    shape = scene.part.shape[0], scene.part.shape[1]
    opacity = float(scene.rng.uniform(*recipe.opacity))
    changed = cv2.addWeighted(filling, opacity, scene.image, 1 - opacity, 0)
    shapes = perlin_mask(shape, scene.rng, recipe=recipe)
    return settle(scene.image, np.asarray(changed, np.uint8), shapes & scene.part)


def cut_paste(scene: Scene) -> tuple[Image, Mask]:
    """A rectangle of the image at another place of it, in slightly other light (arXiv 2104.04015)."""
    rng, (height, width), recipe = scene.rng, scene.part.shape, scene.parameters.cut_paste
    area = height * width * rng.uniform(*recipe.area)
    aspect = np.exp(rng.uniform(*np.log(recipe.aspect)) * rng.choice([-1, 1]))
    return _moved(scene, (math.sqrt(area * aspect), math.sqrt(area / aspect)), turn=0)


def scar(scene: Scene) -> tuple[Image, Mask]:
    """A long thin rectangle of the image, turned, at another place (CutPaste's scar)."""
    rng, scale, recipe = scene.rng, min(scene.part.shape) / 256, scene.parameters.scar
    sides = (scale * rng.uniform(*recipe.width), scale * rng.uniform(*recipe.length))
    return _moved(scene, sides, turn=float(rng.uniform(-recipe.turn, recipe.turn)))


def _moved(scene: Scene, sides: tuple[float, float], *, turn: float) -> tuple[Image, Mask]:
    """A patch of ``sides`` (h, w) pixels from one pixel of the part, turned, centred on another."""
    rng = scene.rng
    height, width = (
        min(whole, max(2, round(s))) for s, whole in zip(sides, scene.part.shape, strict=True)
    )
    y, x = _corner(scene.pixel(), (height, width), scene.part.shape)
    jitter = 1 + rng.uniform(-0.1, 0.1, 2)
    patch = scene.image[y : y + height, x : x + width].astype(np.float32)
    mean = patch.mean()
    patch = ((patch - mean) * jitter[0] + mean * jitter[1]).round().clip(0, 255).astype(np.uint8)
    side = math.ceil(math.hypot(height, width)) if turn else 0
    across, down = max(side, width), max(side, height)
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), turn, 1)
    matrix[:, 2] += (across - width) / 2, (down - height) / 2
    turned = cv2.warpAffine(patch, matrix, (across, down), borderMode=cv2.BORDER_REFLECT)
    inside = cv2.warpAffine(np.ones((height, width), np.uint8), matrix, (across, down)) > 0
    row, column = scene.pixel()
    top, left = row - down // 2, column - across // 2
    here = _clipped(top, down, scene.part.shape[0]), _clipped(left, across, scene.part.shape[1])
    there = tuple(slice(s.start - o, s.stop - o) for s, o in zip(here, (top, left), strict=True))
    changed, region = scene.image.copy(), np.zeros_like(scene.part)
    changed[here], region[here] = turned[there], inside[there]
    return settle(scene.image, changed, region & scene.part)


def poisson(scene: Scene) -> tuple[Image, Mask]:
    """A piece of another good image, blended in without a seam (NSA, arXiv 2109.15222).

    The piece is zoomed, and pasted by its gradients (Poisson image editing, OpenCV's seamlessClone),
    so its brightness fits. It is an ellipse or a rectangle.
    """
    rng, (height, width), recipe = scene.rng, scene.part.shape, scene.parameters.poisson
    donor = like(scene.image, scene.sources.good(rng))
    sides = [
        min(max(6, round(side * rng.uniform(*recipe.side))), side - 4) for side in (height, width)
    ]
    if min(sides) < 4:
        return scene.image, np.zeros_like(scene.part)
    zoom = rng.uniform(*recipe.zoom)
    cut = [
        min(side, max(2, round(s / zoom))) for s, side in zip(sides, donor.shape[:2], strict=True)
    ]
    y, x = (int(rng.integers(whole - c + 1)) for c, whole in zip(cut, donor.shape[:2], strict=True))
    piece = cv2.resize(donor[y : y + cut[0], x : x + cut[1]], (sides[1], sides[0]))
    shape = np.zeros((sides[0], sides[1]), np.uint8)
    if rng.random() < 0.5:
        shape[1:-1, 1:-1] = 255
    else:
        middle, axes = (sides[1] // 2, sides[0] // 2), (sides[1] // 2 - 1, sides[0] // 2 - 1)
        cv2.ellipse(shape, middle, axes, 0, 0, 360, 255, -1)
    room = height - 4, width - 4  # seamlessClone looks at the pixels around what it is given
    top, left = _corner(scene.pixel(), (sides[0], sides[1]), room, first=2)
    window = slice(top - 2, top + sides[0] + 2), slice(left - 2, left + sides[1] + 2)
    ground = np.ascontiguousarray(scene.image[window])
    x, y, across, down = cv2.boundingRect(shape)  # whose middle, not the piece's, it places
    middle = 2 + x + across // 2, 2 + y + down // 2
    blended = cv2.seamlessClone(piece, ground, shape, middle, cv2.NORMAL_CLONE)
    changed, region = scene.image.copy(), np.zeros_like(scene.part)
    changed[window], region[window] = blended, (blended != ground).any(axis=2)
    return settle(scene.image, changed, region & scene.part)


def paste(scene: Scene) -> tuple[Image, Mask]:
    """A real defect, moved, mirrored, turned and zoomed, with the mask it came with.

    Its surroundings fade out beyond the mask (see `data.paste`). Empty where there is no real
    defect, where none fits on the part, or where less than half of it would be seen.
    """
    nothing = np.zeros_like(scene.part)
    if scene.sources.real is None:
        return scene.image, nothing
    donor, defect = scene.sources.real(scene.rng)
    image, mask = paste_defect(
        scene.image, nothing, donor=(like(scene.image, donor), defect),
        largest=max(scene.part.shape) // 2, part=scene.part, rng=scene.rng,
    )  # fmt: skip
    if not mask.any():
        return scene.image, nothing
    seen = settle(scene.image, image, mask)[1]
    return (image, mask) if 2 * seen.sum() >= mask.sum() else (scene.image, nothing)


def drawn(scene: Scene, *, kind: str) -> tuple[Image, Mask]:
    """One of `data.drawing`'s defects in a window on the part, more or less faint."""
    rng, (height, width) = scene.rng, scene.part.shape
    recipe: DrawnRecipe = getattr(scene.parameters, kind)
    side = min(height, width, max(32, round(min(height, width) * rng.uniform(*recipe.window))))
    top, left = _corner(scene.pixel(), (side, side), scene.part.shape)
    window = slice(top, top + side), slice(left, left + side)
    ground = scene.image[window].astype(np.float64)
    gray = ground.mean(axis=2)
    with_it, _ = draw_defect(gray, kind, rng=rng)
    step = (with_it - gray) * rng.uniform(*recipe.opacity)
    changed, region = scene.image.copy(), np.zeros_like(scene.part)
    changed[window] = (ground + step[..., None]).round().clip(0, 255).astype(np.uint8)
    region[window] = np.abs(step) >= 1
    return settle(scene.image, changed, region & scene.part)


GENERATORS: dict[str, Generator] = {
    "perlin": perlin,
    "structure": structure,
    "cut_paste": cut_paste,
    "scar": scar,
    "poisson": poisson,
    "scratch": partial(drawn, kind="scratch"),
    "stain": partial(drawn, kind="stain"),
    "hole": partial(drawn, kind="hole"),
    "crack": partial(drawn, kind="crack"),
    "paste": paste,
}


def _corner(
    middle: tuple[int, int],
    sides: tuple[int, int],
    room: tuple[int, ...],
    *,
    first: int = 0,
) -> tuple[int, int]:
    """The corner of a box of ``sides`` about ``middle``, pushed into ``room`` from ``first`` on."""
    y, x = (
        int(np.clip(at - side // 2, first, max(first, first + whole - side)))
        for at, side, whole in zip(middle, sides, room, strict=True)
    )
    return y, x


def _clipped(start: int, length: int, whole: int) -> slice:
    return slice(max(0, start), min(whole, start + length))
