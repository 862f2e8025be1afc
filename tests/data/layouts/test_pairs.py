"""Miniatures of KSDD2, DAGM, NEU-Seg and Magnetic tile as they are published."""

from __future__ import annotations

import logging
import os
import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from anomaly_u2net.data.check import check_dataset
from anomaly_u2net.data.images import read_labels, read_mask, read_sample
from anomaly_u2net.data.index import index_dataset
from anomaly_u2net.data.protocols import split_by_protocol
from anomaly_u2net.data.splits import split_records
from anomaly_u2net.errors import DatasetError, MaskError

Rows = Callable[[Path, str], list[tuple[str, ...]]]
Miniature = Callable[[dict[str, int]], Path]

KSDD2 = {
    "train/10000.png": 9,
    "train/10000_GT.png": 0,
    "train/10301.png": 9,
    "train/10301_GT.png": 255,
    "train/10301 (copy).png": 9,  # both are in the official archive
    "train/10301_GT (copy).png": 255,
    "test/20000.png": 9,
    "test/20000_GT.png": 0,
    "test/20001.png": 9,
    "test/20001_GT.png": 255,
}


def test_ksdd2_without_its_copies(
    miniature: Miniature, rows: Rows, caplog: pytest.LogCaptureFixture
) -> None:
    root = miniature(KSDD2)
    with caplog.at_level(logging.WARNING):
        found = rows(root, "ksdd2")
    assert found == [
        ("ksdd2", "train", "defect", "train/10301.png", "train/10301_GT.png", ""),
        ("ksdd2", "train", "good", "train/10000.png", "", ""),
        ("ksdd2", "test", "defect", "test/20001.png", "test/20001_GT.png", ""),
        ("ksdd2", "test", "good", "test/20000.png", "", ""),
    ]
    assert "left out 10301 (copy), 10301_GT (copy)" in caplog.text
    records = index_dataset(root, card="ksdd2")
    assert split_by_protocol(records, "full", seed=0) == records  # N = 246
    assert len(split_by_protocol(records, "good_only", seed=0)) == 3  # N = 0
    (root / "test" / "20000_GT.png").unlink()
    with pytest.raises(MaskError, match=r"1 have none: test/20000.png; looked for .*<stem>_GT.png"):
        index_dataset(root, card="ksdd2")


def test_the_authors_list_of_masks_is_read_and_nothing_in_it_is_run(miniature: Miniature) -> None:
    files = {f"{side}/{i}.png": 9 for side in ("train", "test") for i in range(20)}
    files |= {f"{side}/{i}_GT.png": 255 * (i % 2) for side in ("train", "test") for i in range(20)}
    root = miniature(files)
    records = index_dataset(root, card="ksdd2")
    with pytest.raises(
        DatasetError, match=r"expected split_3.pyb or split_weakly_3.pyb, .*kshot-3"
    ):
        split_by_protocol(records, "listed-3", seed=0)
    given = {1, 7, 11}
    train = [(i, i in given or i % 2 == 0) for i in range(20)]  # good images count as marked
    (root / "split_3.pyb").write_bytes(pickle.dumps((train, [(i, True) for i in range(20)])))
    split = split_by_protocol(records, "listed-3", seed=0)
    assert {r.path.name for r in split if r.defective and r.split == "train"} == {
        *("1.png", "7.png", "11.png"),
    }
    assert sum(r.split == "test" for r in split) == 20
    (root / "split_weakly_4.pyb").write_bytes(pickle.dumps((train, [])))
    with pytest.raises(DatasetError, match=r"expected 4 defect images in training .*, found 3"):
        split_by_protocol(records, "listed-4", seed=0)
    runs = pickle.dumps(([(1, Makes(root / "made"))], []))
    damaged = (b"\x80", b"", b"junk", b"\x80\x05K\x01K\x02a.", b"\x80\x04\x95" + b"\xff" * 8)
    for content, why in (
        (runs, r"it would load \w+\.mkdir"),
        *((content, "") for content in (pickle.dumps([1, 2]), *damaged)),
    ):
        (root / "split_3.pyb").write_bytes(content)
        with pytest.raises(
            DatasetError, match=rf"split_3.pyb: expected two pickled lists of pairs .*{why}"
        ):
            split_by_protocol(records, "listed-3", seed=0)
    assert not (root / "made").exists()


class Makes:
    """A value whose pickle makes a folder when it is loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


def test_what_is_chosen_does_not_depend_on_the_folder_of_the_set(
    miniature: Miniature, monkeypatch: pytest.MonkeyPatch
) -> None:
    ksdd2: dict[str, int] = {}
    dagm = {"Class1/Train/100.PNG": 9, "Class1/Test/100.PNG": 9}
    for i in range(20):
        for side in ("train", "test"):
            ksdd2 |= {f"{side}/{i}.png": 9, f"{side}/{i}_GT.png": 255 * (i % 2)}
        for side in ("Train", "Test"):
            dagm |= {f"Class1/{side}/{i}.PNG": 9, f"Class1/{side}/Label/{i}_label.PNG": 255}
    for card, files, category in (("ksdd2", ksdd2, ""), ("dagm", dagm, "Class1")):
        root = miniature(files).rename(miniature({}).parent / card)

        def chosen(root: Path, card: str = card) -> list[str]:
            split = split_records(
                split_by_protocol(index_dataset(root, card=card), "kshot-4", seed=0),
                calibration_fraction=0.25,
                validation_fraction=0,
                seed=0,
            )
            return [f"{r.split} {r.path.name}" for r in split if r.split != "test"]

        first = chosen(root)
        root = root.rename(root.with_name("moved"))
        assert chosen(root) == first
        with monkeypatch.context() as patch:
            patch.chdir(root / category)
            assert chosen(Path()) == first
        root.rename(root.with_name(f"{card}_done"))


def test_an_empty_set_is_not_whole(miniature: Miniature) -> None:
    root = miniature(NEU)
    for file in (root / "images").rglob("*.jpg"):
        file.unlink()
    with pytest.raises(
        DatasetError, match=r"'neu_seg': expected images in .*, found none; arrange"
    ):
        index_dataset(root, card="neu_seg")
    report = check_dataset(root, card="neu_seg")
    assert report.findings[0] == ("missing", "neu_seg", "", "no image of this category found")
    assert [(f.kind, f.file) for f in report.findings[1:4]] == [
        ("unexpected", f"annotations/{mask}.png")
        for mask in ("test/000001", "training/000001", "training/000002")
    ]


def test_dagm_has_masks_of_defects_alone(
    miniature: Miniature, rows: Rows, caplog: pytest.LogCaptureFixture
) -> None:
    root = miniature(
        {
            "Class1/Train/0001.PNG": 9,
            "Class1/Train/0002.PNG": 9,
            "Class1/Train/Label/0002_label.PNG": 255,
            "Class1/Test/0003.PNG": 9,
            "Class1/Test/0004.PNG": 9,
            "Class1/Test/Label/0004_label.PNG": 255,
            "Class10/Train/0001.PNG": 9,
            "Class10/Train/Label/0009_label.PNG": 255,
        }
    )
    (root / "Class1" / "Train" / "Label" / "Labels.txt").write_text("1\n")
    with caplog.at_level(logging.WARNING):
        found = rows(root, "dagm")
    label = "Class1/Train/Label/0002_label.PNG"
    assert found == [
        ("Class1", "train", "defect", "Class1/Train/0002.PNG", label, ""),
        ("Class1", "train", "good", "Class1/Train/0001.PNG", "", ""),
        ("Class1", "test", "defect", "Class1/Test/0004.PNG", label.replace("Train", "Test")
         .replace("0002", "0004"), ""),
        ("Class1", "test", "good", "Class1/Test/0003.PNG", "", ""),
        ("Class10", "train", "good", "Class10/Train/0001.PNG", "", ""),
    ]  # fmt: skip
    assert "1 masks belong to no image: 0009_label" in caplog.text
    assert [row[0] for row in rows(root / "Class1", "dagm")] == ["Class1"] * 4


NEU = {
    "images/training/000001.jpg": 9,
    "images/training/000002.jpg": 9,
    "images/test/000001.jpg": 9,
    "annotations/training/000001.png": 1,
    "annotations/training/000002.png": 3,
    "annotations/test/000001.png": 2,
}


def test_neu_seg_tells_types_by_its_masks(miniature: Miniature, rows: Rows) -> None:
    root = miniature(NEU)
    assert [row[1:3] for row in rows(root, "neu_seg")] == [
        ("train", "inclusion"),
        ("train", "scratches"),
        ("test", "patches"),
    ]
    records = index_dataset(root, card="neu_seg")
    assert [int(read_sample(r).mask.sum()) for r in records] == [16, 16, 16]
    assert split_by_protocol(records, "full", seed=0) == records  # no good images at all
    mixed = np.zeros((8, 8), np.uint8)
    mixed[0], mixed[4:] = 1, 2
    path = root / "annotations" / "test" / "000001.png"
    Pillow.fromarray(mixed).save(path)
    assert [r.label for r in index_dataset(root, card="neu_seg")][-1] == "patches"
    Pillow.fromarray(mixed * 2).save(path)
    with pytest.raises(DatasetError, match=r"labels 0 background, 1 inclusion.*; got \[4\]"):
        index_dataset(root, card="neu_seg")
    path.unlink()
    with pytest.raises(MaskError, match=r"1 have none: images/test/000001.jpg"):
        index_dataset(root, card="neu_seg")


def test_magnetic_tile_as_published_is_for_folds(miniature: Miniature, rows: Rows) -> None:
    files = {f"MT_Free/Imgs/exp1_num_{i}.jpg": 9 for i in range(10)}
    files |= {f"MT_Free/Imgs/exp1_num_{i}.png": 0 for i in range(10)}
    for kind in ("Blowhole", "Crack"):
        files |= {f"MT_{kind}/Imgs/exp1_num_{kind}{i}.jpg": 9 for i in range(5)}
        files |= {f"MT_{kind}/Imgs/exp1_num_{kind}{i}.png": 255 for i in range(5)}
    root = miniature(files)
    found = rows(root, "magnetic_tile_original")
    assert Counter(row[:3] for row in found) == {
        ("magnetic_tile", "train", "good"): 10,
        ("magnetic_tile", "test", "blowhole"): 5,
        ("magnetic_tile", "test", "crack"): 5,
    }
    image = "MT_Crack/Imgs/exp1_num_Crack0.jpg"
    assert [row[4] for row in found if row[3] == image] == [image.replace(".jpg", ".png")]
    records = index_dataset(root, card="magnetic_tile_original")
    fold = split_by_protocol(records, "full-fold3of5", seed=0)
    assert Counter((r.split, r.label) for r in fold) == {
        ("train", "good"): 8,
        ("train", "blowhole"): 4,
        ("train", "crack"): 4,
        ("test", "good"): 2,
        ("test", "blowhole"): 1,
        ("test", "crack"): 1,
    }
    with pytest.raises(
        DatasetError, match="left to test after the protocol kshot-1, found 0 and 9"
    ):
        split_by_protocol(records, "kshot-1", seed=0)


# --- masks of label numbers ---------------------------------------------------------------------


def test_label_numbers_are_taken_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    Pillow.fromarray(np.array([[0, 1, 7]], np.uint8)).save(path)
    assert read_labels(path).tolist() == [[0, 1, 7]]
    assert read_mask(path, values="labels").tolist() == [[False, True, True]]
    with pytest.raises(MaskError, match="if these are label numbers"):
        read_mask(path)
    palette = Pillow.fromarray(np.array([[0, 1, 7]], np.uint8)).convert("P")
    palette.putpalette([200, 0, 0] * 256)  # its colours say nothing
    palette.save(path)
    assert read_mask(path, values="labels").tolist() == [[False, True, True]]


def test_label_numbers_in_jpeg_or_colour_are_refused(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    Pillow.fromarray(pixels).save(tmp_path / "colour.png")
    with pytest.raises(MaskError, match="label numbers in one layer, found colours"):
        read_labels(tmp_path / "colour.png")
    Pillow.fromarray(pixels[..., 0]).save(tmp_path / "gray.jpg")
    with pytest.raises(MaskError, match="label numbers in one layer, found a lossy format"):
        read_mask(tmp_path / "gray.jpg", values="labels")
