from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from anomaly_u2net.calibration import (
    CategoryThresholds,
    Threshold,
    calibrate_category,
    false_reject_threshold,
)
from anomaly_u2net.errors import CalibrationError, InputError, MapError
from anomaly_u2net.metrics import image_best_f1, pixel_best_f1


def held_out(
    good: int, defective: int, seed: int = 0
) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Image scores (their own, not the maximum), maps of two sizes, masks; defects score high."""
    random = np.random.default_rng(seed)
    maps, masks = [], []
    for index in range(good + defective):
        shape = (6, 5) if index % 2 else (4, 7)
        score_map = (0.4 * random.random(shape)).astype(np.float32)
        mask = np.zeros(shape, bool)
        if index >= good:
            mask[1:3, 1:3] = True
            score_map[mask] += 0.5
        maps.append(score_map)
        masks.append(mask)
    scores = np.array([score_map.mean() for score_map in maps])
    return scores, maps, masks


def test_each_threshold_is_its_rule_on_the_right_images() -> None:
    scores, maps, masks = held_out(39, 6)
    found = calibrate_category(scores, maps, masks)
    peaks = [float(score_map.max()) for score_map in maps[:39]]
    assert found.image.value == false_reject_threshold(scores[:39], alpha=0.05)
    assert found.pixel.value == false_reject_threshold(peaks, alpha=0.05) == sorted(peaks)[37]
    assert found.image_best_f1 is not None
    assert found.pixel_best_f1 is not None
    labels = np.arange(45) >= 39
    assert found.image_best_f1.value == image_best_f1(scores, labels).threshold
    assert found.pixel_best_f1.value == pixel_best_f1(maps, masks).threshold


def test_provenance() -> None:
    found = calibrate_category(*held_out(39, 6), false_reject=0.06)
    assert (found.image.rule, found.image.n, found.image.wanted) == ("false_reject", 39, 0.06)
    assert found.image.attained == 2 / 40
    assert found.image.promise == (
        "Of new good images like the 39 held out, at most 6 % are expected to be rejected "
        "(split conformal)."
    )
    assert "have any pixel marked" in found.pixel.promise
    assert found.pixel_best_f1 is not None
    assert (found.pixel_best_f1.rule, found.pixel_best_f1.n) == ("best_f1", 45)
    assert found.pixel_best_f1.wanted is found.pixel_best_f1.attained is None
    assert "No guarantee: the highest pixel F1 (1.0000) on the 45 held-out images, 6 of them" in (
        found.pixel_best_f1.promise
    )


def test_values_are_plain_numbers() -> None:
    found = calibrate_category(*held_out(39, 6))
    for threshold in (found.image, found.pixel, found.image_best_f1, found.pixel_best_f1):
        assert threshold is not None
        assert type(threshold.value) is float
        assert type(threshold.n) is int


def test_best_f1_pixel_rule() -> None:
    found = calibrate_category(*held_out(39, 6), pixel_rule="best_f1")
    assert found.pixel is found.pixel_best_f1
    assert found.image.rule == "false_reject"


def test_without_defects_there_is_no_best_f1() -> None:
    found = calibrate_category(*held_out(19, 0))
    assert found.image_best_f1 is None
    assert found.pixel_best_f1 is None
    with pytest.raises(CalibrationError, match="best_f1 needs defects, but all 19 held-out"):
        calibrate_category(*held_out(19, 0), pixel_rule="best_f1")


def test_too_few_good_images() -> None:
    with pytest.raises(CalibrationError, match="needs at least 19 held-out good images, got 12"):
        calibrate_category(*held_out(12, 20))


def test_weaker_takes_the_attainable_rate_and_says_so() -> None:
    scores, maps, masks = held_out(12, 3)
    found = calibrate_category(scores, maps, masks, allow_weaker=True)
    assert found.image.value == scores[:12].max()
    assert found.pixel.value == max(float(score_map.max()) for score_map in maps[:12])
    assert (found.image.wanted, found.image.attained) == (0.05, 1 / 13)
    assert found.image.promise.startswith(
        "Weaker than the 5 % asked for, which needs 19 good images: of new good images like the "
        "12 held out, at most 7.69 %"
    )


def test_weaker_changes_nothing_where_there_are_enough() -> None:
    data = held_out(19, 2)
    assert calibrate_category(*data, allow_weaker=True) == calibrate_category(*data)


def test_the_pixel_promise_holds_over_redraws() -> None:
    random = np.random.default_rng(7)
    marked = 0
    for _ in range(600):
        maps = list(random.random((20, 3, 3)).astype(np.float32))
        masks = [np.zeros((3, 3), bool)] * 19
        found = calibrate_category([0.0] * 19, maps[:19], masks, false_reject=0.1)
        marked += bool((maps[19] > found.pixel.value).any())
    assert marked / 600 <= 0.1 + 4 * np.sqrt(0.1 * 0.9 / 600)


def test_no_good_image() -> None:
    with pytest.raises(CalibrationError, match="none of the 4 held-out images is good"):
        calibrate_category(*held_out(0, 4), allow_weaker=True)
    with pytest.raises(CalibrationError, match="no held-out images"):
        calibrate_category([], [], [])


def test_bad_inputs() -> None:
    scores, maps, masks = held_out(19, 1)
    with pytest.raises(InputError, match="20 scores, 19 maps and 20 masks"):
        calibrate_category(scores, maps[1:], masks)
    with pytest.raises(InputError, match="one of false_reject, best_f1, got 'otsu'"):
        calibrate_category(scores, maps, masks, pixel_rule="otsu")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="rate between 0 and 1"):
        calibrate_category(scores, maps, masks, false_reject=5)
    with pytest.raises(InputError, match="1 of 20 scores are NaN"):
        calibrate_category([np.nan, *scores[1:]], maps, masks)
    with pytest.raises(MapError, match=r"map 0 is \(4, 7\) but mask 0 is \(6, 5\)"):
        calibrate_category(scores, maps, [masks[1], *masks[1:]])
    maps[3] = np.full_like(maps[3], np.nan)
    with pytest.raises(MapError, match="map 3: 30 of 30 pixels are NaN"):
        calibrate_category(scores, maps, masks)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"value": np.nan}, "value must be a finite number, got nan"),
        ({"value": "0.5"}, "value must be a finite number"),
        ({"value": True}, "value must be a finite number"),
        ({"value": 10**400}, "value must be a finite number"),
        ({"rule": "otsu"}, "one of false_reject, best_f1, got 'otsu'"),
        ({"rule": ["best_f1"]}, "rule must be one of"),
        ({"promise": ""}, "promise must be text"),
        ({"n": 0}, "n must be a whole number"),
        ({"n": 2.0}, "n must be a whole number"),
        ({"n": True}, "n must be a whole number"),
        ({"wanted": None}, "wanted must be a rate between 0 and 1, got None"),
        ({"attained": 1.0}, "attained must be a rate between 0 and 1, got 1.0"),
        ({"rule": "best_f1"}, "best_f1 promises no rate, so wanted must be null"),
    ],
)
def test_a_threshold_refuses_what_no_rule_gives(change: dict[str, Any], text: str) -> None:
    sound: dict[str, Any] = {
        "value": 0.5,
        "rule": "false_reject",
        "promise": "At most 5 %.",
        "n": 19,
        "wanted": 0.05,
        "attained": 0.05,
    }
    assert Threshold(**sound).value == 0.5
    with pytest.raises(CalibrationError, match=text):
        Threshold(**{**sound, **change})


def test_thresholds_are_frozen() -> None:
    found = calibrate_category(*held_out(19, 0))
    assert isinstance(found, CategoryThresholds)
    with pytest.raises(AttributeError):
        found.image.value = 0.9  # type: ignore[misc]
