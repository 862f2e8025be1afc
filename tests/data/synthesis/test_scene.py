from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from anomaly_u2net.data.synthesis import Scene, Sources, open_sources
from anomaly_u2net.data.synthesis.textures import FolderTextures, noise
from anomaly_u2net.errors import DatasetError
from anomaly_u2net.types import Image, Mask


def read(index: int) -> tuple[Image, Mask]:
    return np.full((8, 8, 3), index, np.uint8), np.full((8, 8), index % 2 == 1)


def test_each_category_draws_from_its_own_images() -> None:
    found = open_sources(read, {"a": ([0, 2], [1]), "b": ([4], [])}, textures="noise")
    assert list(found) == ["a", "b"]
    assert {int(found["a"].good(np.random.default_rng(s))[0, 0, 0]) for s in range(20)} == {0, 2}
    assert found["a"].real is not None
    image, mask = found["a"].real(np.random.default_rng(0))
    assert (image == 1).all()
    assert mask.all()
    assert found["b"].real is None
    assert found["b"].texture is noise


@pytest.mark.parametrize("textures", ["self", "noise", None, "folder"])
def test_sources_go_to_other_processes(textures: str | None, tmp_path: Path) -> None:
    Pillow.new("RGB", (20, 20), (90, 80, 70)).save(tmp_path / "a.png")
    name = str(tmp_path) if textures == "folder" else textures
    sources = open_sources(read, {"a": ([40, 200], [])}, textures=name)["a"]
    again = pickle.loads(pickle.dumps(sources))
    for seed in range(6):
        drawn = [s.texture((6, 7), np.random.default_rng(seed)) for s in (sources, again)]
        assert drawn[0].shape == (6, 7, 3)
        np.testing.assert_array_equal(*drawn)


def test_categories_share_a_folder_of_textures(tmp_path: Path) -> None:
    Pillow.new("RGB", (20, 20), (90, 80, 70)).save(tmp_path / "a.png")
    found = open_sources(read, {"a": ([0], []), "b": ([2], [])}, textures=str(tmp_path))
    assert isinstance(found["a"].texture, FolderTextures)
    assert found["a"].texture is found["b"].texture
    with pytest.raises(DatasetError, match="expected self, noise or a folder of images"):
        open_sources(read, {"a": ([0], [])}, textures="nosie")


def test_pixels_are_drawn_from_all_of_the_part() -> None:
    part = np.zeros((5, 7), bool)
    part[1, 2] = part[4, 6] = True
    image = np.zeros((5, 7, 3), np.uint8)
    sources = Sources(lambda rng: image, noise)
    scene = Scene(image, part, sources, np.random.default_rng(0))
    assert {scene.pixel() for _ in range(20)} == {(1, 2), (4, 6)}
