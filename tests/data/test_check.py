from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from anomaly_u2net.data.cards import Card, Groups, load_card
from anomaly_u2net.data.check import CheckReport, Total, check_dataset
from anomaly_u2net.errors import DatasetError

Save = Callable[[np.ndarray, Path], None]


def told(report: CheckReport) -> list[tuple[str, str, str]]:
    return [finding[:3] for finding in report.findings]


def test_a_whole_data_set(own_data: Path) -> None:
    calls: list[tuple[int, int]] = []
    report = check_dataset(own_data, on_image=lambda n, of: calls.append((n, of)))
    assert report == CheckReport(54, [], ("plate", "sheet"))
    assert calls == [(n, 54) for n in range(1, 55)]


def test_every_fault_is_told_with_its_file(own_data: Path, write_png: Save) -> None:
    plate, sheet = own_data / "plate", own_data / "sheet"
    for number in (0, 1):
        (plate / "ground_truth" / "spot" / f"train_spot_{number}_mask.png").unlink()
    image = plate / "train" / "good" / "train_good_0.png"
    image.write_bytes(image.read_bytes()[:60])  # cut off
    masks = sheet / "ground_truth" / "spot"
    write_png(np.full((64, 32), 255, np.uint8), masks / "test_spot_0_mask.png")
    write_png(np.zeros((64, 64), np.uint8), masks / "test_spot_1_mask.png")
    (masks / "test_spot_2_mask.png").write_text("no image")
    write_png(np.zeros((8, 8), np.uint8), masks / "of_nothing_mask.png")
    write_png(np.zeros((8, 8), np.uint8), sheet / "overview.png")
    (sheet / "readme.txt").write_text("not an image: nobody's business")
    report = check_dataset(own_data)
    assert told(report) == [
        ("missing", "plate", "plate/train/spot/train_spot_0.png"),
        ("missing", "plate", "plate/train/spot/train_spot_1.png"),
        ("broken", "plate", "plate/train/good/train_good_0.png"),
        ("broken", "sheet", "sheet/ground_truth/spot/test_spot_0_mask.png"),
        ("broken", "sheet", "sheet/ground_truth/spot/test_spot_1_mask.png"),
        ("broken", "sheet", "sheet/ground_truth/spot/test_spot_2_mask.png"),
        ("unexpected", "sheet", "sheet/ground_truth/spot/of_nothing_mask.png"),
        ("unexpected", "sheet", "sheet/overview.png"),
    ]
    texts = [finding.text for finding in report.findings]
    assert "looked for plate/ground_truth/spot/<stem>_mask.png (or <stem>.png)" in texts[0]
    assert "expected the size of its image, 64 x 64" in texts[3]
    assert "expected the pixels of a defect 'spot', found none" in texts[4]
    assert "begins with b'no image'" in texts[5]


def test_images_in_no_category_are_unexpected(own_data: Path, write_png: Save) -> None:
    gray = np.zeros((8, 8), np.uint8)
    write_png(gray, own_data / "overview.png")
    write_png(gray, own_data / "rod" / "training" / "good" / "0.png")  # no train/
    assert told(check_dataset(own_data)) == [
        ("unexpected", "", "overview.png"),
        ("unexpected", "", "rod/training/good/0.png"),
    ]
    assert check_dataset(own_data / "plate").findings == []


def test_files_among_the_images_that_are_not_read(own_data: Path) -> None:
    plate = own_data / "plate"
    good, masks = plate / "train" / "good", plate / "ground_truth" / "spot"
    (good / "train_good_0.png").rename(good / "train_good_0.gif")
    (good / "train_good_1.png").rename(good / "train_good_1.JFIF")
    (masks / "test_spot_0_mask.png").rename(masks / "test_spot_0_mask.ppm")
    for name in ("test/good/a.zip", "train/notes.txt"):
        (plate / name).touch()
    for name in ("licence.txt", "groups.txt", "docs/manual.pdf", "train/good/.hidden.gif",
                 "test/good/Thumbs.db", "test/.cache/x.gif"):  # fmt: skip
        (plate / name).parent.mkdir(exist_ok=True)
        (plate / name).touch()
    report = check_dataset(own_data)
    assert report.images == 52
    assert told(report) == [
        ("missing", "plate", "plate/test/spot/test_spot_0.png"),
        ("unexpected", "plate", "plate/ground_truth/spot/test_spot_0_mask.ppm"),
        ("unexpected", "plate", "plate/test/good/a.zip"),
        ("unexpected", "plate", "plate/train/good/train_good_0.gif"),
        ("unexpected", "plate", "plate/train/good/train_good_1.JFIF"),
        ("unexpected", "plate", "plate/train/notes.txt"),
    ]
    assert report.findings[-1].text == (
        "is not read: expected images alone in this folder (.bmp .jpeg .jpg .png .tif .tiff .webp); "
        "rename one that is in such a format, convert any other, remove what is no image"
    )


#: What lies in a set, what is not read there, and what is nobody's business.
UNREAD: dict[str, tuple[list[str], list[str], list[str]]] = {
    "btad": (
        ["01/train/ok/0.png", "01/test/ok/1.png"],
        ["01/ground_truth/ko/2.gif", "01/test/ok/3.gif"],
        ["readme.txt", "01/readme.txt"],
    ),
    "mvtec_ad2": (
        ["can/train/good/0.png", "can/test_public/good/1_regular.png"],
        ["can/test_public/ground_truth/bad/2_regular_mask.gif", "can/validation/good/0.gif"],
        ["can/license.txt", "can/test_private/7.npy"],
    ),
    "dagm": (
        ["Class1/Train/1.PNG", "Class1/Test/1.PNG"],
        ["Class1/Test/2.gif", "Class1/Train/Label/1_label.gif"],
        ["Class1/Train/Label/Labels.txt", "Class1/Test/Label/Labels.txt", "readme.txt"],
    ),
    "ksdd2": (
        ["train/8.png", "train/8_GT.png", "test/9.png", "test/9_GT.png"],
        ["test/7.gif", "train/7_GT.gif"],
        ["split_16.pyb"],
    ),
    "neu_seg": (
        ["images/training/1.jpg", "annotations/training/1.png"],
        ["annotations/test/1.gif", "images/test/1.gif"],
        ["README.md"],
    ),
    "magnetic_tile_original": (
        ["MT_Free/Imgs/1.jpg", "MT_Free/Imgs/1.png"],
        ["MT_Free/Imgs/2.gif"],
        ["README.md"],
    ),
}


@pytest.mark.parametrize("card", UNREAD)
def test_in_every_layout_a_file_among_images_is_told(
    tmp_path: Path, write_png: Save, card: str
) -> None:
    files, unread, others = UNREAD[card]
    for file in files:
        write_png(np.zeros((8, 8), np.uint8), tmp_path / file)
    for file in unread + others:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    found = [f for f in check_dataset(tmp_path, card=card).findings if f.kind == "unexpected"]
    assert [finding.file for finding in found] == unread
    assert all("is not read" in finding.text for finding in found)


def test_the_card_says_what_should_be_there(own_data: Path) -> None:
    card = Card.model_validate(
        {
            **{"name": "own", "title": "t", "licence": "l", "citation": "c", "get": "g"},
            "layout": "mvtec",
            "categories": {
                "plate": {"train": [10, 6], "test": [3, 4]},
                "sheet": {},
                "rod": {"train": [1, 0]},
            },
        }
    )
    report = check_dataset(own_data, card=card)
    assert told(report) == [("missing", "rod", ""), ("count", "plate", "")]
    assert report.uncounted == ("sheet",)
    assert report.findings[1].text == (
        "test: the card 'own' states 3 good and 4 defective images, found 3 and 3"
    )
    # One that the card does not state is told too, and the others are read all the same.
    assert card.categories
    one = card.model_copy(update={"categories": {"plate": card.categories["plate"]}})
    report = check_dataset(own_data, card=one)
    assert told(report) == [("unexpected", "sheet", ""), ("count", "plate", "")]
    assert report.findings[0].text == "the card 'own' states no such category"
    assert report.images == 27
    # The folder of one category says nothing about the others.
    alone = check_dataset(own_data / "plate", card=card)
    assert told(alone) == [("count", "plate", "")]


def test_the_total_of_a_card_is_verified_where_all_categories_are_here(own_data: Path) -> None:
    card = load_card("folder").model_copy(
        update={"categories": {"plate": {}, "sheet": {}}, "total": (34, 20)}
    )
    report = check_dataset(own_data, card=card)
    assert report == CheckReport(54, [], ("plate", "sheet"), Total((34, 20), (34, 20), ()))
    one = check_dataset(own_data, card=card.model_copy(update={"total": (54,)}))
    assert one.total == Total((54,), (54,), ())
    # An image and its mask that are gone leave this trace alone.
    spot = own_data / "sheet" / "test" / "spot"
    (spot / "test_spot_0.png").unlink()
    (own_data / "sheet" / "ground_truth" / "spot" / "test_spot_0_mask.png").unlink()
    report = check_dataset(own_data, card=card)
    assert told(report) == [("count", "", "")]
    assert report.findings[0].text == (
        "all categories: the card 'folder' states 34 good and 20 defective images, found 34 and 19"
    )
    shutil.rmtree(own_data / "plate")
    for root in (own_data, own_data / "sheet"):
        report = check_dataset(root, card=card)
        assert report.total == Total((34, 20), (17, 9), ("plate",))
        assert not [finding for finding in report.findings if finding.kind == "count"]


def test_a_type_that_is_gone_is_told_by_count_and_by_file(tmp_path: Path, write_png: Save) -> None:
    root = tmp_path / "tiles"
    names = [f"{split}/{label}/exp{i}_{split}_{label}" for split in ("train", "test")
             for label in ("good", "crack", "fray") for i in range(2)]  # fmt: skip
    for name in names:
        write_png(np.full((8, 8), 9, np.uint8), root / f"{name}.png")
        if "good" not in name:
            _, label, stem = name.split("/")
            mask = root / "ground_truth" / label / f"{stem}_mask.png"
            write_png(np.full((8, 8), 255, np.uint8), mask)
    rows = [f"{Path(name).name},{i}" for i, name in enumerate(names)]
    (root / "groups.csv").write_text("\n".join(["file,group", *rows]))
    card = load_card("magnetic_tile").model_copy(
        update={"categories": {"magnetic_tile": {"train": (2, 4), "test": (2, 4)}}}
    )
    assert check_dataset(root, card=card) == CheckReport(12, [])
    for place in ("train", "test", "ground_truth"):
        shutil.rmtree(root / place / "fray")
    report = check_dataset(root, card=card)
    assert told(report) == [
        ("missing", "magnetic_tile", "exp0_test_fray"),
        ("missing", "magnetic_tile", "exp0_train_fray"),
        ("missing", "magnetic_tile", "exp1_test_fray"),
        ("missing", "magnetic_tile", "exp1_train_fray"),
        ("count", "magnetic_tile", ""),
        ("count", "magnetic_tile", ""),
    ]
    assert report.findings[0].text == "named in groups.csv"
    assert report.findings[-1].text.endswith("states 2 good and 4 defective images, found 2 and 2")
    # Where groups.csv lists images that the set leaves out, its names prove nothing.
    more = card.model_copy(update={"groups": Groups(left_out=True)})
    assert [kind for kind, *_ in told(check_dataset(root, card=more))] == ["count", "count"]


def test_counts_without_good_and_defective(own_data: Path) -> None:
    card = load_card("folder").model_copy(
        update={"categories": {"plate": {"train": (16,), "test": (7,)}, "sheet": {}}}
    )
    report = check_dataset(own_data, card=card)
    assert [f.text for f in report.findings] == ["test: the card 'folder' states 7 images, found 6"]
    assert report.uncounted == ("sheet",)


def test_a_fault_of_the_layout_hides_no_other(own_data: Path, write_png: Save) -> None:
    plate, gray = own_data / "plate", np.zeros((64, 64), np.uint8)
    good = plate / "train" / "good"
    for number in range(4):
        (good / f"train_good_{number}.png").write_bytes(b"")
    write_png(gray, plate / "train" / "loose.png")
    (plate / "test" / "empty").mkdir()
    write_png(gray + 255, plate / "ground_truth" / "good" / "train_good_5_mask.png")
    (plate / "ground_truth" / "good" / "train_good_6_mask.png").write_bytes(b"")
    masks = plate / "ground_truth" / "spot"
    write_png(
        np.asarray(Pillow.open(masks / "test_spot_0_mask.png")), masks / "test_spot_0_mask.bmp"
    )
    (own_data / "sheet" / "groups.csv").write_text("name\n")
    report = check_dataset(own_data)
    assert report.images == 54
    assert told(report) == [
        *[("broken", "plate", "")] * 5,
        *[("broken", "plate", f"plate/train/good/train_good_{i}.png") for i in range(4)],
        ("broken", "sheet", "sheet/groups.csv"),
        ("unexpected", "plate", "plate/ground_truth/spot/test_spot_0_mask.png"),  # the second one
        ("unexpected", "plate", "plate/train/loose.png"),
    ]
    texts = "\n".join(finding.text for finding in report.findings[:5])
    for text in ("found 1 directly in it (loose.png)", "fill the folder or remove it",
                 "train_good_5_mask.png marks 4096 pixels", "train_good_6_mask.png",
                 "expected one mask, found test_spot_0_mask.bmp, test_spot_0_mask.png"):  # fmt: skip
        assert text in texts


def test_every_row_of_groups_that_is_wrong_is_told(own_data: Path) -> None:
    rows = ["train_good_0,A", "train_good_0,B", "gone,A", "train_good_1,A", "train_good_1,C"]
    (own_data / "plate" / "groups.csv").write_text("\n".join(["file,group", *rows]))
    report = check_dataset(own_data)
    assert told(report) == [
        ("missing", "plate", "plate/gone"),
        ("broken", "plate", "plate/groups.csv"),
        ("broken", "plate", "plate/groups.csv"),
    ]
    assert report.findings[0].text == "named in plate/groups.csv"


def test_a_fault_of_a_list_hides_no_other(tmp_path: Path, write_png: Save) -> None:
    folder = tmp_path / "realiad_256" / "mint" / "OK" / "S1"
    write_png(np.zeros((8, 8), np.uint8), folder / "1.png")
    (folder / "2.png").write_bytes(b"")
    items = [{"anomaly_class": "OK", "image_path": f"OK/S1/{i}.png"} for i in (1, 2)]
    lists = {"train": [{}, items[0], {**items[0], "image_path": "../x.png"}], "test": [items[1]]}
    (tmp_path / "realiad_jsons").mkdir()
    (tmp_path / "realiad_jsons" / "mint.json").write_text(json.dumps(lists))
    report = check_dataset(tmp_path, card="real_iad")
    assert report.images == 2
    own = [found for found in told(report) if found[1] == "mint"]
    assert own == [
        *[("broken", "mint", "")] * 2,
        ("broken", "mint", "realiad_256/mint/OK/S1/2.png"),
    ]


def test_a_fault_of_one_mask_is_told_once(tmp_path: Path, write_png: Save) -> None:
    for i in range(3):
        write_png(np.full((8, 8), 9, np.uint8), tmp_path / f"images/training/{i}.png")
        write_png(np.full((8, 8), i, np.uint8), tmp_path / f"annotations/training/{i}.png")
    (tmp_path / "annotations" / "training" / "1.png").write_bytes(b"")
    write_png(np.full((8, 8), 7, np.uint8), tmp_path / "annotations" / "training" / "2.png")
    broken = [f for f in check_dataset(tmp_path, card="neu_seg").findings if f.kind == "broken"]
    assert [finding.file for finding in broken] == ["", "annotations/training/1.png"]
    assert "got [7]" in broken[0].text


def test_what_a_list_names_and_is_not_there(tmp_path: Path, write_png: Save) -> None:
    gray = np.full((8, 8), 9, np.uint8)
    for name in ("Normal/0.JPG", "Normal/1.JPG", "Normal/extra.JPG", "Anomaly/0.JPG"):
        write_png(gray, tmp_path / "candle" / "Data" / "Images" / name)
    write_png(gray, tmp_path / "candle" / "Data" / "Masks" / "Anomaly" / "0.png")
    data = "candle/Data"
    write_png(gray, tmp_path / data / "Masks" / "Anomaly" / "1.png")
    write_png(gray, tmp_path / "candel" / "Data" / "Images" / "Normal" / "0.JPG")
    (tmp_path / "split_csv").mkdir()
    (tmp_path / "split_csv" / "1cls.csv").write_text(
        "object,split,label,image,mask\n"
        f"candle,train,normal,{data}/Images/Normal/0.JPG,\n"
        f"candle,train,normal,{data}/Images/Normal/2.JPG,\n"
        f"candle,test,normal,{data}/Images/Normal/1.JPG,\n"
        f"candle,test,anomaly,{data}/Images/Anomaly/0.JPG,{data}/Masks/Anomaly/0.png\n"
    )
    (tmp_path / data / "Masks" / "Anomaly" / "1.gif").touch()
    (tmp_path / "candle" / "readme.txt").touch()
    report = check_dataset(tmp_path, card="visa")
    own = [found for found in told(report) if found[1] == "candle" and found[0] != "count"]
    assert own == [
        ("missing", "candle", "candle/Data/Images/Normal/2.JPG"),
        ("unexpected", "candle", "candle/Data/Images/Normal/extra.JPG"),
        ("unexpected", "candle", "candle/Data/Masks/Anomaly/1.gif"),
        ("unexpected", "candle", "candle/Data/Masks/Anomaly/1.png"),
    ]
    assert ("unexpected", "", "candel/Data/Images/Normal/0.JPG") in told(report)
    assert sum(found[0] == "missing" for found in told(report)) == 1 + 11  # other categories


def test_what_the_list_of_types_names_and_leaves_out(tmp_path: Path, write_png: Save) -> None:
    images, rows = "candle/Data/Images", ["object,split,label,image,mask"]
    for name, split in (("Normal/0", "train"), ("Normal/1", "test"), ("Anomaly/0", "test"),
                        ("Anomaly/1", "test"), ("Anomaly/2", "test")):  # fmt: skip
        write_png(np.full((8, 8), 9, np.uint8), tmp_path / images / f"{name}.JPG")
        mask = f"candle/Data/Masks/{name}.png" if "Anomaly" in name else ""
        if mask:
            write_png(np.full((8, 8), 1, np.uint8), tmp_path / mask)
        label = "anomaly" if mask else "normal"
        rows.append(f"candle,{split},{label},{images}/{name}.JPG,{mask}")
    (tmp_path / "split_csv").mkdir()
    (tmp_path / "split_csv" / "1cls.csv").write_text("\n".join(rows))
    types = tmp_path / "candle" / "image_anno.csv"
    card = load_card("visa").model_copy(update={"categories": {"candle": {}}})

    def found(*rows: str) -> list[tuple[str, str, str]]:
        types.write_text("\n".join(["image,label,mask", *(f"{images}/{row}," for row in rows)]))
        report = check_dataset(tmp_path, card=card)
        assert report.images == 5
        return [(finding.kind, finding.file, finding.text) for finding in report.findings]

    normal = ("Normal/0.JPG,normal", "Normal/1.JPG,normal")
    assert found(*normal, *(f"Anomaly/{i}.JPG,bent" for i in range(3))) == []
    gone = f"{images}/Anomaly/7.JPG"
    assert found(normal[0], "Anomaly/0.JPG,bent", "Anomaly/1.JPG,melt", "Anomaly/7.JPG,melt") == [
        ("missing", f"{images}/Anomaly/2.JPG", "without a row in candle/image_anno.csv"),
        ("missing", gone, "named in candle/image_anno.csv"),
        ("missing", f"{images}/Normal/1.JPG", "without a row in candle/image_anno.csv"),
    ]
    wrong = found(
        "Normal/0.JPG,bent", "Normal/1.JPG,normal", "Anomaly/0.JPG,normal", "Anomaly/1.JPG,",
        "Anomaly/2.JPG,bent", "Anomaly/2.JPG,melt",
    )  # fmt: skip
    assert [kind for kind, *_ in wrong] == ["broken"] * 4
    texts = "\n".join(text for *_, text in wrong)
    for text in ("expected the label normal, or defect types with commas between them, for "
                 f"{images}/Anomaly/1.JPG, found ''; download the list again",
                 f"expected one label for {images}/Anomaly/2.JPG, found 'bent' and 'melt'",
                 "Normal/0.JPG, as split_csv/1cls.csv has it, found 'bent'",
                 "Anomaly/0.JPG, as split_csv/1cls.csv has it, found 'normal'"):  # fmt: skip
        assert text in texts
    types.write_text("file,label\n")
    report = check_dataset(tmp_path, card=card)
    assert told(report) == [("broken", "candle", "")]
    assert "image_anno.csv: expected the columns image, label; no ['image']" in str(report.findings)


def test_masks_that_mark_nothing_are_no_strangers(tmp_path: Path, write_png: Save) -> None:
    for split, number in (("train", 10000), ("test", 20000)):
        for i, value in enumerate((0, 255)):
            write_png(np.full((8, 8), 9, np.uint8), tmp_path / split / f"{number + i}.png")
            write_png(np.full((8, 8), value, np.uint8), tmp_path / split / f"{number + i}_GT.png")
    report = check_dataset(tmp_path, card="ksdd2")
    assert [finding.kind for finding in report.findings] == ["count", "count"]


#: What is there, what goes, and which masks that mark nothing then belong to no image.
BLANK_MASKS: dict[str, tuple[str, list[str], str, list[str]]] = {
    "mvtec": (
        "folder",
        ["train/good/0.png", "test/good/1.png", "ground_truth/good/0_mask.png",
         "ground_truth/good/1.png"],
        "test/good/1.png",
        ["ground_truth/good/1.png"],
    ),
    "btad": (
        "btad",
        ["01/train/ok/0.png", "01/train/ok/1.png", "01/ground_truth/ok/0.png",
         "01/ground_truth/ok/1.png"],
        "01/train/ok/1.png",
        ["01/ground_truth/ok/1.png"],
    ),
    "mvtec_ad2": (
        "mvtec_ad2",
        ["can/train/good/0.png", "can/test_public/good/1_regular.png", "can/test_private/7.png",
         "can/test_public/ground_truth/good/0_mask.png",
         "can/test_public/ground_truth/good/1_regular_mask.png"],
        "can/test_public/good/1_regular.png",
        ["can/test_public/ground_truth/good/1_regular_mask.png"],
    ),
    "ksdd2": (
        "ksdd2",
        ["train/8.png", "train/8_GT.png", "train/8 (copy).png", "train/8_GT (copy).png",
         "test/8.png", "test/8_GT.png", "test/9.png", "test/9_GT.png"],
        "test/9.png",
        ["test/9_GT.png"],
    ),
    "neu_seg": (
        "neu_seg",
        ["images/training/1.jpg", "images/test/1.jpg", "annotations/training/1.png",
         "annotations/test/1.png"],
        "images/test/1.jpg",
        ["annotations/test/1.png"],
    ),
    "magnetic_tile": (
        "magnetic_tile_original",
        ["MT_Free/Imgs/1.jpg", "MT_Free/Imgs/1.png", "MT_Free/Imgs/2.jpg", "MT_Free/Imgs/2.png"],
        "MT_Free/Imgs/2.jpg",
        ["MT_Free/Imgs/2.png"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("layout", BLANK_MASKS)
def test_a_mask_that_marks_nothing_needs_its_image(
    tmp_path: Path, write_png: Save, layout: str
) -> None:
    card, files, gone, left = BLANK_MASKS[layout]
    root = tmp_path / "part"
    for file in files:
        write_png(np.zeros((8, 8), np.uint8), root / file)

    def strangers() -> list[str]:
        report = check_dataset(root, card=card)
        return [finding.file for finding in report.findings if finding.kind == "unexpected"]

    assert strangers() == []
    (root / gone).unlink()
    assert strangers() == left


def test_files_of_real_iad_that_no_list_names(tmp_path: Path, write_png: Save) -> None:
    images = tmp_path / "realiad_256"
    for name in (
        *("mint/NG/S1/1.png", "mint/NG/S1/1_mask.png", "mint/NG/S1/9_mask.png"),
        *("mint/OK/S2/2.png", "mints/OK/S1/1.png"),
    ):
        write_png(np.zeros((8, 8), np.uint8), images / name)
    (images / "mint" / "OK" / "S2" / "3.gif").touch()
    lists = {"train": [{"anomaly_class": "OK", "image_path": "NG/S1/1.png"}], "test": []}
    (tmp_path / "realiad_jsons").mkdir()
    (tmp_path / "realiad_jsons" / "mint.json").write_text(json.dumps(lists))
    for root in (tmp_path, images):
        below = "realiad_256/" if root == tmp_path else ""
        found = told(check_dataset(root, card="real_iad"))
        assert [found for found in found if found[0] == "unexpected"] == [
            ("unexpected", "", f"{below}mints/OK/S1/1.png"),
            ("unexpected", "mint", f"{below}mint/NG/S1/9_mask.png"),
            ("unexpected", "mint", f"{below}mint/OK/S2/2.png"),
            ("unexpected", "mint", f"{below}mint/OK/S2/3.gif"),
        ]


def test_magnetic_tile_is_whole_without_its_blank_masks(tmp_path: Path, write_png: Save) -> None:
    counts = load_card("magnetic_tile_original").categories
    assert counts == {"magnetic_tile": {"train": (952, 0), "test": (0, 388)}}  # 1344 less four
    card = load_card("magnetic_tile_original").model_copy(
        update={"categories": {"magnetic_tile": {"train": (1, 0), "test": (0, 2)}}}
    )
    write_png(np.full((8, 8), 9, np.uint8), tmp_path / "MT_Free" / "Imgs" / "0.jpg")
    folder = tmp_path / "MT_Fray" / "Imgs"
    for i, value in enumerate((255, 255, 0)):
        write_png(np.full((8, 8), 9, np.uint8), folder / f"{i}.jpg")
        write_png(np.full((8, 8), value, np.uint8), folder / f"{i}.png")
    assert told(check_dataset(tmp_path, card=card)) == [
        ("broken", "magnetic_tile", "MT_Fray/Imgs/2.png"),
        ("count", "magnetic_tile", ""),
    ]
    for name in ("2.jpg", "2.png"):
        (folder / name).unlink()
    assert check_dataset(tmp_path, card=card) == CheckReport(3, [])


def test_masks_in_a_folder_of_an_image(tmp_path: Path, write_png: Save) -> None:
    root = tmp_path / "pushpins"
    truth = root / "ground_truth" / "logical_anomalies"
    for name in ("train/good/0.png", "test/good/0.png", "test/logical_anomalies/0.png"):
        write_png(np.full((8, 8), 9, np.uint8), root / name)
    for name in ("0/000.png", "0/001.png"):
        write_png(np.full((8, 8), 255, np.uint8), truth / name)
    assert check_dataset(root).findings == []
    write_png(np.full((8, 8), 255, np.uint8), truth / "1" / "000.png")
    assert told(check_dataset(root)) == [
        ("unexpected", "pushpins", "ground_truth/logical_anomalies/1/000.png")
    ]


def test_no_layout_at_all(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="expected the KSDD2 layout, found an empty folder"):
        check_dataset(tmp_path, card="ksdd2")


DATA = os.environ.get("ANOMALY_U2NET_DATA")


@pytest.mark.skipif(not DATA, reason="set ANOMALY_U2NET_DATA to the folder of magnetic_tile/")
@pytest.mark.parametrize(("name", "images"), [("magnetic_tile", 1012), ("bsdata_pitting", 1007)])
def test_the_sets_of_our_numbers_are_whole(name: str, images: int) -> None:
    assert check_dataset(Path(str(DATA)) / name, card=name) == CheckReport(images, [])
