from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from anomaly_u2net.data.demo import photograph
from anomaly_u2net.data.images import image_files, read_image
from anomaly_u2net.data.synthesis import foreground_mask
from anomaly_u2net.types import Image, Mask


def picture(part: Mask, *, inside: int = 170, outside: int = 30, noise: float = 4) -> Image:
    rng = np.random.default_rng(0)
    gray = np.where(part, inside, outside) + rng.normal(0, noise, part.shape)
    return np.repeat(gray.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def disc(height: int = 200, width: int = 240, radius: int = 60) -> Mask:
    y, x = np.mgrid[:height, :width]
    return np.hypot(y - height // 2, x - width // 2) < radius


def overlap(a: Mask, b: Mask) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize(("inside", "outside"), [(170, 30), (40, 230), (120, 70)])
@pytest.mark.parametrize("noise", [0, 4, 12])
def test_a_disc_is_found_bright_or_dark(inside: int, outside: int, noise: float) -> None:
    part = disc()
    found = foreground_mask(picture(part, inside=inside, outside=outside, noise=noise))
    assert found.shape == part.shape
    assert found.dtype == bool
    assert overlap(found, part) > 0.95


def test_a_part_that_the_picture_cuts_off_and_one_across_it() -> None:
    corner = np.zeros((160, 160), bool)
    corner[60:, 70:] = True
    assert overlap(foreground_mask(picture(corner)), corner) > 0.95
    strip = np.zeros((160, 160), bool)
    strip[50:110] = True
    assert overlap(foreground_mask(picture(strip)), strip) > 0.95


def test_what_looks_like_background_inside_the_part_is_part_of_it() -> None:
    part = disc()
    ring = part & ~disc(radius=20)
    assert overlap(foreground_mask(picture(ring)), part) > 0.95


def test_a_colour_of_the_same_brightness_is_told_apart() -> None:
    part = disc(96, 96, 30)
    image = np.where(part[..., None], (150, 90, 60), (60, 110, 120)).astype(np.uint8)
    assert overlap(foreground_mask(image), part) > 0.9


@pytest.mark.parametrize("name", ["brick", "grass", "gravel"])
def test_textures_fill_the_picture(name: str) -> None:
    photo = np.repeat(photograph(name).astype(np.uint8)[..., None], 3, axis=2)
    for side in (96, 256, 512):
        for y in range(0, 512 - side + 1, 128):
            assert foreground_mask(photo[y : y + side, y : y + side]).all()


@pytest.mark.parametrize(
    "gray",
    [
        np.full((64, 64), 90),
        np.random.default_rng(0).integers(0, 256, (64, 64)),  # noise
        np.tile(np.linspace(20, 230, 64), (64, 1)),  # light from one side
        np.where(np.indices((64, 64)).sum(axis=0) < 3, 200, 30),  # a crumb
        np.where(np.indices((64, 64))[0] < 62, 200, 30),  # a rim
        np.full((1, 1), 7),
    ],
)
def test_no_part_to_be_told_from_the_rest_means_all_of_it(gray: np.ndarray) -> None:
    image = np.repeat(gray.astype(np.uint8)[..., None], 3, axis=2)
    assert foreground_mask(image).all()


def test_a_faint_part_is_left_to_the_whole_picture() -> None:
    assert foreground_mask(picture(disc(), inside=50, outside=35)).all()


@pytest.mark.skipif(
    "ANOMALY_U2NET_DATA" not in os.environ, reason="needs the data of ANOMALY_U2NET_DATA"
)
@pytest.mark.parametrize("name", ["magnetic_tile", "bsdata_pitting", "mvtec_leather_mini"])
def test_parts_that_fill_real_pictures(name: str) -> None:
    folder = Path(os.environ["ANOMALY_U2NET_DATA"]) / name / "train" / "good"
    for path in image_files(folder)[:40:4]:
        found = foreground_mask(read_image(path))
        assert found.mean() > 0.6, path.name


def test_a_small_mask_comes_back_at_the_size_of_the_picture() -> None:
    part = disc(700, 500, 150)
    found = foreground_mask(picture(part))
    assert overlap(found, part) > 0.95
    edge = cv2.morphologyEx(part.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((25, 25)))
    assert not ((found != part) & (edge == 0)).any()
