"""Doubts about labels: from held-out images only, and only where labels were spoilt."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from anomaly_u2net.data.index import index_dataset
from anomaly_u2net.data.protocols import split_by_protocol
from anomaly_u2net.data.split_files import write_split
from anomaly_u2net.errors import DatasetError
from anomaly_u2net.evaluation.label_noise import (
    SAY,
    Doubts,
    _strengths,
    doubt_picture,
    held_out,
    label_doubts,
)
from anomaly_u2net.evaluation.runs import run_recipe, run_records
from anomaly_u2net.files import sha256_file
from anomaly_u2net.recipe import Recipe
from anomaly_u2net.training import train
from anomaly_u2net.training.run import split_data
from anomaly_u2net.types import ImageRecord


def test_strengths_by_hand() -> None:
    score_map = np.zeros((40, 40), np.float32)
    score_map[2:12, 2:12] = 0.9
    none, here, there = (np.zeros((40, 40), bool) for _ in range(3))
    here[4:10, 4:10] = there[25:35, 25:35] = True
    assert _strengths(score_map, none) == {"missed_mask": pytest.approx(0.9)}
    right = _strengths(score_map, here)
    assert right == {  # the region runs on from the mask
        "unseen_defect": pytest.approx(0.1),
        "more_than_marked": 0,
    }
    wrong = _strengths(score_map, there)
    assert wrong["unseen_defect"] == 1
    assert wrong["more_than_marked"] == pytest.approx(0.9)
    everywhere = _strengths(np.full((40, 40), 0.9, np.float32), here)
    assert everywhere["more_than_marked"] == 0  # one region over all of the image


def spoil(run: Path, record: ImageRecord, spoiled: np.ndarray, root: Path) -> None:
    """Another picture in place of a held-out one, and its hash in split.csv."""
    Pillow.fromarray(spoiled).save(record.path)
    name = record.path.relative_to(root).as_posix()
    with (run / "split.csv").open(newline="") as file:
        rows = [
            [*row[:-1], sha256_file(record.path)] if row[0] == name else row
            for row in csv.reader(file)
        ]
    with (run / "split.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def test_spoilt_labels_are_named_and_pictured(
    tiny_recipe: Recipe, own_data: Path, tmp_path: Path
) -> None:
    longer = ["train.steps=200", "train.validate_every=200"]  # so that it is sure of its defects
    run = train(tiny_recipe.with_overrides(longer), tmp_path / "run").folder
    held = held_out(run, root=own_data)
    assert {record.split for record in held} == {"validation", "calibration"}
    calm = label_doubts([run], root=own_data)
    good = next(record for record in held if not record.defective)
    bad = next(record for record in held if record.defective)
    pictures = {r: np.asarray(Pillow.open(r.path)).copy() for r in (good, bad)}
    pictures[good][10:20, 10:20] = 230  # a spot that nobody marked
    mask = np.asarray(Pillow.open(bad.mask)) > 0
    pictures[bad][mask] = 30  # and a mark on nothing
    for record, picture in pictures.items():
        spoil(run, record, picture, own_data)
    seen: list[ImageRecord] = []
    doubts = label_doubts([run, run], root=own_data, on_image=seen.append)
    assert len(seen) == 2 * len(held)
    assert doubts.judged.keys() == {record.path for record in held}
    assert doubts.judged.keys().isdisjoint(
        r.path for r in run_records(run, "train", data_root=own_data)
    )
    new = {(d.kind, d.record.path) for d in doubts.doubts} - {
        (d.kind, d.record.path) for d in calm.doubts
    }
    assert {("missed_mask", good.path), ("unseen_defect", bad.path)} <= new
    first = doubts.of("missed_mask")[0]
    assert first.runs == (run, run)
    assert first.strength == pytest.approx(first.by_run[0])
    found = {finding.check: finding for finding in doubts.findings()}
    assert found.keys() <= {*SAY, "labels_judged"}
    assert found["missed_mask"].severity == "warning"
    assert "(2 runs)" in found["missed_mask"].items[0].note
    assert doubt_picture(first).dtype == np.uint8


def test_how_many_images_were_judged_is_told(tiny_run: Path, tiny_data: Path) -> None:
    doubts = label_doubts([tiny_run])
    held = [r for s in ("validation", "calibration") for r in run_records(tiny_run, s)]
    first = doubts.findings()[0]
    assert (first.check, first.severity) == ("labels_judged", "info")
    assert first.numbers == {"judged": len(held), "images": 42}  # 54 less 12 of the test
    assert first.text.startswith(f"{len(held)} of 42 (")
    assert f"the other {42 - len(held)}: give more runs" in first.advice
    whole = Doubts(doubts.judged, [], len(held)).findings()[0]
    assert (whole.text.split(")")[0], whole.advice) == (f"{len(held)} of {len(held)} (100 %", "")


@pytest.mark.parametrize("inside", [False, True])
def test_the_folder_of_one_category_of_a_run(
    tiny_run: Path, own_data: Path, monkeypatch: pytest.MonkeyPatch, inside: bool
) -> None:
    every = held_out(tiny_run, root=own_data)
    shutil.rmtree(own_data / "sheet")
    root = own_data / "plate"
    if inside:
        monkeypatch.chdir(root)
        root = Path()
    held = held_out(tiny_run, root=root)
    assert held == [
        replace(r, path=root / r.path.relative_to(own_data / "plate"),
                mask=r.mask and root / r.mask.relative_to(own_data / "plate"))
        for r in every if r.category == "plate"
    ]  # fmt: skip
    assert all(r.path.is_file() and (r.mask is None or r.mask.is_file()) for r in held)
    doubts = label_doubts([tiny_run], root=root)
    assert doubts.judged.keys() == {record.path for record in held}
    assert doubts.images == 21


def test_of_folds_every_image_is_judged_once(
    tiny_run: Path, own_data: Path, tmp_path: Path
) -> None:
    for mask in (own_data / "plate").glob("train/spot/*"):
        (own_data / "plate/test/spot" / mask.name).write_bytes(mask.read_bytes())
        mask.unlink()
    (own_data / "plate/train/spot").rmdir()
    shutil.rmtree(own_data / "sheet")
    records = index_dataset(own_data)
    runs = []
    for fold in range(1, 6):
        run = Path(shutil.copytree(tiny_run, tmp_path / f"fold{fold}"))
        recipe = run_recipe(run)
        data = recipe.data.model_copy(update={"protocol": f"full-fold{fold}of5"})
        recipe.model_copy(update={"data": data}).save(run / "recipe.yaml")
        split = split_by_protocol(records, data.protocol, seed=0)
        write_split(run / "split.csv", split, root=own_data)
        runs.append(run)
    judged = Counter(record.path for run in runs for record in held_out(run, root=own_data))
    assert judged.keys() == {record.path for record in records}
    assert {judged[r.path] for r in records if r.split != "calibration"} == {1}


def test_cross_validation_judges_every_training_image_once(
    tiny_run: Path, tiny_data: Path, tmp_path: Path
) -> None:
    plain = run_recipe(tiny_run).with_overrides(
        ["data.validation_fraction=0.1", "data.calibration_fraction=0"]
    )
    runs = []
    for fold in range(1, 4):
        run = Path(shutil.copytree(tiny_run, tmp_path / f"fold{fold}"))
        recipe = plain.with_overrides([f"data.validation_fold={fold}of3"])
        recipe.save(run / "recipe.yaml")
        write_split(run / "split.csv", split_data(recipe), root=tiny_data)
        runs.append(run)
    judged = Counter(record.path for run in runs for record in held_out(run))
    assert {judged[r.path] for r in index_dataset(tiny_data) if r.split == "train"} == {1}
    numbers = label_doubts(runs).findings()[0].numbers
    assert numbers["judged"] == numbers["images"] == 42


def test_without_held_out_images(tiny_run: Path, tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="expected runs that held images out of training"):
        label_doubts([], root=tiny_data)
