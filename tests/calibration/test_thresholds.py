from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from anomaly_u2net.calibration import IMAGE_RULES, PIXEL_RULES, RULES, Threshold
from anomaly_u2net.errors import CalibrationError


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"value": np.nan}, "value must be a finite number, got nan"),
        ({"value": "0.5"}, "value must be a finite number"),
        ({"value": True}, "value must be a finite number"),
        ({"value": 10**400}, "value must be a finite number"),
        ({"rule": "otsu"}, "one of false_reject, .*, got 'otsu'"),
        ({"rule": ["best_f1"]}, "rule must be one of"),
        ({"promise": ""}, "promise must be text"),
        ({"n": 0}, "n must be a whole number"),
        ({"n": 2.0}, "n must be a whole number"),
        ({"n": True}, "n must be a whole number"),
        ({"attained": None}, "attained must be a rate between 0 and 1, got None"),
        ({"attained": 1.5}, "attained must be a rate between 0 and 1, got 1.5"),
        ({"rule": "best_f1"}, "best_f1 promises no rate, so attained must be null, got 0.05"),
        ({"rule": "cost"}, "cost promises no rate"),
        ({"rule": "given"}, "given promises no rate"),
        ({"parameters": {"observed_missed": 1.5}}, "observed_missed must be a rate between 0 and"),
        ({"parameters": {"gamma": 1.0}}, "parameters are of alpha, .* got 'gamma'"),
        ({"parameters": {"delta": 1.0}}, "delta must be a rate between 0 and 1, got 1.0"),
        ({"parameters": {"escape": np.inf}}, "escape must be a finite number, got inf"),
        ({"parameters": None}, "parameters must be a table, got None"),
        ({"false_reject_upper": 2.0}, "false_reject_upper must be a rate or null, got 2.0"),
        ({"unit": "pixel"}, "unit must be image or group, got 'pixel'"),
        ({"false_reject_unit": "pixel"}, "unit must be image, group or null, got 'pixel'"),
    ],
)
def test_a_threshold_refuses_what_no_rule_gives(change: dict[str, Any], text: str) -> None:
    sound: dict[str, Any] = {
        "value": 0.5,
        "rule": "false_reject",
        "promise": "At most 5 %.",
        "n": 19,
        "parameters": {"alpha": 0.05},
        "attained": 0.05,
    }
    assert Threshold(**sound).value == 0.5
    with pytest.raises(CalibrationError, match=text):
        Threshold(**{**sound, **change})


def test_thresholds_are_frozen() -> None:
    limit = Threshold(0.5, "best_f1", "No guarantee.", 19)
    with pytest.raises(AttributeError):
        limit.value = 0.9  # type: ignore[misc]


def test_every_rule_has_a_name() -> None:
    assert set(IMAGE_RULES) | set(PIXEL_RULES) == set(RULES)
