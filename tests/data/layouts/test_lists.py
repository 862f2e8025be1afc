"""Miniatures of VisA and Real-IAD as their archives unpack."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from anomaly_u2net.data.images import read_sample
from anomaly_u2net.data.index import index_dataset
from anomaly_u2net.data.protocols import split_by_protocol
from anomaly_u2net.data.split_files import read_split, training_hashes, write_split
from anomaly_u2net.errors import DatasetError, MaskError

Rows = Callable[[Path, str], list[tuple[str, ...]]]
Miniature = Callable[[dict[str, int]], Path]

DATA = "candle/Data"
VISA = {
    f"{DATA}/Images/Normal/0000.JPG": 9,
    f"{DATA}/Images/Normal/0001.JPG": 9,
    f"{DATA}/Images/Anomaly/000.JPG": 9,
    f"{DATA}/Masks/Anomaly/000.png": 3,  # a label number, as in the true set
    "pcb1/Data/Images/Normal/0000.JPG": 9,
}
PCB = "pcb1/Data/Images/Normal/0000.JPG"
VISA_CSV = f"""object,split,label,image,mask
candle,train,normal,{DATA}/Images/Normal/0000.JPG,
candle,test,normal,{DATA}/Images/Normal/0001.JPG,
candle,test,anomaly,{DATA}/Images/Anomaly/000.JPG,{DATA}/Masks/Anomaly/000.png
pcb1,train,normal,{PCB},
"""


def visa(miniature: Miniature, text: str = VISA_CSV) -> Path:
    root = miniature(VISA)
    (root / "split_csv").mkdir()
    (root / "split_csv" / "1cls.csv").write_text(text)
    return root


def test_visa_reads_its_list(miniature: Miniature, rows: Rows) -> None:
    root = visa(miniature)
    image, mask = f"{DATA}/Images/Anomaly/000.JPG", f"{DATA}/Masks/Anomaly/000.png"
    assert rows(root, "visa") == [
        ("candle", "train", "good", f"{DATA}/Images/Normal/0000.JPG", "", ""),
        ("candle", "test", "anomaly", image, mask, ""),
        ("candle", "test", "good", f"{DATA}/Images/Normal/0001.JPG", "", ""),
        ("pcb1", "train", "good", "pcb1/Data/Images/Normal/0000.JPG", "", ""),
    ]
    assert len(index_dataset(root, card="visa", categories=["pcb1"])) == 1


def anno(root: Path, *types: str) -> None:
    """Write image_anno.csv of candle, with the types of the defect images 000, 001, …"""
    rows = [f"{DATA}/Images/Normal/000{i}.JPG,normal," for i in range(2)]
    rows += [
        f'{DATA}/Images/Anomaly/{i:03d}.JPG,"{kind}",{DATA}/Masks/Anomaly/{i:03d}.png'
        for i, kind in enumerate(types)
    ]
    (root / "candle" / "image_anno.csv").write_text("\r\n".join(["image,label,mask", *rows]))


def many(miniature: Miniature, defects: int) -> Path:
    """A candle with so many defect images."""
    names = [f"{i:03d}" for i in range(defects)]
    images = {f"{DATA}/Images/Anomaly/{name}.JPG": 9 for name in names}
    root = miniature(VISA | images | {f"{DATA}/Masks/Anomaly/{name}.png": 1 for name in names})
    rows = [
        f"candle,test,anomaly,{DATA}/Images/Anomaly/{name}.JPG,{DATA}/Masks/Anomaly/{name}.png\n"
        for name in names[1:]
    ]
    (root / "split_csv").mkdir()
    (root / "split_csv" / "1cls.csv").write_text(VISA_CSV + "".join(rows))
    return root


def test_visa_has_the_types_of_its_second_list(miniature: Miniature, rows: Rows) -> None:
    root = many(miniature, 4)
    assert {row[2] for row in rows(root, "visa")} == {"good", "anomaly"}
    anno(root, "weird candle wick, chunk of  wax missing", "bent", "melt,bent", "bent,melt")
    found = [row[2:4] for row in rows(root, "visa") if row[0] == "candle" and row[1] == "test"]
    images = f"{DATA}/Images/Anomaly"
    assert found == [
        ("bent", f"{images}/001.JPG"),
        ("bent+melt", f"{images}/002.JPG"),
        ("bent+melt", f"{images}/003.JPG"),
        ("chunk of wax missing+weird candle wick", f"{images}/000.JPG"),
        ("good", f"{DATA}/Images/Normal/0001.JPG"),
    ]


def test_protocols_of_visa_are_by_type(miniature: Miniature) -> None:
    root = many(miniature, 9)
    anno(root, *["bent"] * 4, *["melt,bent"] * 3, *["scratch"] * 2)
    records = index_dataset(root, card="visa", categories=["candle"])
    for seed in range(5):
        split = split_by_protocol(records, "kshot-3", seed=seed)
        chosen = sorted(r.label for r in split if r.split == "train" and r.defective)
        assert chosen == ["bent", "bent+melt", "scratch"]
    hard = split_by_protocol(records, "hard-bent+melt-2", seed=0)
    assert {r.label for r in hard if r.split == "test"} == {"good", "scratch"}
    assert sum(r.label == "bent+melt" for r in hard if r.split == "train") == 2


def test_an_image_without_a_type_is_an_anomaly(
    miniature: Miniature, rows: Rows, caplog: pytest.LogCaptureFixture
) -> None:
    root = many(miniature, 3)
    anno(root, "bent", "bent")
    with caplog.at_level(logging.WARNING):
        found = rows(root, "visa")
    assert sorted(row[2] for row in found if row[0] == "candle") == [
        *("anomaly", "bent", "bent", "good", "good"),
    ]
    assert "1 of 3 defect images have no row: their type is 'anomaly'" in caplog.text


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("image,label", "file,label", r"expected the columns image, label; no \['image'\]"),
        ('000.JPG,"bent', '000.JPG,"normal', "expected defect types for .*000.JPG.*'normal'; down"),
        ("0000.JPG,normal", "0000.JPG,bent", "expected normal for .*0000.JPG.* found 'bent'; down"),
        ('000.JPG,"bent', '000.JPG,",', "000.JPG, found ','; download the list again"),
        ('000.JPG,"bent', '000.JPG,"good,bent', "000.JPG, found 'good,bent'; download"),
        (f"{DATA}/Images/Normal/0000", "../0000", r"expected paths under .*found '\.\./0000.JPG'"),
        (f"{DATA}/Images/Normal/0000.JPG", "", "expected paths under .*found ''"),
        ("Anomaly/001.JPG", "Anomaly/000.JPG", "one label for .*000.JPG, found 'bent' and"),
    ],
)
def test_a_list_of_types_that_is_wrong(miniature: Miniature, old: str, new: str, text: str) -> None:
    root = many(miniature, 2)
    anno(root, "bent", "melt")
    file = root / "candle" / "image_anno.csv"
    content = file.read_text()
    assert old in content
    file.write_text(content.replace(old, new, 1))
    with pytest.raises(DatasetError, match=text):
        index_dataset(root, card="visa")


def test_label_numbers_stay_label_numbers_in_a_splits_file(
    miniature: Miniature, tmp_path: Path
) -> None:
    root = visa(miniature)
    records = index_dataset(root, card="visa", categories=["candle"])
    write_split(tmp_path / "split.csv", records, root=root)
    again = read_split(tmp_path / "split.csv", root, check_bytes=True)
    assert again == records
    assert len(training_hashes(tmp_path / "split.csv")) == 1
    [sample] = [read_sample(r) for r in again if r.defective]
    assert int(sample.mask.sum()) == 16
    text = (tmp_path / "split.csv").read_text().replace(",labels", ",colours")
    (tmp_path / "split.csv").write_text(text)
    with pytest.raises(DatasetError, match="expected mask_values out of white, labels, found 'col"):
        read_split(tmp_path / "split.csv", root)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("object,split", "category,split", r"expected the columns object, split.*no \['object'\]"),
        (
            f",{DATA}/Masks/Anomaly/000.png",
            ",",
            "1 have none: .*000.JPG; looked for its path in .*1cls.csv",
        ),
        ("0001.JPG,", "0002.JPG,", "1 are missing: .*Normal/0002.JPG; unpack the data set"),
        (
            "candle,test,normal",
            "candle,val,normal",
            "expected the split train or test, .* found 'val'",
        ),
        (f"pcb1,train,normal,{PCB},", "pcb1,train,normal", "and an image, found .* and None; down"),
        (
            f"normal,{DATA}/Images/Normal/0000",
            "normal,../a",
            r"expected paths under .*'\.\./a.JPG'",
        ),
    ],
)
def test_a_list_that_is_wrong(miniature: Miniature, old: str, new: str, text: str) -> None:
    assert old in VISA_CSV
    root = visa(miniature, VISA_CSV.replace(old, new))
    with pytest.raises((DatasetError, MaskError), match=text):
        index_dataset(root, card="visa")


def realiad(miniature: Miniature, *sizes: str) -> Path:
    views = [f"audiojack_0001_NG_C{view}_20231021.jpg" for view in (1, 2)]
    files = {}
    for size in sizes:
        folder = f"{size}/audiojack"
        files |= {f"{folder}/NG/BX/S0001/{name}": 9 for name in views}
        files[f"{folder}/NG/BX/S0001/{views[0][:-4]}_mask.png"] = 255
        files |= {f"{folder}/OK/S000{i}/audiojack_000{i}_OK_C1_2023.jpg": 9 for i in (1, 2)}
    root = miniature(files)

    def item(kind: str, image: str, mask: str | None = None) -> dict[str, str | None]:
        return {
            "category": "audiojack",
            "anomaly_class": kind,
            "image_path": image,
            "mask_path": mask,
        }

    lists = {
        "meta": {"prefix": "audiojack/", "normal_class": "OK", "pre_transform": False},
        "train": [item("OK", "OK/S0001/audiojack_0001_OK_C1_2023.jpg")],
        "test": [
            item("OK", "OK/S0002/audiojack_0002_OK_C1_2023.jpg"),
            item("BX", f"NG/BX/S0001/{views[0]}", f"NG/BX/S0001/{views[0][:-4]}_mask.png"),
            item("OK", f"NG/BX/S0001/{views[1]}"),  # the defect is not seen from there
        ],
    }
    path = root / "realiad_jsons" / "realiad_jsons" / "audiojack.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(lists))
    return root


def test_realiad_reads_its_lists_and_groups_the_views(miniature: Miniature, rows: Rows) -> None:
    root = realiad(miniature, "realiad_256")
    images = "realiad_256/audiojack"
    part = f"{images}/NG/BX/S0001/audiojack_0001_NG"
    good = f"{images}/OK/S0001/audiojack_0001_OK_C1_2023.jpg"
    found = rows(root, "real_iad")
    assert found[0] == ("audiojack", "train", "good", good, "", "OK/S0001")
    by_image = {row[3]: row for row in found}
    assert by_image[f"{part}_C1_20231021.jpg"][2:] == (
        *("BX", f"{part}_C1_20231021.jpg", f"{part}_C1_20231021_mask.png", "NG/BX/S0001"),
    )
    assert by_image[f"{part}_C2_20231021.jpg"][2] == "good"
    assert by_image[f"{part}_C2_20231021.jpg"][5] == "NG/BX/S0001"
    # The folder of one size is a root as well: the lists are beside it.
    assert len(rows(root / "realiad_256", "real_iad")) == 4


def test_realiad_of_several_sizes_wants_one(miniature: Miniature) -> None:
    root = realiad(miniature, "realiad_256", "realiad_1024")
    with pytest.raises(DatasetError, match="found realiad_1024, realiad_256; name the one to use"):
        index_dataset(root, card="real_iad")
    assert len(index_dataset(root / "realiad_1024", card="real_iad")) == 4


@pytest.mark.parametrize("text", ["{", "[]", '{"train": []}', '{"train": [{}], "test": []}'])
def test_realiad_with_a_broken_list(miniature: Miniature, text: str) -> None:
    root = realiad(miniature, "realiad_256")
    (root / "realiad_jsons" / "realiad_jsons" / "audiojack.json").write_text(text)
    with pytest.raises(DatasetError, match="expected a JSON object with the lists train and test"):
        index_dataset(root, card="real_iad")
