"""The generators of made defects, by name. Each turns a `Scene` into (image, mask).

image: uint8 (H, W, 3), mask: bool (H, W), true where the image visibly differs from the scene's
(see `visible.settle`), always on the part. A generator that changes nothing visible gives back the
scene's image and an empty mask. All randomness is the scene's ``rng``.
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
from anomaly_u2net.types import Image, Mask

Generator = Callable[[Scene], tuple[Image, Mask]]

#: Of a filling, what share replaces the image, at least and at most.
OPACITY = 0.1, 1.0
#: MemSeg shuffles the image as so many tiles along each axis.
TILES = 8
#: CutPaste's patches: share of the image's area, and longer over shorter side.
PATCH_AREA, PATCH_ASPECT = (0.02, 0.15), (1.0, 3.3)
#: Its scars, in pixels of an image of 256: length, width; and their turn in degrees.
SCAR_LENGTH, SCAR_WIDTH, SCAR_TURN = (10, 25), (2, 16), 45
#: The sides of a Poisson-blended patch, as shares of the image's, and its zoom.
BLEND_SIDE, BLEND_ZOOM = (0.06, 0.3), (0.7, 1.3)
#: The window that a defect is drawn in, as a share of the image's shorter side, and its opacity.
WINDOW, DRAWN_OPACITY = (0.3, 0.7), (0.4, 1.0)


def perlin(scene: Scene) -> tuple[Image, Mask]:
    """Odd shapes filled with another texture (DRAEM, arXiv 2108.07610, section 3.2)."""
    shape = scene.part.shape[0], scene.part.shape[1]
    texture = like(scene.image, scene.sources.texture(shape, scene.rng))
    return _filled(scene, texture)


def structure(scene: Scene) -> tuple[Image, Mask]:
    """Odd shapes filled with the image itself in another light, its tiles shuffled.

    MemSeg (arXiv 2205.00908), section 3.2: 8 × 8 tiles.
    """
    height, width = scene.part.shape
    down, right = (math.ceil(side / TILES) for side in (height, width))
    whole = cv2.copyMakeBorder(
        recolour(scene.image, scene.rng),
        *(0, TILES * down - height, 0, TILES * right - width),
        cv2.BORDER_REFLECT,
    )
    tiles = whole.reshape(TILES, down, TILES, right, 3).swapaxes(1, 2).reshape(-1, down, right, 3)
    mixed = tiles[scene.rng.permutation(len(tiles))].reshape(TILES, TILES, down, right, 3)
    shuffled = mixed.swapaxes(1, 2).reshape(whole.shape)
    return _filled(scene, np.asarray(shuffled[:height, :width], np.uint8))


def _filled(scene: Scene, filling: NDArray[np.uint8]) -> tuple[Image, Mask]:
    shape = scene.part.shape[0], scene.part.shape[1]
    opacity = float(scene.rng.uniform(*OPACITY))
    changed = cv2.addWeighted(filling, opacity, scene.image, 1 - opacity, 0)
    return settle(
        scene.image, np.asarray(changed, np.uint8), perlin_mask(shape, scene.rng) & scene.part
    )


def cut_paste(scene: Scene) -> tuple[Image, Mask]:
    """A rectangle of the image at another place of it, in slightly other light (arXiv 2104.04015)."""
    rng, (height, width) = scene.rng, scene.part.shape
    area = height * width * rng.uniform(*PATCH_AREA)
    aspect = np.exp(rng.uniform(*np.log(PATCH_ASPECT)) * rng.choice([-1, 1]))
    return _moved(scene, (math.sqrt(area * aspect), math.sqrt(area / aspect)), turn=0)


def scar(scene: Scene) -> tuple[Image, Mask]:
    """A long thin rectangle of the image, turned, at another place (CutPaste's scar)."""
    rng, scale = scene.rng, min(scene.part.shape) / 256
    sides = (scale * rng.uniform(*SCAR_WIDTH), scale * rng.uniform(*SCAR_LENGTH))
    return _moved(scene, sides, turn=float(rng.uniform(-SCAR_TURN, SCAR_TURN)))


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
    rng, (height, width) = scene.rng, scene.part.shape
    donor = like(scene.image, scene.sources.good(rng))
    sides = [
        min(max(6, round(side * rng.uniform(*BLEND_SIDE))), side - 4) for side in (height, width)
    ]
    if min(sides) < 4:
        return scene.image, np.zeros_like(scene.part)
    zoom = rng.uniform(*BLEND_ZOOM)
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
    side = min(height, width, max(32, round(min(height, width) * rng.uniform(*WINDOW))))
    top, left = _corner(scene.pixel(), (side, side), scene.part.shape)
    window = slice(top, top + side), slice(left, left + side)
    ground = scene.image[window].astype(np.float64)
    gray = ground.mean(axis=2)
    with_it, _ = draw_defect(gray, kind, rng=rng)
    step = (with_it - gray) * rng.uniform(*DRAWN_OPACITY)
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
