from __future__ import annotations

import csv
import logging
import os
import random
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_u2net.data.index import index_dataset
from anomaly_u2net.data.split_files import read_split, write_split
from anomaly_u2net.data.splits import check_disjoint, record_hashes, split_records
from anomaly_u2net.errors import DatasetError, InputError, LeakError
from anomaly_u2net.recipe.protocol import Fold
from anomaly_u2net.types import ImageRecord, Split

TENTHS = {"calibration_fraction": 0.2, "validation_fraction": 0.1, "seed": 0}


def images(
    n: int,
    *,
    label: str = "good",
    split: Split = "train",
    category: str = "bolt",
    root: str = "data",
    groups: list[str | None] | None = None,
) -> list[ImageRecord]:
    folder = Path(root) / category / split / label
    mask = None if label == "good" else Path(root) / category / "ground_truth" / label
    return [
        ImageRecord(
            folder / f"{split}{i:03d}.png",
            category,
            split,
            label,
            mask / f"{split}{i:03d}_mask.png" if mask else None,
            groups[i] if groups else None,
        )
        for i in range(n)
    ]


def counts(records: list[ImageRecord]) -> dict[tuple[str, str], int]:
    return dict(Counter((r.split, r.label) for r in records))


def chosen(records: list[ImageRecord]) -> dict[tuple[str, ...], str]:
    return {(*r.path.parts[-4:],): r.split for r in records}


# --- the rule -----------------------------------------------------------------------------------


def test_every_label_gives_its_share_and_the_test_stays() -> None:
    records = images(100) + images(20, label="cut") + images(3, label="bent")
    records += images(30, split="test") + images(9, label="cut", split="test")
    split = split_records(records, **TENTHS)
    assert [r.path for r in split] == [r.path for r in records]
    assert counts(split) == {
        ("train", "good"): 70,
        ("calibration", "good"): 20,
        ("validation", "good"): 10,
        ("train", "cut"): 14,
        ("calibration", "cut"): 4,
        ("validation", "cut"): 2,
        ("train", "bent"): 2,
        ("calibration", "bent"): 1,
        ("test", "good"): 30,
        ("test", "cut"): 9,
    }


def test_neither_order_nor_folder_nor_other_categories_matter() -> None:
    records = images(40) + images(8, label="cut")
    expected = chosen(split_records(records, **TENTHS))
    shuffled = records.copy()
    random.Random(1).shuffle(shuffled)
    assert chosen(split_records(shuffled, **TENTHS)) == expected
    moved = images(40, root="/else/where") + images(8, label="cut", root="/else/where")
    assert chosen(split_records(moved, **TENTHS)) == expected
    beside = split_records(images(25, category="nut") + records, **TENTHS)
    assert chosen([r for r in beside if r.category == "bolt"]) == expected
    assert chosen(split_records(records, **{**TENTHS, "seed": 1})) != expected


def test_given_calibration_images_stay_alone() -> None:
    given_ = images(7, split="calibration")
    split = split_records(images(50) + given_ + images(50, category="nut"), **TENTHS)
    own = [r for r in split if r.category == "bolt"]
    assert counts(own) == {
        ("train", "good"): 45,
        ("calibration", "good"): 7,
        ("validation", "good"): 5,
    }
    assert {r.path for r in own if r.split == "calibration"} == {r.path for r in given_}


def test_the_last_image_of_a_label_is_never_held_out() -> None:
    split = split_records(
        images(10) + images(1, label="cut") + images(2, label="bent"),
        calibration_fraction=0.5,
        validation_fraction=0.4,
        seed=0,
    )
    assert counts(split)["train", "cut"] == 1
    assert counts(split)["train", "bent"] == 1
    assert counts(split)["train", "good"] == 1


def test_groups_too_large_to_hold_out() -> None:
    records = images(40, groups=["a"] * 20 + ["b"] * 20)
    with pytest.raises(DatasetError, match=r"expected 4 good .*the smallest group has 20, .*raise"):
        split_records(records, calibration_fraction=0.1, validation_fraction=0, seed=0)
    split = split_records(records, calibration_fraction=0.3, validation_fraction=0, seed=0)
    assert counts(split) == {("train", "good"): 20, ("calibration", "good"): 20}


@settings(max_examples=60, deadline=None)
@given(
    groups=st.lists(st.sampled_from([None, *"abcdefghijkl"]), min_size=30, max_size=80),
    labels=st.lists(st.sampled_from(["good", "good", "cut", "bent"]), min_size=80, max_size=80),
    calibration=st.sampled_from([0.0, 0.1, 0.3]),
    validation=st.sampled_from([0.0, 0.2]),
    borrow=st.sampled_from([0.0, 0.4]),
    seed=st.integers(0, 3),
)
def test_no_group_is_ever_parted(
    groups: list[str | None],
    labels: list[str],
    calibration: float,
    validation: float,
    borrow: float,
    seed: int,
) -> None:
    records = []
    for i, group in enumerate(groups):
        split: Split = "test" if group and group > "g" else "train"
        record = images(1, label=labels[i], split=split)[0]
        path = record.path.with_name(f"{i}.png")
        records.append(replace(record, path=path, group=group))
    try:
        result = split_records(
            records,
            calibration_fraction=calibration,
            validation_fraction=validation,
            seed=seed,
            borrow_defects=borrow,
        )
    except DatasetError as error:
        assert "groups are not parted" in str(error)  # noqa: PT017
        return
    assert [replace(a, split=b.split) for a, b in zip(records, result, strict=True)] == result
    places = defaultdict(set)
    for before, after in zip(records, result, strict=True):
        if after.group is not None:
            places[after.group].add(after.split)
        if before.split == "test":
            assert after.split == "test" or (borrow and after.defective)
        if after.split == "test":
            assert before.split == "test"
    assert all(len(found) == 1 for found in places.values())
    # whatever label trained before still trains
    trained = {r.label for r in result if r.split == "train"}
    assert {r.label for r in records if r.split == "train"} <= trained


# --- borrowed defects ---------------------------------------------------------------------------


def test_borrowed_defects_leave_the_test_by_type_before_the_holdout() -> None:
    records = images(60) + images(10, split="test")
    records += images(20, label="cut", split="test") + images(10, label="bent", split="test")
    split = split_records(records, **TENTHS, borrow_defects=0.5)
    assert counts(split) == {
        ("train", "good"): 42,
        ("calibration", "good"): 12,
        ("validation", "good"): 6,
        ("train", "cut"): 7,
        ("calibration", "cut"): 2,
        ("validation", "cut"): 1,
        ("train", "bent"): 3,
        ("calibration", "bent"): 1,
        ("validation", "bent"): 1,
        ("test", "good"): 10,
        ("test", "cut"): 10,
        ("test", "bent"): 5,
    }


def test_groups_that_lie_in_training_are_borrowed_first(caplog: pytest.LogCaptureFixture) -> None:
    records = images(20, groups=["a"] * 10 + ["b"] * 10)
    records += images(8, split="test", groups=["c"] * 8)
    defects: list[str | None] = ["a"] * 3 + ["b"] * 4 + ["c"] * 3
    records += images(10, label="cut", split="test", groups=defects)
    options: dict[str, Any] = {"calibration_fraction": 0, "validation_fraction": 0, "seed": 0}
    message = (
        r"'bolt': .* found 2 in several: group 'a' has 3 in test, 10 in train; .* borrow the 7 "
        r"test defects of the shared groups: set data\.borrow_defects to 0\.7 or more"
    )
    with pytest.raises(LeakError, match=message):
        split_records(records, **options)
    with pytest.raises(LeakError, match=r"found 1 in several.* to 0\.7 or more"):
        split_records(records, **options, borrow_defects=0.4)
    with caplog.at_level(logging.WARNING):
        split = split_records(records, **options, borrow_defects=0.9)
    assert counts(split)["train", "cut"] == 7
    assert {r.group for r in split if r.split == "test"} == {"c"}
    assert "borrowed 7 of 10 test images of 'cut', not 9" in caplog.text


def test_a_group_in_training_and_test_is_a_leak() -> None:
    records = images(5, groups=["t1", None, None, None, None])
    records += images(3, split="test", groups=["t1", "t2", "t2"])
    with pytest.raises(LeakError, match=r"group 't1' has 1 in test, 1 in train; move the images"):
        split_records(records, **TENTHS)
    elsewhere = [replace(r, category="nut") if r.split == "test" else r for r in records]
    split_records(elsewhere, **TENTHS)  # a name in another category is another group


@pytest.mark.parametrize("fold", [Fold(6, 5), Fold(0, 5), Fold(1, 1)])
def test_folds_that_there_are_not(fold: Fold) -> None:
    with pytest.raises(InputError, match=f"validation_fold: expected one of two .*, got {fold}"):
        split_records(images(9), **TENTHS, validation_fold=fold)


def test_a_fold_and_the_calibration_part_leave_something_to_train_on() -> None:
    wrong = {"calibration_fraction": 0.6, "validation_fraction": 0.1, "seed": 0}
    with pytest.raises(
        InputError, match=r"calibration_fraction \+ validation_fraction: .* got 1\.1"
    ):
        split_records(images(9), **wrong, validation_fold=Fold(1, 2))


def test_folds_hold_out_every_training_image_once() -> None:
    """Groups of three, two labels, a test part: dealt whole and evenly, the test left alone."""
    records = [
        replace(record, group=f"{record.label}{i // 3}")
        for label, count in (("good", 60), ("cut", 15))
        for i, record in enumerate(images(count, label=label))
    ] + images(10, split="test")
    held: Counter[Path] = Counter()
    for number in range(1, 6):
        split = split_records(
            records,
            calibration_fraction=0.2,
            validation_fraction=0.1,
            seed=0,
            validation_fold=Fold(number, 5),
        )
        assert len({(r.group, r.split) for r in split if r.group}) == 25  # no group is parted
        assert counts(split) == {
            ("train", "good"): 36, ("train", "cut"): 9,
            ("validation", "good"): 12, ("validation", "cut"): 3,
            ("calibration", "good"): 12, ("calibration", "cut"): 3,
            ("test", "good"): 10,
        }  # fmt: skip
        held.update(r.path for r in split if r.split == "validation")
    assert held == Counter(r.path for r in records if r.split == "train")


def test_folds_of_several_categories_are_dealt_apart() -> None:
    """Each category of three folds, whatever lies beside it, and calibration images that it came with."""
    bolts = images(9) + images(3, label="cut") + images(4, split="calibration")
    nuts = images(6, category="nut") + images(6, label="dent", category="nut")
    options = {**TENTHS, "validation_fold": Fold(2, 3)}
    both, alone = split_records(bolts + nuts, **options), split_records(bolts, **options)
    assert both[: len(bolts)] == alone
    assert counts(alone) == {
        ("train", "good"): 6, ("train", "cut"): 2, ("validation", "good"): 3,
        ("validation", "cut"): 1, ("calibration", "good"): 4,
    }  # fmt: skip
    assert counts(both[len(bolts) :])["validation", "dent"] == 2


def test_a_fold_must_leave_what_is_trained_on(caplog: pytest.LogCaptureFixture) -> None:
    none = {"calibration_fraction": 0.0, "validation_fraction": 0.0, "seed": 0}
    records = [replace(r, group=str(i % 3)) for i, r in enumerate(images(9))]
    few = r"expected 4 groups of training images, or .* 1of4, found 3: choose fewer folds"
    with pytest.raises(DatasetError, match=few):
        split_records(records, **none, validation_fold=Fold(1, 4))
    one = [*images(9), *images(1, label="cut")]
    refused = []
    for number in (1, 2, 3):
        try:
            split_records(one, **none, validation_fold=Fold(number, 3))
        except DatasetError as error:
            refused.append(str(error))
    [text] = refused  # the one fold that is dealt the one defect
    assert "expected defect images in training beside data.validation_fold" in text
    rare = [*one, *images(6, label="dent")]
    for number in (1, 2, 3):
        caplog.clear()
        split = split_records(rare, **none, validation_fold=Fold(number, 3))
        gone = counts(split).get(("validation", "cut"), 0) == 1
        assert ("holds out all images of cut" in caplog.text) == gone
    tests = images(3, split="test")
    assert split_records(tests, **none, validation_fold=Fold(1, 3)) == tests


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("calibration_fraction", -0.1),
        ("calibration_fraction", float("nan")),
        ("validation_fraction", 1.0),
        ("borrow_defects", 1.0),
    ],
)
def test_fractions_out_of_range(name: str, value: float) -> None:
    message = rf"^{name}: expected a fraction of the images, 0 <= fraction < 1, got {value}"
    with pytest.raises(InputError, match=message):
        split_records(images(9), **{**TENTHS, name: value})


def test_fractions_that_leave_nothing_to_train_on() -> None:
    with pytest.raises(InputError, match=r"calibration_fraction \+ validation_fraction: .* got 1"):
        split_records(images(9), calibration_fraction=0.5, validation_fraction=0.5, seed=0)


# --- the file, and bytes ------------------------------------------------------------------------


@pytest.fixture
def on_disk(tmp_path: Path) -> list[ImageRecord]:
    records = images(2, root=str(tmp_path), groups=["g, 1", None])
    records += images(2, label="cut", split="test", root=str(tmp_path))
    for record in records:
        for path in (record.path, record.mask):
            if path:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(str(path))
    return records


def test_a_split_comes_back_as_written(tmp_path: Path, on_disk: list[ImageRecord]) -> None:
    path = tmp_path / "run" / "split.csv"
    write_split(path, on_disk, root=tmp_path)
    assert read_split(path, tmp_path, check_bytes=True) == on_disk
    rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    assert ",".join(rows[0]) == "file,category,split,label,mask,group,sha256"
    assert rows[1][:6] == ["bolt/train/good/train000.png", "bolt", "train", "good", "", "g, 1"]
    with pytest.raises(DatasetError, match=r"expected a file under .*other"):
        write_split(path, on_disk, root=tmp_path / "other")
    assert read_split(path, tmp_path) == on_disk  # the failed write changed nothing


def test_a_split_whose_files_are_missing_or_altered(
    tmp_path: Path, on_disk: list[ImageRecord]
) -> None:
    path = tmp_path / "split.csv"
    write_split(path, on_disk, root=tmp_path)
    on_disk[0].path.write_text("other")
    assert read_split(path, tmp_path) == on_disk
    with pytest.raises(DatasetError, match=r"1 are altered: bolt/train/good/train000\.png"):
        read_split(path, tmp_path, check_bytes=True)
    on_disk[0].path.unlink()
    mask = on_disk[3].mask
    assert mask is not None
    mask.unlink()
    with pytest.raises(DatasetError, match=r"2 are missing: .*train000\.png, .*test001_mask\.png"):
        read_split(path, tmp_path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.png,bolt,training,good,,,0", "line 2: expected a split out of train, .* 'training'"),
        ("../a.png,bolt,train,good,,,0", r"expected a path under the root, found '\.\./a\.png'"),
        ("/a.png,bolt,train,good,,,0", "expected a path under the root, found '/a.png'"),
        ("a.png,bolt,train,cut,,,0", "a mask for a defect only"),
        ("a.png,bolt,train,good,m.png,,0", "a mask for a defect only"),
        ("a.png,bolt", "line 2: expected 7 cells, found 2"),
        ("a.png,bolt,train,good,,,0\na.png,bolt,test,good,,,0", "1 are listed twice"),
    ],
)
def test_wrong_rows(tmp_path: Path, row: str, message: str) -> None:
    (tmp_path / "a.png").touch()
    path = tmp_path / "split.csv"
    path.write_text(f"file,category,split,label,mask,group,sha256\n{row}\n", encoding="utf-8")
    with pytest.raises(DatasetError, match=message):
        read_split(path, tmp_path)


def test_not_a_split(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="expected a split as CSV, could not read it"):
        read_split(tmp_path / "no.csv", tmp_path)
    for text, found in (("", "none"), ("file,label\n", "file,label")):
        (tmp_path / "a.csv").write_text(text, encoding="utf-8")
        with pytest.raises(DatasetError, match=f"expected the columns file,.* found {found};"):
            read_split(tmp_path / "a.csv", tmp_path)


def test_the_same_bytes_in_training_and_test(tmp_path: Path, on_disk: list[ImageRecord]) -> None:
    train, test = on_disk[:2], on_disk[2:]
    hashes = record_hashes(train)
    check_disjoint(hashes, on_disk)  # training images meet themselves: no leak
    test[1].path.write_bytes(train[0].path.read_bytes())
    with pytest.raises(
        LeakError, match=r"found 1 of 2 with the same bytes: .*test001\.png; remove"
    ):
        check_disjoint(hashes, test)


# --- real images --------------------------------------------------------------------------------


def test_real_groups() -> None:
    folder = os.environ.get("ANOMALY_U2NET_DATA")
    if not folder:
        pytest.skip("set ANOMALY_U2NET_DATA to the folder that holds magnetic_tile/ and others")
    tiles = index_dataset(Path(folder) / "magnetic_tile", card="magnetic_tile")
    split = split_records(tiles, **TENTHS)
    found = counts(split)
    assert found["test", "good"] == 143
    assert abs(found["calibration", "good"] - 114) <= 2
    assert abs(found["validation", "good"] - 57) <= 2
    spindles = index_dataset(Path(folder) / "bsdata_pitting", card="bsdata_pitting")
    with pytest.raises(LeakError, match=r"found 10 in several.*set data\.borrow_defects to 0\.71"):
        split_records(spindles, **TENTHS)
    borrowed = split_records(spindles, **TENTHS, borrow_defects=0.71)
    assert counts(borrowed)["test", "pitting"] == 95
    for records in (split, borrowed):
        places = defaultdict(set)
        for record in records:
            places[record.group].add(record.split)
        assert all(len(names) == 1 for names in places.values())
