from __future__ import annotations

import csv
import dataclasses
import logging
import os
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from anomaly_u2net.data.index import index_dataset
from anomaly_u2net.data.protocols import (
    check_protocol,
    near_copies,
    near_copies_grouped,
    split_by_protocol,
    split_hash,
    warn_of_near_copies,
    without_near_copies,
)
from anomaly_u2net.data.splits import split_records
from anomaly_u2net.errors import DatasetError, InputError, LeakError
from anomaly_u2net.types import ImageRecord, Split


def images(
    n: int, label: str = "good", split: Split = "train", *, group: str | None = None
) -> list[ImageRecord]:
    return [
        ImageRecord(
            Path("data/bolt") / split / label / f"{split}{i:03d}.png",
            "bolt",
            split,
            label,
            None if label == "good" else Path(f"data/bolt/ground_truth/{label}/{split}{i:03d}.png"),
            group,
        )
        for i in range(n)
    ]


def sides(records: list[ImageRecord]) -> dict[tuple[str, str], int]:
    return dict(Counter((r.split, r.label) for r in records))


def names(records: list[ImageRecord]) -> set[tuple[str, str]]:
    return {(r.path.name, r.split) for r in records}


#: As MVTec AD: defects are in the test part alone.
TESTED = (
    images(20) + images(6, "good", "test") + images(9, "cut", "test") + images(6, "dent", "test")
)
TESTED += images(2, "hole", "test")
#: As Magnetic tile: defects in both.
TRAINED = images(20) + images(9, "cut") + images(6, "dent") + images(2, "hole")
TRAINED += images(6, "good", "test") + images(5, "cut", "test") + images(3, "hole", "test")


# --- what each protocol chooses -----------------------------------------------------------------


def test_masks_are_chosen_type_by_type_and_leave_the_test() -> None:
    split = split_by_protocol(TESTED, "kshot-10", seed=0)
    train = Counter(r.label for r in split if r.split == "train")
    # 10 // 3 = 3 of each type, but there are only 2 holes: the rest comes from all.
    assert train["hole"] == 2
    assert min(train["cut"], train["dent"]) >= 3
    assert train["cut"] + train["dent"] + train["hole"] == 10
    assert [r.path for r in split] == [r.path for r in TESTED]  # chosen ones moved, none lost
    assert sides(split)["test", "good"] == 6


def test_where_training_has_defects_the_test_stays_and_the_other_defects_are_unused() -> None:
    split = split_by_protocol(TRAINED, "kshot-3", seed=0)
    assert sides(split) == {
        ("train", "good"): 20,
        ("train", "cut"): 1,
        ("train", "dent"): 1,
        ("train", "hole"): 1,
        ("test", "good"): 6,
        ("test", "cut"): 5,
        ("test", "hole"): 3,
    }


def test_one_type_trains_and_is_not_tested() -> None:
    assert sides(split_by_protocol(TESTED, "hard-cut-4", seed=0)) == {
        ("train", "good"): 20,
        ("train", "cut"): 4,
        ("test", "good"): 6,
        ("test", "dent"): 6,
        ("test", "hole"): 2,
    }
    assert sides(split_by_protocol(TRAINED, "hard-cut-4", seed=0)) == {
        ("train", "good"): 20,
        ("train", "cut"): 4,
        ("test", "good"): 6,
        ("test", "hole"): 3,
    }


def test_images_that_show_the_type_beside_another_are_not_tested_either() -> None:
    both = [
        dataclasses.replace(record, label="cut+dent") if record.label == "dent" else record
        for record in TESTED
    ]
    for protocol, left in (("hard-cut-4", {"hole"}), ("hard-cut+dent-4", {"hole"})):
        split = split_by_protocol(both, protocol, seed=0)
        assert {r.label for r in split if r.split == "test" and r.defective} == left


def test_the_first_third_by_file_name() -> None:
    shuffled = TESTED.copy()
    random.Random(0).shuffle(shuffled)
    split = split_by_protocol(shuffled, "third", seed=0)
    chosen = sorted((r.label, r.path.name) for r in split if r.split == "train" and r.defective)
    expected = [("cut", f"test00{i}.png") for i in range(3)]
    assert chosen == [*expected, ("dent", "test000.png"), ("dent", "test001.png")]
    assert sides(split)["test", "hole"] == 2  # a third of two is none


def test_the_rest_of_a_third_is_tested_wherever_it_lay() -> None:
    """Of 14 cuts, 6 dents and 5 holes in both parts; none is on neither side."""
    records = TRAINED + images(2, "cut", "calibration")
    split = split_by_protocol(records, "third", seed=0)
    assert sides(split) == {
        ("train", "good"): 20,
        ("train", "cut"): 4,
        ("train", "dent"): 2,
        ("train", "hole"): 1,
        ("test", "good"): 6,
        ("test", "cut"): 10,
        ("test", "dent"): 4,
        ("test", "hole"): 4,
    }
    assert [r.path for r in split] == [r.path for r in TRAINED]  # held-out defects alone are not
    # test000.png … come before train000.png …, of whichever part
    chosen = {(r.label, r.path.name) for r in split if r.split == "train" and r.defective}
    expected = {("cut", f"test00{i}.png") for i in range(4)} | {("hole", "test000.png")}
    assert chosen == expected | {("dent", "train000.png"), ("dent", "train001.png")}


def test_groups_of_a_third_train_whole_in_the_order_of_their_first_file() -> None:
    """A third of 12 cuts is 4: a (0, 11) and c (2, 10) train; b (1, 3, 4) would be 5."""
    names = {"a": (0, 11), "b": (1, 3, 4), "c": (2, 10)}
    groups = {f"train{i:03d}.png": group for group, own in names.items() for i in own}
    cuts = [replace(r, group=groups.get(r.path.name)) for r in images(12, "cut")]
    records = images(5) + cuts + images(3, "good", "test")
    split = split_by_protocol(records, "third", seed=0)
    chosen = {r.path.name for r in split if r.split == "train" and r.defective}
    assert chosen == {f"train{i:03d}.png" for i in (0, 2, 10, 11)}
    assert len(split) == len(records)
    # b's good image trains: b comes first, then a would be 5, and of what follows 5 alone is 1.
    shared = [replace(records[0], group="b"), *records[1:]]
    split = split_by_protocol(shared, "third", seed=0)
    chosen = {r.path.name for r in split if r.split == "train" and r.defective}
    assert chosen == {f"train{i:03d}.png" for i in (1, 3, 4, 5)}
    assert len(split) == len(shared)


def test_a_group_of_two_types_trains_while_neither_goes_beyond_its_third() -> None:
    both = [replace(r, group="a") for r in (*images(2, "cut"), *images(1, "dent"))]
    rest = images(8, "cut")[2:] + images(3, "good", "test") + images(3, "dent")[1:]
    split = split_by_protocol(images(5) + both + rest, "third", seed=0)
    assert {r.group for r in split if r.split == "train" and r.defective} == {"a"}
    split = split_by_protocol(images(5) + both + rest[:-1], "third", seed=0)
    assert sides(split)["test", "dent"] == 2  # a third of two is none, so the group is tested
    assert sides(split)["train", "cut"] == 2  # the next two


def test_good_only_uses_no_mask_and_tests_every_defect() -> None:
    assert split_by_protocol(TESTED, "good_only", seed=0) == TESTED
    split = split_by_protocol(TRAINED, "good_only", seed=0)
    assert split == [r for r in TRAINED if r.split == "test" or not r.defective]


def test_full_is_the_sets_own_split() -> None:
    assert split_by_protocol(TRAINED, "full", seed=0) == TRAINED
    assert split_by_protocol(TESTED, "given", seed=0) == TESTED


def test_folds_test_every_image_once() -> None:
    tested: Counter[Path] = Counter()
    for fold in range(1, 6):
        split = split_by_protocol(TESTED, f"full-fold{fold}of5", seed=0)
        assert [r.path for r in split] == [r.path for r in TESTED]
        counts = sides(split)
        assert 5 <= counts["test", "good"] <= 6  # 26 good images in five folds
        assert 1 <= counts["test", "cut"] <= 2
        tested.update(r.path for r in split if r.split == "test")
    assert tested == Counter(r.path for r in TESTED)


def test_held_out_defects_of_the_set_are_masks_too() -> None:
    records = TRAINED + images(4, "good", "calibration") + images(3, "cut", "calibration")
    split = split_by_protocol(records, "kshot-1", seed=0)
    assert sides(split)["calibration", "good"] == 4
    assert ("calibration", "cut") not in sides(split)
    assert split_by_protocol(records, "full", seed=0) == records


# --- groups -------------------------------------------------------------------------------------


def test_test_images_of_a_trained_group_leave(caplog: pytest.LogCaptureFixture) -> None:
    first = [replace(r, group="a") for r in images(3, "good", "test") + images(2, "cut", "test")]
    second = [replace(r, group="b") for r in images(4, "dent", "test")]
    records = images(5) + first + second
    records += images(2, "good", "validation")  # of no group
    records += [replace(r, path=r.path.with_suffix(".jpg")) for r in images(1, "good", "test")]
    with caplog.at_level(logging.WARNING):
        split = split_by_protocol(records, "hard-cut-1", seed=0)
    assert sides(split) == {
        ("train", "good"): 5,
        ("train", "cut"): 1,
        ("test", "dent"): 4,
        ("test", "good"): 1,
        ("validation", "good"): 2,
    }
    assert "'bolt': 3 good and 0 defective test images leave the test" in caplog.text
    check = [r for r in split if r.group]
    assert {r.split for r in check if r.group == "a"} == {"train"}


def test_the_sets_own_held_out_part_stays_and_its_groups_are_not_tested() -> None:
    held = images(6, "good", "calibration", group="a")
    tested = images(2, "good", "test", group="a") + images(6, "cut", "test")
    records = images(9) + images(5, "good", "test") + held + tested
    for protocol in ("good_only", "kshot-2", "full-fold1of5"):
        split = split_by_protocol(records, protocol, seed=0)
        assert [r for r in split if r.split == "calibration"] == held
        assert not [r for r in split if r.split == "test" and r.group == "a"]
    assert sides(split_by_protocol(records, "kshot-2", seed=0))["test", "good"] == 5


def test_masks_of_groups_that_train_already_come_first() -> None:
    shared = [replace(r, group="a") for r in images(3, "cut", "test")]
    other = [replace(r, label="dent", group="b") for r in images(9, "cut", "test")]
    records = images(5, group="a") + shared + other + images(2, "good", "test", group="c")
    for seed in range(5):
        split = split_by_protocol(records, "kshot-1", seed=seed)
        assert [r.group for r in split if r.split == "train" and r.defective] == ["a"]
        assert sides(split)["test", "dent"] == 9


def test_near_copies_of_what_trains_leave_the_test_by_their_looks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    records = TESTED + images(2, "good", "validation")
    split = split_by_protocol(records, "hard-cut-1", seed=0)
    [chosen] = (r.path for r in split if r.split == "train" and r.defective)
    looks = {
        **{r.path: 0 for r in records if r.path == chosen or r.path.name == "test000.png"},
        **{r.path: 1 for r in records if r.label == "cut" and r.path != chosen},  # of no part
        **{r.path: 2 for r in records if r.split == "validation" or r.path.name == "test001.png"},
    }
    found = near_copies(split, looks)
    assert {(r.path.name, r.label) for r in found} == {
        (name, label)
        for label in ("good", "dent", "hole")
        for name in ("test000.png", "test001.png")
    }
    none = "'bolt': expected .* without near copies, found 4 and 0; set near_copies to keep"
    with pytest.raises(DatasetError, match=none):
        without_near_copies([r for r in split if r.label != "dent"], looks)
    with caplog.at_level(logging.WARNING):
        kept = without_near_copies(split, looks)
    assert "2 good and 4 defective test images leave the test, because they look" in caplog.text
    caplog.clear()
    warn_of_near_copies(split, looks)
    assert "'bolt': 2 good and 4 defective test images look like training images" in caplog.text
    caplog.clear()
    warn_of_near_copies(kept, looks)
    assert caplog.text == ""
    assert near_copies(kept, looks) == []
    left = {("test", "good"): 4, ("test", "dent"): 4}
    assert sides(kept) | {("test", "hole"): 2} == sides(split) | left


def test_looks_join_given_groups_outside_the_test() -> None:
    first, second = images(2, group="a"), [replace(r, label="good") for r in images(4)[2:]]
    other = [replace(r, category="nut") for r in images(1, group="a")]
    tested = images(3, "good", "test", group="t")
    records = [*tested, *second, *first, *other]
    looks = {second[0].path: 0, first[1].path: 0, tested[0].path: 0}
    found = near_copies_grouped(records, looks)
    assert [(r.path, r.split) for r in found] == [(r.path, r.split) for r in records]
    assert [r.group for r in found] == ["t", "t", "t", "a", None, "a", "a", "a"]
    alone = near_copies_grouped(second, dict.fromkeys([r.path for r in second], 3))
    assert [r.group for r in alone] == ["file:train/good/train002.png"] * 2
    # Numbered anew in every folder, as in MVTec AD: of one name, but not of one group.
    cuts = images(4, "cut")[2:]
    pairs = {r.path: number for number, own in enumerate((second, cuts)) for r in own}
    assert len({r.group for r in near_copies_grouped([*second, *cuts], pairs)}) == 2


def test_what_was_never_tested_is_not_missed_without_near_copies() -> None:
    for records in (images(4), images(4) + images(2, "good", "test"), images(2, "cut", "test")):
        assert without_near_copies(records, {}) == records
    looks = {r.path: 0 for r in (*images(1), *images(1, "good", "test"))}
    records = images(4) + images(2, "good", "test")
    assert without_near_copies(records, looks) == records[:4] + records[5:]


def test_folds_keep_groups_whole() -> None:
    records = [replace(r, group=str(i % 7)) for i, r in enumerate(TESTED)]
    for fold in range(1, 6):
        split = split_by_protocol(records, f"full-fold{fold}of5", seed=3)
        places = {(r.group, r.split) for r in split}
        assert len(places) == 7


# --- laws ---------------------------------------------------------------------------------------

PROTOCOLS = ("kshot-1", "kshot-5", "hard-cut-2", "third", "good_only", "full-fold2of5")


@settings(max_examples=60, deadline=None)
@given(
    counts=st.tuples(*[st.integers(3, 12)] * 4),
    groups=st.lists(st.integers(0, 30), min_size=48, max_size=48),
    protocol=st.sampled_from(PROTOCOLS),
    seed=st.integers(0, 3),
    order=st.randoms(use_true_random=False),
)
def test_any_split_is_disjoint_and_does_not_depend_on_order(
    counts: tuple[int, ...],
    groups: list[int],
    protocol: str,
    seed: int,
    order: random.Random,
) -> None:
    records = images(counts[0]) + images(counts[1], "good", "test")
    records += images(counts[2], "cut", "test") + images(counts[3], "dent", "test")
    records = [
        replace(r, group=str(g) if g < 25 else None) for r, g in zip(records, groups, strict=False)
    ]
    try:
        split = split_by_protocol(records, protocol, seed=seed)
    except DatasetError:  # groups took all good or all defective images out of the test
        assume(False)
    if protocol == "third":  # nothing is lost but what shares a group with the other side
        trained = {r.group for r in split if r.split == "train"} - {None}
        assert {r.group for r in records if r.path not in {s.path for s in split}} <= trained
    tested = {r.group for r in split if r.split == "test"} - {None}
    assert not tested & {r.group for r in split if r.split != "test"}
    assert len(split) == len({r.path for r in split})
    chosen = sum(r.split == "train" and r.defective for r in split)
    if protocol.startswith(("kshot", "hard")):
        assert chosen == int(protocol[-1])
    order.shuffle(records)
    moved = [replace(r, path=Path("/else") / r.path) for r in records]
    assert names(split_by_protocol(moved, protocol, seed=seed)) == names(split)


def test_another_seed_chooses_others() -> None:
    chosen = {
        frozenset(
            r.path.name for r in split_by_protocol(TESTED, "kshot-5", seed=s) if r.split == "train"
        )
        for s in range(5)
    }
    assert len(chosen) > 1


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        (("cut",), {"train": 7, "calibration": 2, "validation": 1}),
        (("cut", "dent"), {"train": 6, "calibration": 2, "validation": 2}),
        (("a", "b", "c", "d", "e"), {"train": 10}),
    ],
)
@pytest.mark.parametrize("side", ["train", "test"])
def test_what_is_held_out_is_of_the_ten_masks(
    types: tuple[str, ...], expected: dict[str, int], side: Split
) -> None:
    records = images(30) + images(9, "good", "test")
    records += [r for label in types for r in images(12, label, side)]
    records += images(9, "rust", "test") if side == "train" else []
    chosen = split_by_protocol(records, "kshot-10", seed=0)
    held = split_records(chosen, calibration_fraction=0.2, validation_fraction=0.1, seed=0)
    assert Counter(r.split for r in held if r.defective and r.split != "test") == expected
    assert [r for r in held if r.split == "test"] == [r for r in chosen if r.split == "test"]
    every = split_records(chosen, calibration_fraction=0, validation_fraction=0, seed=0)
    assert sum(r.split == "train" and r.defective for r in every) == 10


def test_in_the_training_part_no_mask_comes_first_for_its_group() -> None:
    records = images(5) + images(9, "cut") + images(1, "dent", group="a")
    records += images(2, "good", "test") + images(2, "cut", "test")
    chosen = {
        r.label
        for seed in range(5)
        for r in split_by_protocol(records, "kshot-1", seed=seed)
        if r.split == "train" and r.defective
    }
    assert "cut" in chosen


def test_one_mask_stays_in_training_when_parts_are_held_out() -> None:
    split = split_records(
        split_by_protocol(TESTED, "kshot-1", seed=0),
        calibration_fraction=0.4,
        validation_fraction=0.4,
        seed=0,
    )
    assert sum(r.split == "train" and r.defective for r in split) == 1
    assert {r.split for r in split} == {"train", "calibration", "validation", "test"}


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("records", "protocol", "text"),
    [
        (TESTED, "kshot-18", "'bolt': expected at least 18 masks to train on, found 17"),
        (TESTED, "kshot-17", "found 6 and 0; choose fewer masks, as kshot-10"),
        (images(4) + images(4, "good", "test"), "kshot-1", "'bolt': expected masks .* use good_on"),
        (TESTED, "hard-hole-3", "expected at least 3 masks of 'hole' to train on, found 2"),
        (TESTED, "hard-rust-1", r"\(cut, dent, hole\), got 'rust'; in a benchmark hard-each-1 is"),
        (
            TESTED,
            "full",
            "in the data set's own training part .* full-fold1of5 .* benchmark, by full",
        ),
        (TRAINED, "full-fold1of5", "that split is its supervised one; use the protocol full"),
        (
            *(images(4) + images(2, "cut", "test"), "third"),
            "'bolt': expected masks within a third .* found 2 masks in 1 types and 2 groups .*kshot-1",
        ),
        (images(4) + images(4, "good", "test"), "third", "'bolt': expected masks .* use good_on"),
        (
            *(images(4) + images(9, "cut", "test", group="a"), "third"),
            "found 9 masks in 1 types and 1 groups",
        ),
        (images(4) + images(4, "good", "test"), "good_only", "found 4 and 0"),
    ],
)
def test_what_cannot_be_chosen(records: list[ImageRecord], protocol: str, text: str) -> None:
    with pytest.raises(DatasetError, match=text):
        split_by_protocol(records, protocol, seed=0)


@pytest.mark.parametrize("name", ["10shot", "kshot-0", "kshot", "full-fold6of5", "hard--3", ""])
def test_what_is_no_protocol(name: str) -> None:
    with pytest.raises(InputError, match=r"expected a protocol, as given, kshot-10, .*, got "):
        split_by_protocol(TESTED, name, seed=0)


def written(root: Path, records: list[ImageRecord], *, content: str = "") -> list[ImageRecord]:
    moved = [
        replace(r, path=root / r.path, mask=root / r.mask if r.mask else None) for r in records
    ]
    for r in moved:
        for path in (r.path, r.mask):
            if path:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content or str(path.relative_to(root)))
    return moved


def test_a_leak_is_found_by_path_by_bytes_and_by_group(tmp_path: Path) -> None:
    records = written(tmp_path, TRAINED)
    check_protocol(records)
    with pytest.raises(LeakError, match="found 1 of 15 there by their image itself"):
        check_protocol([*records, replace(records[0], split="test")])
    grouped = [replace(r, group="7") if r.path.stem.endswith("000") else r for r in records]
    with pytest.raises(
        LeakError, match=r"found 3 of 14 there by their group.*use a protocol other"
    ):
        check_protocol(grouped)
    for held in ("validation", "calibration"):  # they too had a part in the model
        moved = [replace(r, split=held) if r.split == "train" else r for r in grouped]
        with pytest.raises(LeakError, match="found 3 of 14 there by their group"):
            check_protocol(moved)
    elsewhere = [replace(r, category="nut") if r.split == "test" else r for r in grouped]
    check_protocol(elsewhere)  # a group is one category's
    records[0].path.write_bytes(records[-1].path.read_bytes())
    with pytest.raises(LeakError, match="found 1 of 14 with the same bytes"):
        check_protocol(records)


def test_the_hash_is_of_contents_and_sides(tmp_path: Path) -> None:
    records = written(tmp_path / "a", TRAINED)
    first = split_hash(records)
    assert split_hash(written(tmp_path / "b", TRAINED)[::-1]) == first
    assert split_hash([replace(records[0], split="test"), *records[1:]]) != first
    assert split_hash(records[1:]) != first
    assert split_hash([*records[:-1], replace(records[-1], label="rust")]) != first
    assert split_hash([*records[:-1], replace(records[-1], category="nut")]) != first
    mask = next(r.mask for r in records if r.mask)
    mask.write_text("drawn again")
    assert split_hash(records) != first


# --- real data ----------------------------------------------------------------------------------

DATA = os.environ.get("ANOMALY_U2NET_DATA")


@pytest.mark.skipif(not DATA, reason="set ANOMALY_U2NET_DATA to the folder of bsdata_pitting/")
def test_sequences_of_bsdata_that_train_are_not_tested() -> None:
    root = Path(str(DATA)) / "bsdata_pitting"
    split = split_by_protocol(index_dataset(root, card="bsdata_pitting"), "kshot-10", seed=0)
    check_protocol(split)
    with (root / "groups.csv").open() as file:
        rows = list(csv.DictReader(file))
    trained = {r["position_angle"] for r in rows if r["folder"] == "train/good"}
    expected = [
        r for r in rows if r["folder"] == "test/pitting" and r["position_angle"] not in trained
    ]
    tested = {r.path.stem for r in split if r.split == "test" and r.defective}
    assert tested == {r["file"] for r in expected}
    assert len(tested) == 95


@pytest.mark.skipif(not DATA, reason="set ANOMALY_U2NET_DATA to the folder of magnetic_tile/")
def test_a_third_of_magnetic_tile_leaves_no_image_on_neither_side() -> None:
    records = index_dataset(Path(str(DATA)) / "magnetic_tile", card="magnetic_tile")
    split = split_by_protocol(records, "third", seed=0)
    check_protocol(split)
    assert len(split) == len(records)
    every = Counter(r.label for r in records if r.defective)
    trained = Counter(r.label for r in split if r.split == "train" and r.defective)
    assert {label: trained[label] - n // 3 for label, n in every.items()} == {
        "blowhole": 0, "uneven": 0, "break": 0, "crack": 0, "fray": 0
    }  # fmt: skip
