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
from anomaly_u2net.data.images import read_image
from anomaly_u2net.data.index import index_dataset
from anomaly_u2net.errors import DatasetError
from anomaly_u2net.evaluation.audit_report import size_table, write_groups, write_report


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
    assert write_groups(result, spoilt / "plate/groups.csv", records=records) == 1
    with (spoilt / "plate/groups.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(records)
    grouped = [r for r in index_dataset(spoilt / "plate") if r.group]
    assert sorted(r.path.name for r in grouped) == ["again.png", "train_good_0.png"]
    both = index_dataset(spoilt)
    with pytest.raises(
        DatasetError, match=r"expected one category, .* found plate, sheet: audit one"
    ):
        write_groups(audit(both), tmp_path / "g.csv", records=both)


def test_the_histogram_as_a_table(tiny_data: Path) -> None:
    found = audit(index_dataset(tiny_data / "sheet"), size=(64, 64)).named("defect_size")[0]
    head, rows = size_table(found)
    assert head == ["type", "< 1 px", "1–3", "3–6", "6–12", "12–24", "24–48", "≥ 48"]
    assert rows == [["spot", "0", "0", "0", "10", "0", "0", "0"]]  # squares of 10 pixels
