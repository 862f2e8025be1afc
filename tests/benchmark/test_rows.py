"""Which splits make up the row of a protocol."""

from __future__ import annotations

from pathlib import Path

import pytest

from anomaly_u2net.benchmark.rows import FOLD_NAMES, RowSplits, plan_rows, row_splits
from anomaly_u2net.errors import DatasetError, InputError
from anomaly_u2net.types import ImageRecord, Split


def images(category: str, split: Split, **labels: int) -> list[ImageRecord]:
    return [
        ImageRecord(Path(f"{category}/{split}/{label}/{i}.png"), category, split, label)
        for label, n in labels.items()
        for i in range(n)
    ]


#: As MVTec AD: each category has types of its own; brush has one, and pill one with few masks.
TESTED = [
    *images("bolt", "test", good=2, cut=3, dent=4),
    *images("brush", "test", good=2, defective=9),
    *images("pill", "test", good=2, color=2, crack=3),
]
#: As magnetic tile.
TRAINED = [
    *images("bolt", "train", good=9, cut=3, dent=4),
    *images("bolt", "test", good=2, cut=1, rust=9),
]


def test_each_type_of_each_category_trains_in_turn() -> None:
    assert row_splits("hard-each-3", TESTED) == RowSplits(
        (("bolt", "hard-cut-3"), ("bolt", "hard-dent-3"), ("pill", "hard-crack-3")),
        "3 types",
        ("brush, defective: no other type to test", "pill, color: 2 masks"),
    )


def test_a_type_is_no_other_type_to_test_where_it_only_shows_beside_the_first() -> None:
    both = {"bent+melt": 4}
    found = [
        *images("bolt", "test", good=2, bent=4, **both),
        *images("pill", "test", good=2, a=3, b=3),
    ]
    row = row_splits("hard-each-3", found)
    assert row.cells == (("pill", "hard-a-3"), ("pill", "hard-b-3"))
    assert row.left_out == (
        "bolt, bent: no other type to test", "bolt, bent+melt: no other type to test"
    )  # fmt: skip


def test_types_are_those_that_the_protocol_chooses_from() -> None:
    """Of the training part where that has masks: rust cannot be chosen there, but is tested."""
    row = row_splits("hard-each-3", TRAINED)
    assert row.cells == (("bolt", "hard-cut-3"), ("bolt", "hard-dent-3"))
    assert row.left_out == ()


def test_full_is_the_folds_where_no_category_has_masks_in_training() -> None:
    folds = tuple((name, fold) for name in ("bolt", "brush", "pill") for fold in FOLD_NAMES)
    assert row_splits("full", TESTED) == RowSplits(folds, "5 folds")
    assert row_splits("full", TESTED) == row_splits("full-folds", TESTED)
    assert row_splits("full", TRAINED) == RowSplits((("bolt", "full"),))
    own = [
        *TRAINED,
        *images("pill", "test", good=2, crack=3),
    ]  # a split of its own: no folds beside
    assert row_splits("full", own).cells == (("bolt", "full"), ("pill", "full"))


def test_two_protocols_of_one_split_are_refused() -> None:
    for pair, split in (
        (("full", "full-folds"), "full-fold1of5"),
        (("full-fold2of5", "full"), "full-fold2of5"),
        (("hard-each-3", "hard-dent-3"), "hard-dent-3"),
    ):
        text = f"protocols has {pair[1]} beside {pair[0]}, and both stand for {split} of category"
        with pytest.raises(InputError, match=text):
            plan_rows(pair, TESTED)
    assert list(plan_rows(("full", "hard-each-3", "hard-cut-2"), TRAINED)) == [
        *("full", "hard-each-3", "hard-cut-2"),
    ]


def test_no_type_that_could_train() -> None:
    with pytest.raises(DatasetError, match=r"5 masks of one type .*\(bolt, cut: 3 masks; .*fewer"):
        row_splits("hard-each-5", TESTED)
    with pytest.raises(DatasetError, match=r"found none \(no masks\)"):
        row_splits("hard-each-5", images("bolt", "test", good=2))
