"""The calibration file: every category's thresholds, and what they were made from."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from anomaly_u2net.calibration.thresholds import CategoryThresholds, Threshold
from anomaly_u2net.errors import CalibrationError, LeakError
from anomaly_u2net.files import sha256_json, write_json

#: The key of a threshold that files from before it was written lack.
_ADDED = "false_reject_unit"
_AGAIN = "calibrate again to write a sound file"


@dataclass(frozen=True, slots=True)
class Calibration:
    """Thresholds per category with their provenance.

    categories: the thresholds by category name.
    model_hash, recipe_hash: what produced the scores.
    split: where the held-out images came from; never a test split.
    images: by category, how many were held out: ``{"good": n, "defective": n}``.
    image_score: the rule that made an image's score of its map, a name that
    `metrics.image_score` takes; "given" when image scores were handed in.

    Raises LeakError for a split whose name starts with "test", CalibrationError for a part that is
    empty, of another type, or does not fit the others.
    """

    format: ClassVar[str] = "anomaly_u2net.calibration/2"

    categories: dict[str, CategoryThresholds]
    model_hash: str
    recipe_hash: str
    split: str
    images: dict[str, dict[str, int]]
    image_score: str = "given"

    def __post_init__(self) -> None:
        for name in ("model_hash", "recipe_hash", "split", "image_score"):
            text = getattr(self, name)
            if not isinstance(text, str) or not text.strip():
                raise CalibrationError(f"{name} must be text that is not empty, got {text!r}")
        if self.split.strip().lower().startswith("test"):
            raise LeakError(
                f"thresholds must not come from test images, but the split is {self.split!r}; "
                "the test images would then be judged by thresholds fitted to them: "
                "calibrate on the calibration split"
            )
        if not self.categories:
            raise CalibrationError("a calibration needs at least one category, got none")
        _same_keys(self.images, self.categories, where="images")
        for category, counts in self.images.items():
            _same_keys(counts, ("good", "defective"), where=f"images[{category!r}]")
            for name, count in counts.items():
                if not isinstance(count, int) or isinstance(count, bool) or count < 0:
                    raise CalibrationError(
                        f"images[{category!r}].{name} must be a whole number of images, "
                        f"got {count!r}"
                    )

    def for_category(self, name: str) -> CategoryThresholds:
        """The thresholds of one category; CalibrationError, with the nearest name, if unknown."""
        if name in self.categories:
            return self.categories[name]
        near = difflib.get_close_matches(name, self.categories, n=1, cutoff=0.4)
        guess = f"did you mean {near[0]!r}? " if near else ""
        raise CalibrationError(
            f"no thresholds for the category {name!r}; {guess}"
            f"calibrated are: {', '.join(sorted(self.categories))}"
        )

    def check_model(self, model_hash: str) -> None:
        """Raise CalibrationError unless these thresholds were made for the model of that hash.

        Thresholds from a file of scores are for no model here; cross-conformal ones are for K.
        """
        if self.model_hash == model_hash:
            return
        if any(one.image.rule == "cross_conformal" for one in self.categories.values()):
            raise CalibrationError(
                "this calibration is cross-conformal: its threshold is for the lowest score of K "
                "models, and this is one model. Score with all K and compare the lowest score with "
                "the threshold yourself, or run 'anomaly-u2net calibrate' again on this model"
            )
        raise CalibrationError(
            f"this calibration was made for model {self.model_hash[:12]}…, "
            f"not for this one ({model_hash[:12]}…): run 'anomaly-u2net calibrate' again"
        )

    @property
    def digest(self) -> str:
        """The hex SHA-256 of the content, the same however the file is laid out."""
        return sha256_json(self.to_dict())

    def save(self, path: str | Path) -> None:
        """Write the calibration as JSON to read and keep, whole or not at all."""
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read a file that `save` wrote.

        Raises CalibrationError, naming the file and the place in it, for a missing file, text that
        is not JSON, another format, missing or unknown keys, wrong types or values that are not
        finite; LeakError for thresholds of a test split.
        """
        path = Path(path)
        try:
            content = json.loads(
                path.read_text(encoding="utf-8"),
                object_pairs_hook=_unique,
                parse_constant=_not_finite,
            )
        except OSError as error:
            raise CalibrationError(
                f"{path}: expected a calibration file that can be read, got: {error.strerror}; "
                "calibrate first, or name the file that was written"
            ) from error
        except (ValueError, RecursionError) as error:
            raise CalibrationError(f"{path}: this is not JSON ({error}); {_AGAIN}") from error
        except CalibrationError as error:
            raise CalibrationError(f"{path}: {error}; {_AGAIN}") from error
        try:
            return cls.from_dict(content)
        except LeakError as error:
            raise LeakError(f"{path}: {error}") from error
        except CalibrationError as error:
            raise CalibrationError(f"{path}: {error}; {_AGAIN}") from error

    def to_dict(self) -> dict[str, Any]:
        return {"format": self.format, **asdict(self)}

    @classmethod
    def from_dict(cls, content: Any) -> Calibration:
        """What `to_dict` gave; raises CalibrationError and LeakError as `load` does."""
        if not isinstance(content, dict) or content.get("format") != cls.format:
            found = content.get("format") if isinstance(content, dict) else content
            raise CalibrationError(f"expected the format {cls.format!r}, got {str(found)[:60]!r}")
        _same_keys(content, ["format", *(field.name for field in fields(cls))], where="the file")
        parts = {key: value for key, value in content.items() if key != "format"}
        categories = _table(parts.pop("categories"), where="categories")
        return cls(
            categories={name: _category(value, name) for name, value in categories.items()},
            **parts,
        )


def _category(value: Any, name: str) -> CategoryThresholds:
    where = f"categories[{name!r}]"
    _same_keys(value, [field.name for field in fields(CategoryThresholds)], where=where)
    read = {key: _threshold(part, f"{where}.{key}") for key, part in value.items()}
    image = read.pop("image")
    if image is None:
        raise CalibrationError(f"{where}: the image threshold must not be null")
    try:
        return CategoryThresholds(image, **read)
    except CalibrationError as error:
        raise CalibrationError(f"{where}: {error}") from error


def _threshold(value: Any, where: str) -> Threshold | None:
    if value is None:
        return None
    known = [field.name for field in fields(Threshold)]
    _same_keys({_ADDED: None, **_table(value, where=where)}, known, where=where)
    try:
        return Threshold(**value)
    except CalibrationError as error:
        raise CalibrationError(f"{where}: {error}") from error


def _table(value: Any, *, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise CalibrationError(f"{where} must be a table of names, got {str(value)[:60]!r}")
    return value


def _same_keys(value: Any, expected: Collection[str], *, where: str) -> None:
    """Raise CalibrationError unless ``value`` is a dict with exactly the ``expected`` keys."""
    found = _table(value, where=where).keys()
    missing, unknown = sorted(set(expected) - found), sorted(found - set(expected))
    if missing or unknown:
        wrong = [f"missing {', '.join(missing)}"] * bool(missing)
        wrong += [f"unknown {', '.join(unknown)}"] * bool(unknown)
        raise CalibrationError(
            f"{where} must have the keys {', '.join(expected)}: {' and '.join(wrong)}"
        )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise CalibrationError(f"the key {twice!r} is written twice")
    return table


def _not_finite(text: str) -> float:
    raise CalibrationError(f"expected finite numbers, got {text}")
