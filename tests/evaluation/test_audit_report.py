"""The report on disk: every finding with its advice, files relative, pictures that are there."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from anomaly_u2net.data.audit import audit
from anomaly_u2net.data.cards import load_card
from anomaly_u2net.data.images import read_image
from anomaly_u2net.data.index import index_dataset
from anomaly_u2net.errors import DatasetError
from anomaly_u2net.evaluation.audit_report import (
    groups_folder,
    size_table,
    write_groups,
    write_report,
)
from anomaly_u2net.types import ImageRecord


@pytest.fixture
def spoilt(own_data: Path, write_png: Callable[[np.ndarray, Path], None]) -> Path:
    """The tiny data with a copy across splits and a mask of one pixel less."""
    image = read_image(own_data / "plate/train/good/train_good_0.png")
    write_png(image, own_data / "plate/test/good/again.png")
    mask = next((own_data / "sheet/ground_truth/spot").iterdir())
    write_png(read_image(mask)[:-1, :, 0], mask)
    return own_data


def test_what_is_written(spoilt: Path, tmp_path: Path) -> None:
    result = audit(index_dataset(spoilt), size=(64, 64))
    files = write_report(result, tmp_path / "out", root=spoilt)
    assert [file.name for file in files[:2]] == ["audit.md", "audit.json"]
    assert all(file.is_file() for file in files)
    text = files[0].read_text(encoding="utf-8")
    headings = re.findall(r"^## (\w+): (\w+)", text, flags=re.MULTILINE)
    assert headings == [(f.severity, f.check) for f in result.findings]
    assert ("error", "copies_across_splits") in headings
    assert ("error", "mask_size") in headings
    assert "`plate/train/good/train_good_0.png`" in text
    assert str(spoilt) not in text.split("\n", 1)[1]
    for link in re.findall(r"!\[\w+\]\((.*?)\)", text):
        assert cv2.imread(str(tmp_path / "out" / link)) is not None
    content = json.loads(files[1].read_text(encoding="utf-8"))
    assert content["format"] == "anomaly_u2net.audit/1"
    assert content["counts"]["error"] == 2
    assert ["plate/test/good/again.png", "plate/train/good/train_good_0.png"] in content["groups"]


def test_groups_can_be_read_again(spoilt: Path, tmp_path: Path) -> None:
    records = index_dataset(spoilt / "plate")
    result = audit(records)
    card = load_card("folder")
    folder = groups_folder(spoilt / "plate", card)
    assert folder == spoilt / "plate"
    assert write_groups(result, folder / "groups.csv", records=records, folder=folder) == 1
    with (spoilt / "plate/groups.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(records)
    grouped = [r for r in index_dataset(spoilt / "plate") if r.group]
    assert sorted(r.path.name for r in grouped) == ["again.png", "train_good_0.png"]
    with pytest.raises(
        DatasetError, match=r"expected one category, .* found plate, sheet: audit one"
    ):
        groups_folder(spoilt, card)


def test_groups_of_another_layout_can_be_read_again(
    tmp_path: Path, write_png: Callable[[np.ndarray, Path], None]
) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for number in range(3):
            mask = np.zeros((40, 60), np.uint8)
            mask[4:20, 5:30] = 255 * (number == 0)
            write_png(mask, tmp_path / f"{split}/{number}_GT.png")
            image = rng.integers(0, 255, (40, 60), dtype=np.uint8)
            write_png(image, tmp_path / f"{split}/{number}.png")
    write_png(image, tmp_path / "test/1.png")
    card = load_card("ksdd2")
    records = index_dataset(tmp_path, card=card)
    folder = groups_folder(tmp_path, card)
    assert write_groups(audit(records), folder / "groups.csv", records=records, folder=folder) == 1
    again = [r.path.name for r in index_dataset(tmp_path, card=card) if r.group]
    assert again == ["1.png", "2.png"]


def test_a_card_that_lists_images_in_a_file_has_no_groups(tmp_path: Path) -> None:
    (tmp_path / "split_csv").mkdir()
    columns = "object,split,label,image,mask"
    (tmp_path / "split_csv/1cls.csv").write_text(f"{columns}\ncandle,train,normal,a.jpg,\n")
    with pytest.raises(DatasetError, match=r"card 'visa' finds .*1cls\.csv and reads"):
        groups_folder(tmp_path, load_card("visa"))


def test_masks_of_label_numbers_are_drawn(
    tmp_path: Path, write_png: Callable[[np.ndarray, Path], None]
) -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros((64, 64), np.uint8)
    mask[10:12, 10:40] = 2
    write_png(mask, tmp_path / "mask.png")
    write_png(rng.integers(0, 255, (64, 64), dtype=np.uint8), tmp_path / "a.png")
    record = ImageRecord(
        tmp_path / "a.png", "x", "train", "cut", tmp_path / "mask.png", mask_values="labels"
    )
    files = write_report(audit([record], size=(32, 32)), tmp_path / "out", root=tmp_path)
    assert "defect_size-x.png" in [file.name for file in files]


def test_the_histogram_as_a_table(tiny_data: Path) -> None:
    found = audit(index_dataset(tiny_data / "sheet"), size=(64, 64)).named("defect_size")[0]
    head, rows = size_table(found)
    assert head == ["type", "< 1 px", "1–3", "3–6", "6–12", "12–24", "24–48", "≥ 48"]
    assert rows == [["spot", "0", "0", "0", "10", "0", "0", "0"]]  # squares of 10 pixels
