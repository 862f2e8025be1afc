from __future__ import annotations

import logging
import os
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from anomaly_u2net.data.cards import Card
from anomaly_u2net.data.index import check_trainable, index_dataset
from anomaly_u2net.errors import DatasetError, MaskError
from anomaly_u2net.recipe import SynthesisRecipe
from anomaly_u2net.types import ImageRecord

BOLT = (
    "train/good/000.png",
    "train/good/001.jpg",
    "train/cut/t0.png",
    "validation/good/002.png",
    "validation/cut/v0.png",
    "test/good/003.png",
    "test/cut/000.png",
    "test/bent/000.png",
    "ground_truth/cut/000_mask.png",
    "ground_truth/cut/t0.bmp",
    "ground_truth/cut/v0_mask.PNG",
    "ground_truth/bent/000.png",
)


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def make_mask(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(np.full((4, 4), value, dtype=np.uint8)).save(path)


def card(**fields: object) -> Card:
    facts = {"title": "t", "licence": "l", "citation": "c", "get": "g", "layout": "mvtec"}
    return Card.model_validate({"name": "own", **facts, **fields})


def rows(records: list[ImageRecord], root: Path) -> list[tuple[str, str, str, str, str | None]]:
    return [
        (
            r.path.relative_to(root).as_posix(),
            r.category,
            r.split,
            r.label,
            r.mask.relative_to(root).as_posix() if r.mask else None,
        )
        for r in records
    ]


def test_one_category_with_every_folder(tmp_path: Path) -> None:
    root = make(tmp_path / "bolt", *BOLT, "readme.txt", "test/good/Thumbs.db", "test/.x/a.png")
    assert rows(index_dataset(root), root) == [
        ("train/cut/t0.png", "bolt", "train", "cut", "ground_truth/cut/t0.bmp"),
        ("train/good/000.png", "bolt", "train", "good", None),
        ("train/good/001.jpg", "bolt", "train", "good", None),
        ("validation/cut/v0.png", "bolt", "calibration", "cut", "ground_truth/cut/v0_mask.PNG"),
        ("validation/good/002.png", "bolt", "calibration", "good", None),
        ("test/bent/000.png", "bolt", "test", "bent", "ground_truth/bent/000.png"),
        ("test/cut/000.png", "bolt", "test", "cut", "ground_truth/cut/000_mask.png"),
        ("test/good/003.png", "bolt", "test", "good", None),
    ]


def test_a_folder_of_categories_and_a_choice_of_them(tmp_path: Path) -> None:
    for name in ("nut", "bolt"):
        make(tmp_path / name, *BOLT)
    make(tmp_path, "license.txt", "docs/a.png")
    records = index_dataset(tmp_path)
    assert [r.category for r in records] == ["bolt"] * 8 + ["nut"] * 8
    assert index_dataset(tmp_path, categories=["nut", "nut"]) == records[8:]
    with pytest.raises(DatasetError, match=r"out of bolt, nut; got 'blot'; did you mean 'bolt'\?"):
        index_dataset(tmp_path, categories=["blot"])
    for wrong in ([], "nut"):
        with pytest.raises(DatasetError, match="expected a list of categories"):
            index_dataset(tmp_path, categories=wrong)


def test_the_card_names_the_category_and_the_expected_ones(tmp_path: Path) -> None:
    root = make(tmp_path / "download(1)", *BOLT)
    assert {r.category for r in index_dataset(root, card=card(category="bolt"))} == {"bolt"}
    with pytest.raises(DatasetError, match=r"card 'own' \(bolt\), found 'download\(1\)'"):
        index_dataset(root, card=card(categories={"bolt": {}}))
    with pytest.raises(DatasetError, match=r"expected the one category .*found download\(1\)"):
        index_dataset(tmp_path, card=card(category="bolt"))


def test_counts_other_than_the_cards_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = make(tmp_path / "bolt", *BOLT)
    index_dataset(root, card=card(categories={"bolt": {"train": (2, 1), "test": (1, 2)}}))
    assert not caplog.records
    index_dataset(root, card=card(categories={"bolt": {"train": (209, 0)}}))
    assert "states 209 good and 0 defective images, found 2 and 1" in caplog.text


def test_a_test_only_folder_is_enough_to_evaluate_but_not_to_train(tmp_path: Path) -> None:
    root = make(tmp_path / "bolt", *(name for name in BOLT if "train" not in name))
    records = index_dataset(root)
    assert len(records) == 5
    with pytest.raises(DatasetError, match="expected good images in training, found none"):
        check_trainable(records)


def test_check_trainable(tmp_path: Path) -> None:
    records = index_dataset(make(tmp_path / "bolt", *BOLT))
    check_trainable(records)
    without = [r for r in records if not (r.split == "train" and r.defective)]
    with pytest.raises(
        DatasetError,
        match=r"train/<defect>/ .*set data\.protocol, as kshot-10, or data\.borrow_defects.*synthesis\.share",
    ):
        check_trainable(without)
    with pytest.raises(DatasetError, match=r"or synthesis\.share to train on good images"):
        check_trainable(without, synthesis=SynthesisRecipe())
    check_trainable(without, synthesis=SynthesisRecipe(share=0.5))
    paste = SynthesisRecipe(share=0.5, generators={"paste": 1})
    check_trainable(records, synthesis=paste)
    with pytest.raises(DatasetError, match=r"needs one to begin with; add another generator"):
        check_trainable(without, synthesis=paste)
    with pytest.raises(DatasetError, match="got no records at all"):
        check_trainable([])


# --- what is wrong with a folder ----------------------------------------------------------------


def test_no_layout(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="expected a data-set folder, found nothing"):
        index_dataset(tmp_path / "no")
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match="expected a data-set folder, found a file"):
        index_dataset(tmp_path / "file")
    make(tmp_path / "set", "a.png", "b.png", "images/c.png", "z.txt")
    message = r"found a\.png, b\.png, images and 1 more; arrange .*(?s:.*)train/good/"
    with pytest.raises(DatasetError, match=message):
        index_dataset(tmp_path / "set")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="MVTec layout, found an empty folder"):
        index_dataset(tmp_path / "empty")


def test_empty_and_misplaced(tmp_path: Path) -> None:
    (tmp_path / "a" / "train").mkdir(parents=True)
    with pytest.raises(DatasetError, match="found only empty folders"):
        index_dataset(tmp_path / "a")
    (tmp_path / "a" / "train" / "good").mkdir()
    with pytest.raises(DatasetError, match=r"train/good: expected images .*found an empty folder"):
        index_dataset(tmp_path / "a")
    make(tmp_path / "a", "train/good/a.heic")
    with pytest.raises(DatasetError, match=r"expected images .*found a\.heic; fill the folder"):
        index_dataset(tmp_path / "a")
    make(tmp_path / "b", "train/1.png", "train/2.png")
    with pytest.raises(DatasetError, match=r"found 2 directly in it \(1\.png, 2\.png\); move them"):
        index_dataset(tmp_path / "b")
    make(tmp_path / "c", "train/Good/1.png")
    with pytest.raises(DatasetError, match="expected the name 'good' in lower case"):
        index_dataset(tmp_path / "c")


def test_no_good_images(tmp_path: Path) -> None:
    make(tmp_path / "bolt", "train/ok/1.png", "ground_truth/ok/1.png")
    with pytest.raises(DatasetError, match=r"found only ok; put .*into a folder named 'good'"):
        index_dataset(tmp_path / "bolt")


def test_defects_without_masks_are_counted(tmp_path: Path) -> None:
    names = [f"test/cut/{i}.png" for i in range(5)] + ["test/good/0.png"]
    root = make(tmp_path / "bolt", *names, "ground_truth/cut/3_mask.png")
    message = (
        r"category 'bolt': .* 4 have none: test/cut/0\.png, test/cut/1\.png, test/cut/2\.png and "
        r"1 more; looked for .*ground_truth/cut/<stem>_mask\.png \(or <stem>\.png\)"
    )
    with pytest.raises(MaskError, match=message):
        index_dataset(root)


def test_one_mask_for_two_images_and_two_masks_for_one(tmp_path: Path) -> None:
    root = make(
        tmp_path / "a",
        *("train/good/0.png", "train/cut/0.png", "test/cut/0.png", "ground_truth/cut/0_mask.png"),
    )
    with pytest.raises(MaskError, match="expected one image of that stem, found two"):
        index_dataset(root)
    root = make(
        tmp_path / "b",
        *("train/good/0.png", "test/cut/0.png", "ground_truth/cut/0_mask.png"),
        "ground_truth/cut/0_mask.bmp",
    )
    with pytest.raises(MaskError, match=r"expected one mask, found 0_mask\.bmp, 0_mask\.png"):
        index_dataset(root)


def test_a_stem_that_ends_in_mask_keeps_its_own_mask(tmp_path: Path) -> None:
    root = make(
        tmp_path / "a",
        *("test/good/0.png", "test/cut/x.png", "test/cut/x_mask.png"),
        *("ground_truth/cut/x_mask.png", "ground_truth/cut/x_mask_mask.png"),
    )
    masks = {r.path.name: r.mask.name for r in index_dataset(root) if r.mask}
    assert masks == {"x.png": "x_mask.png", "x_mask.png": "x_mask_mask.png"}


def test_a_good_image_may_have_a_blank_mask_only(tmp_path: Path) -> None:
    root = make(tmp_path / "bolt", "train/good/0.png")
    make_mask(root / "ground_truth/good/0_mask.png", 0)
    assert index_dataset(root)[0].mask is None
    make_mask(root / "ground_truth/good/0_mask.png", 255)
    with pytest.raises(
        MaskError, match=r"no defect in a good image, .*0_mask\.png marks 16 pixels"
    ):
        index_dataset(root)


def test_orphan_masks_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = make(tmp_path / "bolt", *BOLT, "ground_truth/cut/9_mask.png", "ground_truth/old/1.png")
    with caplog.at_level(logging.WARNING):
        index_dataset(root)
    names = "ground_truth/cut/9_mask.png, ground_truth/old/1.png"
    assert f"2 masks belong to no image: {names}" in caplog.text


# --- groups -------------------------------------------------------------------------------------


def grouped(root: Path, text: str, **fields: object) -> dict[str, str | None]:
    (root / "groups.csv").write_text(text, encoding="utf-8")
    records = index_dataset(root, card=card(**fields))
    return {r.path.relative_to(root).as_posix(): r.group for r in records if r.group}


def test_groups_by_stem_name_and_path(tmp_path: Path) -> None:
    root = make(tmp_path / "bolt", *BOLT)
    text = "\ufefffile,group,more\nt0,A,x\n001.jpg,A,\ntest/cut/000.png,B\n"
    text += "train\\good\\000,C,\nunknown,D,\nv0,,\n"
    assert grouped(root, text) == {
        "train/cut/t0.png": "A",
        "train/good/001.jpg": "A",
        "test/cut/000.png": "B",
        "train/good/000.png": "C",
    }
    assert grouped(root, "file,angle\nt0,7\n", groups={"column": "angle"}) == {
        "train/cut/t0.png": "7"
    }


def test_groups_that_cannot_be_trusted(tmp_path: Path) -> None:
    root = make(tmp_path / "bolt", *BOLT)
    with pytest.raises(DatasetError, match=r"'000' to name one image, it names 3: .*write paths"):
        grouped(root, "file,group\n000,A\n")
    message = r"columns 'file' and 'group', found file, angle, without group; .*groups: \{column:"
    with pytest.raises(DatasetError, match=message):
        grouped(root, "file,angle\nt0,7\n")
    with pytest.raises(DatasetError, match="one group for 't0', found 'A' and 'B'"):
        grouped(root, "file,group\nt0,A\nt0,B\n")
    with pytest.raises(DatasetError, match="none of its 1 rows names one of 8 images"):
        grouped(root, "file,group\nelsewhere,A\n")
    (root / "groups.csv").write_bytes(b"file,group\n\xff\xfe,A\n")
    with pytest.raises(DatasetError, match="expected a CSV file in UTF-8"):
        index_dataset(root)
    (root / "groups.csv").unlink()
    with pytest.raises(DatasetError, match="card 'own' says which images belong together"):
        index_dataset(root, card=card(groups={}))


# --- real images --------------------------------------------------------------------------------


def test_magnetic_tile() -> None:
    folder = os.environ.get("ANOMALY_U2NET_DATA")
    if not folder:
        pytest.skip("set ANOMALY_U2NET_DATA to the folder that holds magnetic_tile/")
    records = index_dataset(Path(folder) / "magnetic_tile", card="magnetic_tile")
    assert {r.category for r in records} == {"magnetic_tile"}
    assert Counter((r.split, r.label) for r in records) == {
        ("train", "good"): 571,
        ("train", "blowhole"): 76,
        ("train", "break"): 52,
        ("train", "crack"): 36,
        ("train", "fray"): 20,
        ("train", "uneven"): 59,
        ("test", "good"): 143,
        ("test", "blowhole"): 14,
        ("test", "break"): 14,
        ("test", "crack"): 8,
        ("test", "fray"): 4,
        ("test", "uneven"): 15,
    }
    splits = defaultdict(set)
    for r in records:
        splits[r.group].add(r.split)
    assert None not in splits
    assert all(len(found) == 1 for found in splits.values())
    check_trainable(records)


def test_groups_beside_the_categories_are_not_passed_over(tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture = tmp_path / name / "train" / "good" / "0.png"
        picture.parent.mkdir(parents=True)
        picture.touch()
    (tmp_path / "groups.csv").write_text("file,group\n0,1\n")
    with pytest.raises(DatasetError, match=r"expected groups.csv inside each category's folder"):
        index_dataset(tmp_path)
    assert len(index_dataset(tmp_path, groups=False)) == 2


def test_images_without_a_group_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("0.png", "1.png"):
        picture = tmp_path / "a" / "train" / "good" / name
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.touch()
    (tmp_path / "a" / "groups.csv").write_text("file,group\n0,1\n")
    assert [record.group for record in index_dataset(tmp_path / "a")] == ["1", None]
    assert "1 of 2 images are not listed: each is split as a group of its own" in caplog.text
