"""Audits of miniatures with planted faults: each is found, and nothing else is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from anomaly_u2net.data import geometry
from anomaly_u2net.data.audit import (
    Audit,
    Finding,
    audit,
    group_rows,
    region_widths,
    shift,
    sizes,
    standing,
)
from anomaly_u2net.data.audit.findings import worst_first
from anomaly_u2net.data.index import index_dataset
from anomaly_u2net.errors import InputError

SIZE = (96, 128)
PLACES = {"train/good": 8, "test/good": 8, "train/cut": 6, "test/cut": 3}


def surface(seed: int) -> np.ndarray:
    """Blotches of several sizes, gray (96, 128)."""
    rng = np.random.default_rng(seed)
    sizes = ((5, 4), (11, 8), (22, 16), (44, 32))
    layers = [
        cv2.resize(rng.normal(0, 9, s[::-1]), SIZE[::-1], interpolation=cv2.INTER_CUBIC)
        for s in sizes
    ]
    return 110 + np.sum(layers, axis=0)


def save(plane: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(np.clip(plane, 0, 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def part(tmp_path: Path) -> Path:
    """One sound category: every image another surface, every defect a bright square."""
    root = tmp_path / "part"
    seed = 0
    for place, count in PLACES.items():
        for number in range(count):
            plane = surface(seed := seed + 1)
            name = f"{place.replace('/', '_')}_{number}"
            if place.endswith("cut"):
                mask = np.zeros(SIZE)
                mask[30:42, 40 + number : 60 + number] = 255
                plane[mask > 0] = 240
                save(mask, root / "ground_truth/cut" / f"{name}_mask.png")
            save(plane, root / place / f"{name}.png")
    return root


def look(root: Path, **how: object) -> Audit:
    return audit(index_dataset(root), **how)  # type: ignore[arg-type]


def names(finding: Finding) -> list[list[str]]:
    return [[path.stem for path in item.files] for item in finding.items]


def only(result: Audit) -> Finding:
    """The one finding above info."""
    loud = [finding for finding in result.findings if finding.severity != "info"]
    assert [f.check for f in loud] == [f.check for f in loud[:1]], [f.text for f in loud]
    return loud[0]


def test_a_sound_category_has_nothing_above_info(part: Path) -> None:
    result = look(part)
    assert result.images == 25
    assert [finding.check for finding in result.findings] == ["defect_size", "counts"]
    assert not result.fails("warning")
    assert result.joined == ()
    assert "good 16 (8 test, 8 train); cut 9 (3 test, 6 train)" in result.named("counts")[0].text


def test_the_same_file_in_two_splits(part: Path) -> None:
    shutil.copy(part / "train/good/train_good_3.png", part / "test/good/x.png")
    pixels = np.asarray(Pillow.open(part / "train/good/train_good_5.png"))
    Pillow.fromarray(pixels).save(part / "test/good/y.bmp")  # other bytes, the same pixels
    found = [f for f in look(part).findings if f.severity != "info"]
    assert [f.check for f in found] == ["copies_across_splits"]  # and not as near copies again
    assert sorted(map(sorted, names(found[0]))) == [["train_good_3", "x"], ["train_good_5", "y"]]
    assert "4 images in 2 groups" in found[0].text
    assert "in several splits (1 of 2 to the byte)" in found[0].text


def test_the_same_part_in_another_light_and_place(part: Path) -> None:
    plane = surface(2)  # train_good_1
    save(0.6 * np.roll(plane, (2, 3), axis=(0, 1)), part / "test/good/again.png")
    found = only(look(part))
    assert (found.severity, found.check) == ("warning", "near_copies_across_splits")
    assert names(found) == [["again", "train_good_1"]]
    assert found.items[0].note == "test/good, train/good"
    assert found.text.startswith("2 images in 1 group: the same thing")


def test_groups_that_are_known_are_no_warning(part: Path) -> None:
    save(0.7 * surface(2), part / "train/good/again.png")
    result = look(part)
    assert only(result).check == "near_copies"
    assert "--write-groups" in only(result).advice
    rows = group_rows(result.joined, [r.path for r in index_dataset(part)], root=part)
    (part / "groups.csv").write_text("file,group\n" + "".join(f"{a},{b}\n" for a, b in rows))
    known = look(part)
    assert not known.fails("warning")
    assert names(known.named("near_copies_known")[0]) == [["again", "train_good_1"]]
    assert known.joined == result.joined


def test_groups_that_the_splits_part_are_an_error(part: Path) -> None:
    rows = ["train_good_0,A", "test_good_0,A", "train_good_1,B", "train_good_2,B", "test_cut_2,C"]
    (part / "groups.csv").write_text(
        "\n".join(["file,group", *rows, "train_cut_5,C", "test_cut_1,"])
    )
    found = only(look(part))  # no two of them look alike
    assert (found.severity, found.check) == ("error", "groups_across_splits")
    assert found.text.startswith("4 images in 2 groups: named as one group")
    assert found.numbers == {"images": 4, "groups": 2}
    items = {item.note: sorted(path.stem for path in item.files) for item in found.items}
    assert items == {
        "group A: test/good, train/good": ["test_good_0", "train_good_0"],
        "group C: test/cut, train/cut": ["test_cut_2", "train_cut_5"],
    }


def test_a_parted_group_is_not_told_again_by_its_looks(part: Path) -> None:
    save(0.7 * surface(2), part / "test/good/again.png")
    (part / "groups.csv").write_text("file,group\nagain,A\ntrain_good_1,A\n")
    assert only(look(part)).check == "groups_across_splits"


def test_one_part_with_two_labels(part: Path) -> None:
    plane = surface(3) * 0.8
    plane[70:76, 100:106] = 230
    save(plane, part / "train/cut/again.png")
    mask = np.zeros(SIZE)
    mask[70:76, 100:106] = 255
    save(mask, part / "ground_truth/cut/again_mask.png")
    found = {f.check for f in look(part).findings if f.severity == "warning"}
    assert found == {"near_copies", "near_copies_unlike_labels"}


@pytest.mark.parametrize(
    ("check", "severity", "spoil", "note"),
    [
        ("mask_empty", "error", lambda m: m * 0, ""),
        ("mask_full", "error", lambda m: m * 0 + 255, ""),
        ("mask_size", "error", lambda m: m[:, :-1], "image 96 × 128, mask 96 × 127 (H × W)"),
        ("mask_large", "warning", lambda m: 255 - m, "marked"),
        ("mask_unreadable", "error", lambda m: m // 85, "label numbers"),
    ],
)
def test_wrong_masks(
    part: Path, check: str, severity: str, spoil: Callable[[np.ndarray], np.ndarray], note: str
) -> None:
    path = part / "ground_truth/cut/train_cut_4_mask.png"
    save(spoil(np.asarray(Pillow.open(path))), path)
    found = only(look(part))
    assert (found.check, found.severity) == (check, severity)
    assert names(found) == [["train_cut_4", "train_cut_4_mask"]]
    assert note in found.items[0].note
    assert "1 of 9 (11 %)" in found.text


def test_a_mask_on_nothing_visible_and_soft_edges(part: Path) -> None:
    save(surface(12), part / "train/cut/train_cut_3.png")  # the surface without its defect
    path = part / "ground_truth/cut/test_cut_0_mask.png"
    soft = cv2.GaussianBlur(np.asarray(Pillow.open(path)).astype(np.float32), (0, 0), 1)
    save(soft, path)
    masks = {r.path.stem: r for r in index_dataset(part) if r.defective}
    gray = np.asarray(Pillow.open(masks["train_cut_3"].path))
    mask = np.asarray(Pillow.open(masks["train_cut_3"].mask)) > 127
    bare = standing(gray, mask)
    assert bare is not None
    assert bare.elsewhere > 0.05
    result = look(part)
    assert names(result.named("mask_values")[0]) == [["test_cut_0", "test_cut_0_mask"]]
    unseen = [name for f in result.named("mask_unseen") for name, _ in names(f)]
    assert set(unseen) <= {"train_cut_3"}


def test_a_mask_on_a_blank_picture_is_named(part: Path) -> None:
    save(np.full(SIZE, 110), part / "train/cut/train_cut_3.png")
    found = only(look(part))
    assert (found.check, found.severity) == ("mask_unseen", "warning")
    assert names(found) == [["train_cut_3", "train_cut_3_mask"]]
    assert found.items[0].note == "contrast 0.00; 100% of 99 other places have as much"


def test_where_a_mask_means_nothing_its_place_is_uniform() -> None:
    """By chance a share of x has at most x elsewhere: it is a permutation test."""
    mask = np.zeros(SIZE, bool)
    mask[40:52, 50:66] = True
    planes = [np.clip(surface(seed), 0, 255).astype(np.uint8) for seed in range(60)]
    found = np.array([standing(plane, mask).elsewhere for plane in planes])  # type: ignore[union-attr]
    assert 0.25 < np.median(found) < 0.75
    assert (found <= 0.2).mean() < 0.4


def test_a_region_too_large_for_another_place_is_not_judged() -> None:
    mask = np.zeros(SIZE, bool)
    mask[2:-2, 2:-2] = True
    assert standing(np.zeros(SIZE, np.uint8), mask) is None


def test_widths_known_by_hand() -> None:
    mask = np.zeros((60, 90), bool)
    mask[2:3, 2:80] = True  # a line of 1
    mask[10:13, 2:80] = True  # of 3
    mask[20:30, 5:15] = True  # a square of 10
    y, x = np.mgrid[:60, :90]
    mask |= np.hypot(y - 44, x - 50) <= 8  # a jagged disc, 15 to 17 across
    line, three, square, disc = region_widths(mask)
    assert (line, three, square) == (1, 3, 10)
    assert disc == pytest.approx(15, abs=0.5)
    assert region_widths(np.zeros((4, 4), bool)) == ()
    assert region_widths(np.ones((6, 40), bool)) == (6,)


def test_defects_too_small_for_the_input(part: Path) -> None:
    own = look(part, fit="native").named("defect_size")[0]
    assert own.numbers["histogram"] == {"cut": [0, 0, 0, 0, 9, 0, 0]}  # 12 px, nine times
    assert own.severity == "info"
    just = look(part, size=(32, 32)).named("defect_size")[0]  # 128 → 32: 12 px become 3
    assert just.numbers["histogram"] == {"cut": [0, 0, 9, 0, 0, 0, 0]}
    assert just.text.startswith("0 of 9 (0 %)")
    for number in range(6):
        mask = np.zeros(SIZE)
        mask[30:34, 40:70] = 255
        save(mask, part / f"ground_truth/cut/train_cut_{number}_mask.png")
    result = only(look(part, size=(64, 64)))  # 4 px become 2
    assert result.text.startswith("6 of 9 (67 %) defect regions are under 3 px wide at 64²")
    assert "Use input.size 256 (0% under 3 px there)" in result.advice
    stretched = look(part, size=(96, 64), fit="stretch").named("defect_size")[0]  # half as wide
    assert stretched.numbers["histogram"] == {"cut": [0, 6, 0, 3, 0, 0, 0]}


def test_images_too_large_to_be_taken_as_they_are(
    part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        mask = np.zeros(SIZE)
        mask[30:33, 40:70] = 255
        save(mask, part / f"ground_truth/cut/train_cut_{number}_mask.png")
    advice = only(look(part, size=(32, 32))).advice
    assert advice.endswith(
        "256 (0% under 3 px there), or input.fit native with crops (augment.crop)."
    )
    for module in (geometry, sizes):
        monkeypatch.setattr(module, "MAX_NATIVE_PIXELS", SIZE[0] * SIZE[1] - 1)
    assert only(look(part, size=(32, 32))).advice == "Use input.size 256 (0% under 3 px there)."
    assert look(part, fit="native").named("native_too_large")[0].severity == "error"


def test_masks_of_label_numbers_and_of_several_files(part: Path, tmp_path: Path) -> None:
    records = index_dataset(part)
    masked = [i for i, record in enumerate(records) if record.defective]
    first, second = masked[:2]
    numbers = records[first].mask
    assert numbers is not None
    save(np.asarray(Pillow.open(numbers)) // 127, numbers)  # 2: a label
    records[first] = replace(records[first], mask_values="labels")
    several = tmp_path / "several"
    whole = np.asarray(Pillow.open(records[second].mask))
    for name, columns in (("a", slice(0, 50)), ("b", slice(50, None))):
        piece = np.zeros_like(whole)
        piece[:, columns] = whole[:, columns]
        save(piece, several / f"{name}.png")
    records[second] = replace(records[second], mask=several)
    result = audit(records)
    assert not result.fails("warning"), [f.text for f in result.findings]
    assert result.named("defect_size")[0].numbers["histogram"] == {"cut": [0, 0, 0, 0, 0, 9, 0]}
    assert result.named("mask_values") == []


def test_drift_of_light(part: Path) -> None:
    for path in (part / "test/good").iterdir():
        save(np.asarray(Pillow.open(path)) * 0.5, path)
    found = [f for f in look(part).findings if f.severity == "warning"]
    assert {f.numbers["measure"] for f in found} == {"brightness", "contrast"}
    assert all(f.check == "drift" and f.numbers["p"] < 0.002 for f in found)
    assert "differ in brightness" in found[0].text
    for path in sorted((part / "test/good").iterdir())[4:]:
        path.unlink()
    few = look(part).named("drift")[0]
    assert few.severity == "info"
    assert "too few independent good images to compare training (8) with test (4)" in few.text


def test_images_of_one_group_count_once(part: Path) -> None:
    rows = [f"train/good/train_good_{n}.png,{n // 4}" for n in range(8)]
    (part / "groups.csv").write_text("\n".join(["file,group", *rows]))
    found = look(part).named("drift")[0]
    assert "to compare training (2) with test (8); 5 of each" in found.text


def test_groups_of_other_sizes_are_no_drift(tmp_path: Path) -> None:
    """Ten times 4/3 have the mean 4/3, but for its last bit."""
    rng = np.random.default_rng(0)
    rows = ["file,group"]
    for place, count in (("train", 80), ("test", 10)):
        for number in range(count):
            name = f"{place}/good/{number}.png"
            save(rng.integers(0, 255, (30, 40)), tmp_path / "part" / name)
            rows.append(f"{name},{place}{number // 10 if place == 'train' else number}")
    (tmp_path / "part/groups.csv").write_text("\n".join(rows))
    assert np.mean([40 / 30] * 10) != 40 / 30
    assert look(tmp_path / "part").named("drift") == []


def test_a_shift_is_a_permutation_test() -> None:
    assert shift([1, 1, 1], [1, 1, 1]) == (0.0, None, 1.0)
    assert shift([4 / 3] * 7, [3 / 4] * 7)[:2] == (1.0, None)  # however the sums are rounded
    far = shift(range(10), range(100, 110))
    assert far.distance == 1
    assert far.p < 0.001
    rng = np.random.default_rng(0)
    null = [shift(*rng.normal(size=(2, 12)), seed=i).p for i in range(30)]
    assert 0.25 < np.mean(null) < 0.75
    with pytest.raises(InputError, match="expected two samples, got 0 and 3 values"):
        shift([], [1, 2, 3])


def test_what_cannot_be_read_is_a_finding(part: Path) -> None:
    (part / "train/good/train_good_0.png").write_bytes(b"")
    found = only(look(part))
    assert (found.check, found.severity) == ("image_unreadable", "error")
    assert "1 of 25 images" in found.text
    assert "empty file" in found.items[0].note


def test_types_with_few_images(part: Path) -> None:
    for path in sorted((part / "train/cut").iterdir())[2:]:
        path.unlink()
    for path in sorted((part / "test/cut").iterdir())[1:]:
        path.unlink()
    found = only(look(part))
    assert found.check == "few_masks"
    assert "cut (3)" in found.text


def test_findings_are_sorted_and_compared() -> None:
    found = worst_first([Finding(s, s, "", s) for s in ("info", "error", "warning")])  # type: ignore[arg-type]
    assert [f.severity for f in found] == ["error", "warning", "info"]
    result = Audit(1, found[1:])
    assert (result.fails("error"), result.fails("warning")) == (False, True)
    with pytest.raises(InputError, match="expected a severity, error, warning, info, got 'bad'"):
        result.fails("bad")  # type: ignore[arg-type]


def test_the_order_of_records_does_not_matter(part: Path) -> None:
    save(0.7 * surface(2), part / "train/good/again.png")
    records = index_dataset(part)
    mixed = [records[i] for i in np.random.default_rng(0).permutation(len(records))]
    assert audit(mixed).to_dict(part) == audit(records).to_dict(part)
