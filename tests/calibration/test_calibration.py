from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anomaly_u2net.calibration import Calibration, CategoryThresholds, Threshold
from anomaly_u2net.errors import CalibrationError, LeakError

LIMIT = Threshold(
    0.1 + 0.2, "false_reject", "At most 5 %.", 19, {"alpha": 0.05}, attained=0.05,
    false_reject_upper=0.15, unit="group",
)  # fmt: skip
LOWER = Threshold(
    0.2, "missed_defects", "At most 2 %.", 99, {"beta": 0.02, "delta": 0.1}, attained=0.02
)
BEST = Threshold(-1e-45, "best_f1", "No guarantee.", 25)


def made(**changes: Any) -> Calibration:
    sound: dict[str, Any] = {
        "categories": {
            "leather": CategoryThresholds(LIMIT, LIMIT, review=LOWER),
            "magnetic_tile": CategoryThresholds(LIMIT, BEST, BEST, BEST),
        },
        "model_hash": "a" * 64,
        "recipe_hash": "b" * 64,
        "split": "calibration",
        "images": {
            "leather": {"good": 19, "defective": 0},
            "magnetic_tile": {"good": 19, "defective": 6},
        },
    }
    return Calibration(**{**sound, **changes})


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "calibration.json"
    made().save(path)
    again = Calibration.load(path)
    assert again == made()
    assert again.digest == made().digest
    assert again.categories["leather"].image.value == 0.1 + 0.2
    assert [file.name for file in path.parent.iterdir()] == ["calibration.json"]


def test_the_file_reads_well(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    made().save(path)
    content = json.loads(path.read_text())
    assert next(iter(content.items())) == ("format", "anomaly_u2net.calibration/2")
    assert content["categories"]["leather"]["image"]["promise"] == "At most 5 %."
    assert content["categories"]["leather"]["review"]["parameters"] == {"beta": 0.02, "delta": 0.1}
    assert content["categories"]["leather"]["image"]["unit"] == "group"
    assert content["image_score"] == "given"
    assert content["images"]["magnetic_tile"] == {"good": 19, "defective": 6}
    assert path.read_text().count("\n") > 30


def test_the_digest_follows_the_content_and_not_the_layout(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    made().save(path)
    content = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(content.items())), separators=(",", ":")))
    assert Calibration.load(path).digest == made().digest
    assert made(model_hash="c" * 64).digest != made().digest
    assert len(made().digest) == 64


def test_for_category() -> None:
    assert made().for_category("leather").image is LIMIT
    text = "category 'lether'; did you mean 'leather'\\? calibrated are: leather, magnetic_tile"
    with pytest.raises(CalibrationError, match=text):
        made().for_category("lether")
    with pytest.raises(CalibrationError, match="'zzz'; calibrated are: leather"):
        made().for_category("zzz")


@pytest.mark.parametrize("split", ["test", "Test", " test", "test_public"])
def test_never_from_a_test_split(split: str, tmp_path: Path) -> None:
    with pytest.raises(LeakError, match="must not come from test images, but the split is"):
        made(split=split)
    path = tmp_path / "calibration.json"
    made().save(path)
    path.write_text(path.read_text().replace('"split": "calibration"', f'"split": "{split}"'))
    with pytest.raises(LeakError, match=r"calibration\.json: thresholds must not come from test"):
        Calibration.load(path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"model_hash": ""}, "model_hash must be text"),
        ({"recipe_hash": None}, "recipe_hash must be text .* got None"),
        ({"split": 3}, "split must be text"),
        ({"categories": {}, "images": {}}, "at least one category"),
        ({"images": {"leather": {"good": 1, "defective": 1}}}, "images .* missing magnetic_tile"),
    ],
)
def test_a_calibration_refuses_parts_that_do_not_fit(change: dict[str, Any], text: str) -> None:
    with pytest.raises(CalibrationError, match=text):
        made(**change)


def put(*keys: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


def drop(*keys: str) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (put("format", value="anomaly_u2net.calibration/9"), "expected the format .*/2', got"),
        (put("format", value="anomaly_u2net.calibration/1"), "/2', got 'anomaly_u2net.*/1'"),
        (drop("format"), "expected the format"),
        (drop("split"), "the file must have the keys .*: missing split"),
        (put("extra", value=1), "the file must have the keys .*: unknown extra"),
        (put("model_hash", value=7), "model_hash must be text"),
        (put("categories", value=[1]), r"categories must be a table of names, got '\[1\]'"),
        (put("categories", value={}), "at least one category"),
        (put("categories", "leather", value=None), r"categories\['leather'\] must be a table"),
        (drop("categories", "leather", "pixel"), r"categories\['leather'\] .* missing pixel"),
        (put("categories", "leather", "image", value=None), "must not be null"),
        (put("categories", "leather", "image", value=0.5), r"leather'\]\.image must be a table"),
        (
            put("categories", "leather", "review", "value", value=9),
            r"review threshold must be below",
        ),
        (
            put("categories", "leather", "image", "parameters", value=3),
            "parameters must be a table",
        ),
        (put("categories", "leather", "image", "parameters", value={"x": 1}), "got 'x'"),
        (put("image_score", value=""), "image_score must be text"),
        (drop("categories", "leather", "image", "n"), r"\.image must have .* missing n"),
        (put("categories", "leather", "image", "why", value=""), r"\.image .* unknown why"),
        (put("categories", "leather", "image", "value", value="1"), r"\.image: .* finite number"),
        (put("categories", "leather", "image", "n", value=1.5), r"\.image: .* whole number"),
        (put("categories", "leather", "image", "rule", value="x"), r"\.image: .* rule must be"),
        (put("categories", "leather", "image", "attained", value=2), "attained must be a rate"),
        (drop("images", "leather"), "images must have the keys .*: missing leather"),
        (put("images", "wood", value={}), "images must have the keys .*: unknown wood"),
        (drop("images", "leather", "good"), r"images\['leather'\] .* missing good"),
        (put("images", "leather", "good", value=-1), r"\.good must be a whole number .* got -1"),
        (put("images", "leather", "good", value=True), r"\.good must be a whole number"),
    ],
)
def test_wrong_content(change: Callable[[dict[str, Any]], None], text: str, tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    made().save(path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(CalibrationError, match=rf"calibration\.json: .*{text}.*calibrate again"):
        Calibration.load(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "not JSON"),
        (b"threshold: 0.5", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"1" * 5000, "not JSON"),
        (b"null", "expected the format"),
        (b"[1, 2]", "expected the format"),
        (b'{"format": NaN}', "expected finite numbers, got NaN"),
        (b'{"format": -Infinity}', "expected finite numbers, got -Infinity"),
        (b'{"format": 1, "format": 2}', "the key 'format' is written twice"),
    ],
)
def test_wrong_text(text: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    path.write_bytes(text)
    with pytest.raises(CalibrationError, match=rf"calibration\.json: .*{message}"):
        Calibration.load(path)


def test_a_number_too_large_for_a_float(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    made().save(path)
    path.write_text(path.read_text().replace(repr(0.1 + 0.2), "1e999"))
    with pytest.raises(CalibrationError, match="finite number, got inf"):
        Calibration.load(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"none\.json: .*No such file.*calibrate first"):
        Calibration.load(tmp_path / "none.json")
    with pytest.raises(CalibrationError, match="can be read, got: "):
        Calibration.load(tmp_path)


def test_a_file_without_the_unit_of_the_bound(tmp_path: Path) -> None:
    """As written before there was one; any other key that is missing is still refused."""
    path = tmp_path / "calibration.json"
    made().save(path)
    content = json.loads(path.read_text())
    image = content["categories"]["leather"]["image"]
    del image["false_reject_unit"]
    path.write_text(json.dumps(content))
    assert Calibration.load(path).for_category("leather").image.false_reject_unit is None
    del image["unit"]
    path.write_text(json.dumps(content))
    with pytest.raises(CalibrationError, match="missing unit"):
        Calibration.load(path)
