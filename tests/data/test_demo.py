from __future__ import annotations

import json
import socket
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import skimage.data

from anomaly_u2net.data import demo
from anomaly_u2net.data.drawing import DEFECTS, draw_defect
from anomaly_u2net.data.images import read_image, read_sample
from anomaly_u2net.data.index import check_trainable, index_dataset
from anomaly_u2net.data.splits import check_disjoint, record_hashes
from anomaly_u2net.errors import DatasetError
from anomaly_u2net.files import sha256_file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo.write_demo(tmp_path_factory.mktemp("demo") / "demo", seed=0)


def test_the_card_describes_it(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    records = index_dataset(folder, card="demo")
    assert not caplog.records  # the counts are the card's, no mask is left over
    assert Counter(r.split for r in records) == {"train": 288, "calibration": 144, "test": 138}
    defects = Counter(r.label for r in records if r.category == "grass" and r.defective)
    assert defects == dict.fromkeys(demo.KINDS, 18)
    check_trainable(records)
    trained = record_hashes(r for r in records if r.split != "test")
    assert len(trained) == 432  # no image twice
    check_disjoint(trained, records)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert 1e6 < size < 10e6


def test_samples_have_modest_defects(folder: Path) -> None:
    for record in index_dataset(folder, card="demo"):
        sample = read_sample(record)
        assert sample.image.shape == (96, 96, 3)
        assert (0.001 < sample.mask.mean() < 0.15) == record.defective
        assert 15 < sample.image.std() < 80


def test_crops_of_different_splits_share_no_pixel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels = {"train": 60.0, "validation": 120.0, "test": 180.0}
    owned = [corner for letter, _, _ in demo.PARTS.values() for corner in demo.blocks(letter)]
    assert len(owned) == len(set(owned)) == 16
    photo = np.zeros((512, 512))
    for part, (letter, _, _) in demo.PARTS.items():
        for top, left in demo.blocks(letter):
            photo[top : top + demo.BLOCK, left : left + demo.BLOCK] = levels[part]
    assert photo.all()
    monkeypatch.setattr(demo, "photograph", lambda name: photo)
    monkeypatch.setattr(demo, "CATEGORIES", ("brick",))
    root = demo.write_demo(tmp_path / "demo")
    for part, level in levels.items():
        files = sorted((root / "brick" / part / "good").iterdir())
        assert files
        for path in files:
            image = read_image(path).astype(float)
            # gain, offset, slope and noise together; any pixel of another block is 60 away
            assert np.abs(image / level - 1).max() < 0.1 + 25 / level
            assert image.max() - image.min() < 40


def test_the_mask_is_where_the_picture_changed() -> None:
    rng = np.random.default_rng(3)
    for kind in DEFECTS:
        for _ in range(5):
            crop = rng.normal(120, 10, (128, 128))
            before = crop.copy()
            drawn, mask = draw_defect(crop, kind, rng=rng)
            np.testing.assert_array_equal(crop, before)
            changed = np.abs(drawn - crop)
            assert changed[mask].mean() > 20
            near = mask.copy()
            for shift in ((0, 2), (0, -2), (2, 0), (-2, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)):
                near |= np.roll(mask, shift, (0, 1))
            assert changed[~near].max() == 0  # soft edges end within two pixels


def test_the_seed_decides(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "CATEGORIES", ("gravel",))  # alone as beside the others
    same = demo.write_demo(tmp_path / "same", seed=0)
    other = demo.write_demo(tmp_path / "other", seed=1)
    name = "gravel/test/scratch/test_030.png"
    assert sha256_file(same / name) == sha256_file(folder / name)
    assert sha256_file(other / name) != sha256_file(folder / name)


def test_a_second_call_writes_nothing(folder: Path) -> None:
    stamp = (folder / "demo.json").stat().st_mtime_ns
    assert demo.write_demo(folder) == folder
    assert (folder / "demo.json").stat().st_mtime_ns == stamp
    assert json.loads((folder / "demo.json").read_text())["files"] == 570 + 216


def test_nothing_of_yours_is_overwritten(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").touch()
    with pytest.raises(DatasetError, match="demo with seed 0, found other files; name another"):
        demo.write_demo(tmp_path / "mine")
    with pytest.raises(DatasetError, match=r"demo with seed 7, found another demo .*'seed': 0"):
        demo.write_demo(folder, seed=7)
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match="expected an empty or new folder"):
        demo.write_demo(tmp_path / "file")


def test_a_demo_with_pictures_lost_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "CATEGORIES", ("brick",))
    (tmp_path / "demo").mkdir()  # an empty folder is taken
    root = demo.write_demo(tmp_path / "demo")
    (root / "brick/test/good/test_000.png").unlink()
    with pytest.raises(DatasetError, match=r"another demo \(.*261 images\); name another"):
        demo.write_demo(root)


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise RuntimeError(name)

    monkeypatch.setattr(demo, "photograph", fail)
    with pytest.raises(RuntimeError, match="brick"):
        demo.write_demo(tmp_path / "demo")
    assert list(tmp_path.iterdir()) == []


def test_the_photographs_are_scikit_images_and_need_no_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    for name in demo.CATEGORIES:
        photo = demo.photograph(name)
        np.testing.assert_array_equal(photo, getattr(skimage.data, name)())
    with pytest.raises(DatasetError, match="reinstall scikit-image from its wheel"):
        demo.photograph("no_such_photograph")
