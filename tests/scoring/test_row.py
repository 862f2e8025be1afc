from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from anomaly_u2net.errors import InputError
from anomaly_u2net.scoring import COLUMNS, ScoreRow
from anomaly_u2net.scoring.row import verdict_columns
from anomaly_u2net.types import Region, Verdict

ORDER = [
    "path",
    "source_sha256",
    "category",
    "image_score",
    "image_threshold",
    "review_threshold",
    "pixel_threshold",
    "verdict",
    "defect_count",
    "defect_area",
    "largest_area",
    "largest_x",
    "largest_y",
    "largest_width",
    "largest_height",
    "largest_centroid_x",
    "largest_centroid_y",
    "decode_ms",
    "model_ms",
    "post_ms",
    "model_hash",
    "recipe_hash",
    "calibration_hash",
    "error",
]
HASHES = {"model_hash": "m", "recipe_hash": "r", "calibration_hash": "c"}


def ok_row(**changes: Any) -> ScoreRow:
    verdict = verdict_columns(Verdict("OK", 0.1, 0.5, 0.4))
    known = {"path": "/a.png", "source_sha256": "00", "category": "brick"}
    return ScoreRow(**{**known, **HASHES, **verdict, **changes})


def test_columns_and_their_order() -> None:
    assert list(COLUMNS) == ORDER
    assert list(ok_row().as_dict()) == ORDER
    assert {name for name, kind in COLUMNS.items() if kind is int} == {
        "defect_count", "defect_area", "largest_area",
        "largest_x", "largest_y", "largest_width", "largest_height",
    }  # fmt: skip


def test_verdict_columns_take_the_first_region_and_plain_numbers() -> None:
    regions = (
        Region(np.int64(6), (1, 2, 3, 4), (np.float32(1.5), 2.25), 0.9),  # type: ignore[arg-type]
        Region(2, (5, 5, 2, 1), (5.5, 5.0), 0.8),
    )
    columns = verdict_columns(Verdict("NG", np.float32(0.75), 0.5, 0.4, regions))  # type: ignore[arg-type]
    assert columns == {
        "image_score": 0.75, "image_threshold": 0.5, "review_threshold": None,
        "pixel_threshold": 0.4, "verdict": "NG",
        "defect_count": 2, "defect_area": 8, "largest_area": 6,
        "largest_x": 1, "largest_y": 2, "largest_width": 3, "largest_height": 4,
        "largest_centroid_x": 1.5, "largest_centroid_y": 2.25,
    }  # fmt: skip
    assert {type(value) for value in columns.values()} == {float, int, str, type(None)}


def test_a_review_row_names_the_threshold_that_made_it() -> None:
    lower = np.float32(0.25)
    verdict = Verdict("REVIEW", 0.4, 0.5, 0.4, review_threshold=lower)  # type: ignore[arg-type]
    row = ok_row(**verdict_columns(verdict))
    assert (row.verdict, row.review_threshold, row.image_threshold) == ("REVIEW", 0.25, 0.5)


def test_without_defect_the_count_is_zero_and_the_largest_is_undefined() -> None:
    row = ok_row()
    assert (row.defect_count, row.defect_area) == (0, 0)
    assert row.largest_area is None
    assert row.largest_centroid_x is None


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"image_score": float("nan")}, "image_score: expected a finite number, got nan"),
        ({"defect_count": True}, "defect_count: expected int, got True"),
        ({"image_score": 1}, "image_score: expected float, got 1"),
        ({"path": None}, "path: expected str, got None"),
        ({"verdict": "GOOD"}, "one of OK, NG, REVIEW, ERROR, got 'GOOD'"),
        ({"verdict": "ERROR"}, "a text exactly when the verdict is ERROR"),
        ({"error": "broken"}, "a text exactly when the verdict is ERROR"),
        ({"image_score": None}, "a row with verdict OK lacks image_score"),
    ],
)
def test_a_row_that_cannot_be_is_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        ok_row(**changes)
