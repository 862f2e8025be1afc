"""Calibrate any tool from a table of its scores: category, label, score; if known, group and fold."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from anomaly_u2net.calibration.calibration import Calibration
from anomaly_u2net.calibration.checks import Floats
from anomaly_u2net.calibration.cross import cross_conformal
from anomaly_u2net.calibration.held import Held, known_groups
from anomaly_u2net.calibration.promises import best_f1_threshold, image_thresholds
from anomaly_u2net.calibration.terms import Terms
from anomaly_u2net.calibration.thresholds import CategoryThresholds
from anomaly_u2net.errors import CalibrationError, InputError, LeakError
from anomaly_u2net.files import sha256_json
from anomaly_u2net.types import GOOD

COLUMNS = ("category", "label", "score")
#: What may stand in the column split; images of any other split are not held out.
HELD_OUT = ("", "calibration", "validation")
#: What other tools write for a good part, or for good and defective: no names of defect types.
NO_LABELS = ("normal", "nominal", "ok", "pass", "true", "false", "0", "1", "-1", "0.0", "1.0")

#: Label, score, group and fold of one image.
_Entry: TypeAlias = tuple[str, float, str | None, str | None]


@dataclass(frozen=True, slots=True)
class ImageScores:
    """N held-out images of one category: their labels, scores and groups.

    labels: "good" or the defect type. groups: the part each image shows, None where unknown.
    folds: None when one model scored all images; else, for each image, the fold whose model, trained
    without it, gave the score (None for an image that is in no fold).
    Raises InputError unless there is one of each per image and every score is finite.
    """

    labels: tuple[str, ...]
    scores: tuple[float, ...]
    groups: tuple[str | None, ...]
    folds: tuple[str | None, ...] | None = None

    def __post_init__(self) -> None:
        if self.folds is not None and len(self.folds) != len(self.scores):
            raise InputError(
                f"expected one fold per image, got {len(self.folds)} for {len(self.scores)} images"
            )
        if not len(self.labels) == len(self.scores) == len(self.groups):
            raise InputError(
                f"expected one label, score and group per image, got {len(self.labels)} labels, "
                f"{len(self.scores)} scores and {len(self.groups)} groups"
            )
        if not all(math.isfinite(score) for score in self.scores):
            raise InputError("expected finite scores, got NaN or infinity")

    @property
    def good(self) -> Floats:
        """The scores of the good images."""
        return np.array([s for s, k in zip(self.scores, self.labels, strict=True) if k == GOOD])

    @property
    def defective(self) -> Floats:
        """The scores of the defective images."""
        return np.array([s for s, k in zip(self.scores, self.labels, strict=True) if k != GOOD])

    @property
    def good_groups(self) -> list[str | None] | None:
        """The groups of the good images; None when none is known."""
        return known_groups(self.groups, np.array([label == GOOD for label in self.labels]))

    @property
    def defect_groups(self) -> list[str | None] | None:
        """The groups of the defective images; None when none is known."""
        return known_groups(self.groups, np.array([label != GOOD for label in self.labels]))

    def good_folds(self) -> tuple[list[Floats], list[list[str | None]] | None]:
        """The scores of the good images of each fold, folds sorted by name, and their groups.

        For `cross_conformal` and `cross_conformal_p`; the groups are None where none is known.
        Raises CalibrationError without good images, InputError without folds, for a good image that
        is in none, or when all are in one.
        """
        good = [place for place, label in enumerate(self.labels) if label == GOOD]
        if not good:
            raise CalibrationError(
                f"there are no good images among the {len(self.labels)}; the rule cross_conformal "
                "looks at the scores of good images in 2 folds or more"
            )
        homes = [None if self.folds is None else self.folds[place] for place in good]
        names = sorted({home for home in homes if home is not None})
        if None in homes:
            raise InputError(
                f"{homes.count(None)} of {len(good)} good images have no fold: the rule "
                "cross_conformal needs a column fold that names, for each good image, the fold "
                "whose model did not see it"
            )
        if len(names) == 1:
            raise InputError(
                f"the file has one fold, {names[0]!r}, for all {len(good)} good images; expected 2 "
                "folds or more, each scored by a model that was trained without it. If one model "
                "that saw none of the images scored them all, leave the column fold out and use "
                "the rule false_reject"
            )
        members = [
            [place for place, home in zip(good, homes, strict=True) if home == name]
            for name in names
        ]
        scores = [np.array([self.scores[place] for place in fold]) for fold in members]
        if self.good_groups is None:
            return scores, None
        return scores, [[self.groups[place] for place in fold] for fold in members]

    def need_one_model(self) -> None:
        """Raise InputError when the scores are those of K models."""
        if self.folds is not None:
            raise InputError(
                "these are the scores of K models (column fold), and this promise is about one "
                "model: use --rule cross_conformal, or leave the column out if one model that saw "
                "none of the images scored them all"
            )


def read_scores(path: str | Path) -> dict[str, ImageScores]:
    """Read image scores from a CSV file (UTF-8, comma, a header): category → scores, sorted.

    Columns, in any order: ``category``, ``label`` ("good", or the defect type), ``score`` (higher =
    more defective), and optionally ``group`` (the part that the image shows; empty: unknown),
    ``fold`` (the fold of K whose model did not see the image and scored it; for the rule
    cross_conformal) and ``split``. Other columns are left unread.

    Raises InputError, naming the file and line, for a missing file or column, an empty cell, a
    label that seems to mean good without being "good" (or 0 or 1), a score that is not a finite
    number; LeakError for a row whose split is neither empty nor in `HELD_OUT`.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "scores.csv"
    >>> _ = path.write_text("category,label,score,group\\nnut,good,0.2,a\\nnut,bent,0.9,b\\n")
    >>> read_scores(path)["nut"].good, read_scores(path)["nut"].groups
    (array([0.2]), ('a', 'b'))
    """
    path = Path(path)
    found: dict[str, list[_Entry]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            _check_header(path, reader.fieldnames)
            for row in reader:
                category, entry = _entry(row, where=f"{path}, line {reader.line_num}")
                found.setdefault(category, []).append(entry)
    except OSError as error:
        raise InputError(
            f"{path}: expected a CSV file of scores that can be read, got: {error.strerror}"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: this is not CSV in UTF-8 ({error})") from error
    if not found:
        raise InputError(f"{path}: expected a row per image below the header, got none")
    return {category: _image_scores(rows) for category, rows in sorted(found.items())}


def calibrate_scores(
    scores: Mapping[str, ImageScores],
    *,
    terms: Terms | None = None,
    split: str = "calibration",
) -> Calibration:
    """Image thresholds per category from plain scores of held-out images, of whatever tool.

    scores: what `read_scores` gives. terms: what is asked for, by default `Terms()`. There are no
    maps, so a defective image counts as one defect with its image score, and ``pixel`` is None.
    The calibration names the scores by their hash in ``model_hash``; no model will take it.

    The rule "cross_conformal" (see there) takes the good images' scores by the K models of their
    folds; defective images are counted and not used. Its threshold is for the lowest of the K
    models' scores of a new image. All other rules refuse scores of K models.

    Raises CalibrationError (naming the category) for images that cannot support the rule, LeakError
    for a test split, InputError for folds that do not fit the rule and for labels as `read_scores`
    refuses them.

    >>> table = ImageScores(("good",) * 3 + ("bent",), (0.1, 0.2, 0.5, 0.9), (None,) * 4)
    >>> made = calibrate_scores({"nut": table}, terms=Terms(false_reject=0.25))
    >>> made.for_category("nut").image.value
    0.5
    """
    terms = Terms() if terms is None else terms
    categories = {}
    for name, one in scores.items():
        for label in sorted(set(one.labels)):
            _check_label(label, where=name)
        try:
            categories[name] = _category(one, terms)
        except CalibrationError as error:
            raise CalibrationError(f"{name}: {error}") from error
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
    content = {
        name: [one.labels, one.scores, one.groups, *([] if one.folds is None else [one.folds])]
        for name, one in scores.items()
    }
    return Calibration(
        categories=categories,
        model_hash=f"scores:{sha256_json(content)}",
        recipe_hash="none",
        split=split,
        images={
            name: {"good": int(one.good.size), "defective": int(one.defective.size)}
            for name, one in scores.items()
        },
    )


def _category(one: ImageScores, terms: Terms) -> CategoryThresholds:
    if terms.rule == "cross_conformal":
        folds, groups = one.good_folds()
        found = cross_conformal(
            folds, alpha=terms.false_reject, groups=groups, allow_weaker=terms.allow_weaker
        )
        return CategoryThresholds(found.as_threshold(), None)
    one.need_one_model()
    held = Held("image", one.good, one.defective, one.good_groups, one.defect_groups)
    image, review = image_thresholds(held, terms)
    best = best_f1_threshold(held) if one.defective.size else None
    return CategoryThresholds(image, None, best, None, review)


def _image_scores(rows: list[_Entry]) -> ImageScores:
    labels, scores, groups, folds = zip(*rows, strict=True)
    return ImageScores(labels, scores, groups, folds if any(folds) else None)


def _check_header(path: Path, names: object) -> None:
    found = list(names) if isinstance(names, list) else []
    missing = [name for name in COLUMNS if name not in found]
    if missing:
        raise InputError(
            f"{path}: expected a comma-separated header with the columns {', '.join(COLUMNS)} and, "
            f"if known, group; missing {', '.join(missing)}, got {','.join(found)[:100]!r}"
        )
    twice = next((name for name in found if found.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{path}: the column {twice!r} is there twice")


def _entry(row: dict[str | None, str | None], *, where: str) -> tuple[str, _Entry]:
    if None in row or any(value is None for value in row.values()):
        raise InputError(f"{where}: expected as many cells as the header has columns")
    cells = {str(name): (value or "").strip() for name, value in row.items()}
    for name in COLUMNS:
        if not cells[name]:
            raise InputError(f"{where}: the {name} is empty")
    _check_label(cells["label"], where=where)
    if cells.get("split", "").lower() not in HELD_OUT:
        raise LeakError(
            f"{where}: this image is of the split {cells['split']!r}; thresholds come from images "
            "that are neither tested on nor trained on: give the scores of held-out images "
            "(split calibration, validation, or empty)"
        )
    try:
        score = float(cells["score"])
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise InputError(
            f"{where}: expected a finite number as score (with a decimal point), "
            f"got {cells['score']!r}"
        )
    known = [cells.get(name) or None for name in ("group", "fold")]
    return cells["category"], (cells["label"], score, known[0], known[1])


def _check_label(label: str, *, where: str) -> None:
    """Raise InputError for a label that would silently make good parts defective ones."""
    if label != GOOD and label.strip().lower() in (GOOD, *NO_LABELS):
        raise InputError(
            f"{where}: the label {label!r} does not say whether the part is good: write "
            f"{GOOD!r} for good parts and the name of the defect for all others"
        )
