from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from anomaly_u2net.data.synthesis import textures
from anomaly_u2net.data.synthesis.textures import FolderTextures, either, like, noise, own, recolour
from anomaly_u2net.errors import DatasetError, RecipeError


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three textures, two of them one level down, one deep: 16 bits."""
    (tmp_path / "inner").mkdir()
    made = rng().integers(100, 156, (3, 40, 60), dtype=np.uint8)
    Pillow.fromarray(made[0]).save(tmp_path / "a.png")
    Pillow.fromarray(made[1]).save(tmp_path / "inner" / "b.png")
    Pillow.fromarray(made[2].astype(np.uint16) * 257).save(tmp_path / "inner" / "c.png")
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_a_folder_behind_a_variable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTURES", str(folder))
    assert len(FolderTextures("$TEXTURES").files) == 3
    monkeypatch.delenv("TEXTURES")
    with pytest.raises(
        RecipeError, match=r"synthesis\.textures is '\$TEXTURES', and .* self or noise"
    ):
        FolderTextures("$TEXTURES")


def test_pieces_of_a_folder_are_in_the_range_of_images(folder: Path) -> None:
    source = FolderTextures(folder)
    assert [path.name for path in source.files] == ["a.png", "b.png", "c.png"]
    pieces = [source((30, 50), rng(seed)) for seed in range(40)]
    assert all(piece.shape == (30, 50, 3) and piece.dtype == np.uint8 for piece in pieces)
    means = [piece.mean() for piece in pieces]
    assert 70 < np.median(means) < 185  # neither 0..1 taken for 0..255, nor the other way
    assert all(source._kept[index].mean() == pytest.approx(127.5, abs=2) for index in range(3))


def test_a_folder_is_read_once_and_kept_within_bounds(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    real = textures.read_image
    monkeypatch.setattr(textures, "read_image", lambda p: (reads.append(p.name), real(p))[1])
    whole = FolderTextures(folder)
    pieces = [whole((20, 20), rng(seed)) for seed in range(30)]
    assert sorted(reads) == ["a.png", "b.png", "c.png"]
    small = FolderTextures(folder, cache_bytes=40 * 60 * 3)
    for seed, piece in enumerate(pieces):  # what is kept changes nothing
        np.testing.assert_array_equal(small((20, 20), rng(seed)), piece)
    assert len(small._kept) == 1
    none = FolderTextures(folder, cache_bytes=0)
    np.testing.assert_array_equal(none((20, 20), rng(3)), pieces[3])


def test_large_textures_are_kept_small(tmp_path: Path) -> None:
    big = rng().integers(0, 256, (textures.SIDE * 2, textures.SIDE * 3, 3), dtype=np.uint8)
    Pillow.fromarray(big).save(tmp_path / "big.png")
    source = FolderTextures(tmp_path)
    source((16, 16), rng())
    assert source._kept[0].shape == (textures.SIDE, round(textures.SIDE * 1.5), 3)


def test_a_folder_named_by_a_variable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTURES", str(folder))
    assert len(FolderTextures("$TEXTURES/inner").files) == 2


def test_what_is_no_folder_of_images(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"expected self, noise or a folder .* found nothing"):
        FolderTextures("sefl")
    with pytest.raises(DatasetError, match="found a file; check the name"):
        FolderTextures(folder / "a.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="images in it or below it, found none; name another"):
        FolderTextures(tmp_path / "empty")


def test_noise_differs_and_fills_its_range() -> None:
    made = [noise((48, 64), rng(seed)) for seed in range(30)]
    assert all(piece.shape == (48, 64, 3) and piece.dtype == np.uint8 for piece in made)
    assert np.std([piece.mean() for piece in made]) > 20  # dark, bright and between
    assert np.median([piece.std(axis=(0, 1)).max() for piece in made]) > 8
    np.testing.assert_array_equal(made[4], noise((48, 64), rng(4)))


def test_own_pieces_come_from_good_images_and_either_is_both() -> None:
    calls: list[int] = []

    def good(generator: np.random.Generator) -> np.ndarray:
        calls.append(1)
        return generator.integers(0, 256, (30, 40, 3), dtype=np.uint8)

    assert own(good, (20, 22), rng()).shape == (20, 22, 3)
    calls.clear()
    for seed in range(60):
        assert either(good, (8, 8), rng(seed)).shape == (8, 8, 3)
    assert 15 < len(calls) < 45


def test_another_light_keeps_gray_gray_and_colours_coloured() -> None:
    gray = np.repeat(rng().integers(0, 256, (16, 16, 1), dtype=np.uint8), 3, axis=2)
    colour = rng().integers(0, 256, (16, 16, 3), dtype=np.uint8)
    for seed in range(20):
        lit = recolour(gray, rng(seed))
        assert (lit == lit[..., :1]).all()
    tinted = [recolour(np.full((4, 4, 3), (90, 100, 110), np.uint8), rng(s)) for s in range(20)]
    assert any((lit[..., 0] != lit[..., 1]).all() for lit in tinted)
    assert (like(gray, colour) == like(gray, colour)[..., :1]).all()
    assert like(colour, colour) is colour
