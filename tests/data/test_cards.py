from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from anomaly_u2net.data.cards import list_cards, load_card
from anomaly_u2net.data.layouts import LAYOUTS
from anomaly_u2net.errors import DatasetError
from anomaly_u2net.resources import shipped

CARD = "name: own\ntitle: t\nlayout: mvtec\nlicence: l\ncitation: c\nget: g\n"


def test_every_shipped_card_loads_and_is_named_after_its_file() -> None:
    files = sorted(shipped("datasets").rglob("*.yaml"))
    assert len(files) == 15
    assert [path.stem for path in files] == list_cards()
    for path in files:
        card = load_card(path.stem)
        assert card.name == path.stem
        assert card == load_card(path)


def test_the_counts_of_mvtec_ad_add_up_to_the_papers() -> None:
    categories = load_card("mvtec_ad").categories
    assert categories is not None
    assert len(categories) == 15
    assert sum(counts["train"][0] for counts in categories.values()) == 3629
    assert sum(counts["train"][1] for counts in categories.values()) == 0
    assert sum(counts["test"][0] for counts in categories.values()) == 467
    assert sum(counts["test"][1] for counts in categories.values()) == 1258


@pytest.mark.parametrize(
    ("name", "categories", "train", "good", "defective"),
    [
        ("visa", 12, 8659, 962, 1200),
        ("btad", 3, 1799, 451, 290),
        ("mpdd", 6, 888, 176, 282),
        ("mvtec_loco", 5, 1772, 575, 993),
        ("ksdd2", 1, 2085 + 246, 894, 110),
        ("mvtec_ad2", 8, 2528, 379, 705),
    ],
)
def test_counts_add_up_to_the_published_totals(
    name: str, categories: int, train: int, good: int, defective: int
) -> None:
    stated = load_card(name).categories
    assert stated is not None
    assert len(stated) == categories
    assert sum(sum(counts["train"]) for counts in stated.values()) == train
    assert sum(counts["test"][0] for counts in stated.values()) == good
    assert sum(counts["test"][1] for counts in stated.values()) == defective


def test_one_number_where_no_source_tells_good_from_defective() -> None:
    classes = load_card("dagm").categories
    assert classes is not None
    assert (
        sum(sum(split["train"] + split["test"]) for split in classes.values())
        == 6 * 1150 + 4 * 2300
    )
    assert load_card("neu_seg").categories == {"neu_seg": {"train": (3630,), "test": (840,)}}


def test_cards_without_counts() -> None:
    bare = {
        name for name in list_cards() if not all((load_card(name).categories or {"": {}}).values())
    }
    assert bare == {"folder", "real_iad"}
    assert load_card("real_iad").total == (151_050 - 51_329, 51_329)
    assert {name for name in list_cards() if load_card(name).total} == {"real_iad"}


def test_every_layout_has_a_card() -> None:
    assert {load_card(name).layout for name in list_cards()} == set(LAYOUTS)


def test_single_category_sets() -> None:
    assert load_card("magnetic_tile").category == "magnetic_tile"
    card = load_card("bsdata_pitting")
    assert card.category == "bsdata_pitting"
    assert card.groups is not None
    assert card.groups.column == "position_angle"


def test_a_card_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_card("folder").name = "other"  # type: ignore[misc]


def test_unknown_name() -> None:
    message = "got 'magnetic_tiles'; did you mean 'magnetic_tile'?"
    with pytest.raises(DatasetError, match=message.replace("?", r"\?")):
        load_card("magnetic_tiles")
    with pytest.raises(DatasetError, match=r"one of bsdata_pitting, btad, .* got 'xyzzy'$"):
        load_card("xyzzy")


def own(folder: Path, text: str) -> Path:
    path = folder / "own.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_your_own_card(tmp_path: Path) -> None:
    text = CARD + "categories: {bolt: {train: [10, 2]}}\n"
    card = load_card(str(own(tmp_path, text)))
    assert card.categories == {"bolt": {"train": (10, 2)}}
    assert card.total is None
    assert load_card(own(tmp_path, text + "total: [10, 2]\n")).total == (10, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CARD + "licenses: x\n", r"licenses: Extra inputs .*; did you mean 'licence'\?"),
        (CARD.replace("title: t\n", ""), "title: Field required"),
        (
            CARD.replace("mvtec", "coco"),
            "layout: .*expected a layout out of mvtec, btad, .*, got 'coco'",
        ),
        (CARD + "categories: {bolt: {train: [-1, 0]}}\n", r"categories\.bolt\.train\.0: Input"),
        (
            CARD + "categories: {bolt: {train: [1, 2, 3]}}\n",
            r"categories\.bolt\.train: .*at most 2",
        ),
        (CARD + "categories: {bolt: {training: [1, 0]}}\n", r"categories\.bolt\.training"),
        (CARD + "total: [1, 2, 3]\ncategories: {bolt: {}}\n", r"total: .*at most 2"),
        (CARD + "total: [10, 2]\n", r"expected categories beside total, found none; name those"),
        (CARD + "category: nut\ncategories: {bolt: {}}\n", "to hold 'nut' alone"),
        ("- a\n- b\n", "found list; start from the shipped card 'folder'"),
        ("a: [\n", "expected a data-set card in YAML, could not read it"),
    ],
)
def test_wrong_cards(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        load_card(own(tmp_path, text))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no\.yaml: expected a data-set card in YAML"):
        load_card(tmp_path / "no.yaml")
