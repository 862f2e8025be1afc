"""One image, one row: the columns of the journal and of the tables."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, get_args

from anomaly_u2net.errors import InputError
from anomaly_u2net.types import Decision, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRow:
    """What was found in one image, by which model and thresholds.

    ``path`` is absolute, symbolic links resolved. Scores are in 0..1 and thresholds on their scale
    (some rules give one below 0 or above 1); ``review_threshold`` is ``None`` where there is only
    OK and NG. Areas, positions and sizes are in pixels of the original image; ``*_ms`` in
    milliseconds (``decode_ms`` without hashing, ``post_ms`` without the overlay). ``largest_*``
    describe the defect region
    of the largest area. ``source_sha256`` is ``None`` when the bytes could not be read. What is
    undefined is ``None``; an ``ERROR`` row has ``error`` and no scores.

    Raises ``InputError`` for a value of a wrong type, a number that is not finite, and a row
    that contradicts itself.

    >>> row = ScoreRow(path="/line/a.png", verdict="ERROR", error="an empty file",
    ...                model_hash="m", recipe_hash="r", calibration_hash="c")
    >>> row.image_score is None, list(COLUMNS)[:3]
    (True, ['path', 'source_sha256', 'category'])
    """

    path: str
    source_sha256: str | None = None
    category: str | None = None
    image_score: float | None = None
    image_threshold: float | None = None
    review_threshold: float | None = None
    pixel_threshold: float | None = None
    verdict: Decision
    defect_count: int | None = None
    defect_area: int | None = None
    largest_area: int | None = None
    largest_x: int | None = None
    largest_y: int | None = None
    largest_width: int | None = None
    largest_height: int | None = None
    largest_centroid_x: float | None = None
    largest_centroid_y: float | None = None
    decode_ms: float | None = None
    model_ms: float | None = None
    post_ms: float | None = None
    model_hash: str
    recipe_hash: str
    calibration_hash: str
    error: str | None = None

    def __post_init__(self) -> None:
        for name, kind in COLUMNS.items():
            value = getattr(self, name)
            if value is None and name not in REQUIRED:
                continue
            # The exact type: True is no count, and numpy scalars are not JSON.
            if type(value) is not kind:
                raise InputError(f"row column {name}: expected {kind.__name__}, got {value!r}")
            if isinstance(value, float) and not math.isfinite(value):
                raise InputError(f"row column {name}: expected a finite number, got {value}")
        if self.verdict not in get_args(Decision):
            raise InputError(
                f"row column verdict: expected one of {', '.join(get_args(Decision))}, "
                f"got {self.verdict!r}"
            )
        if (self.verdict == "ERROR") != bool(self.error):
            raise InputError(
                f"row column error: expected a text exactly when the verdict is ERROR, "
                f"got verdict {self.verdict} with error {self.error!r}"
            )
        lacking = [name for name in _SCORED if getattr(self, name) is None]
        if self.verdict != "ERROR" and lacking:
            raise InputError(
                f"a row with verdict {self.verdict} lacks {', '.join(lacking)}: expected a value"
            )

    def as_dict(self) -> dict[str, Any]:
        """The columns in order, for JSON and tables."""
        return {name: getattr(self, name) for name in COLUMNS}


_KINDS: dict[Any, type] = {
    "str": str,
    "str | None": str,
    "Decision": str,
    "int | None": int,
    "float | None": float,
}
#: Every column in order, with the type of its values.
COLUMNS: dict[str, type] = {field.name: _KINDS[field.type] for field in fields(ScoreRow)}
#: The columns that are never ``None``.
REQUIRED = ("path", "verdict", "model_hash", "recipe_hash", "calibration_hash")
# The columns that every row has unless its verdict is ERROR.
_SCORED = (
    "source_sha256",
    "category",
    "image_score",
    "image_threshold",
    "pixel_threshold",
    "defect_count",
    "defect_area",
)


def verdict_columns(verdict: Verdict) -> dict[str, Any]:
    """The columns that a verdict fills, as plain Python numbers.

    >>> verdict_columns(Verdict("OK", 0.1, 0.5, 0.4))["defect_count"]
    0
    """
    review = verdict.review_threshold
    columns: dict[str, Any] = {
        "image_score": float(verdict.image_score),
        "image_threshold": float(verdict.image_threshold),
        "review_threshold": None if review is None else float(review),
        "pixel_threshold": float(verdict.pixel_threshold),
        "verdict": verdict.decision,
        "defect_count": len(verdict.regions),
        "defect_area": int(verdict.area),
    }
    if verdict.regions:
        largest = verdict.regions[0]
        x, y, width, height = largest.box
        columns |= {
            "largest_area": int(largest.area),
            "largest_x": int(x),
            "largest_y": int(y),
            "largest_width": int(width),
            "largest_height": int(height),
            "largest_centroid_x": float(largest.centroid[0]),
            "largest_centroid_y": float(largest.centroid[1]),
        }
    return columns
