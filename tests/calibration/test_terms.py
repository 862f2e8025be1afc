from __future__ import annotations

from typing import Any

import pytest

from anomaly_u2net.calibration import Costs, Terms
from anomaly_u2net.errors import InputError


def test_the_defaults() -> None:
    terms = Terms()
    assert (terms.rule, terms.pixel_rule) == ("false_reject", "false_reject")
    assert (terms.false_reject, terms.missed, terms.delta) == (0.05, 0.05, None)
    assert not terms.allow_weaker


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"rule": "otsu"}, "expected a rule, one of false_reject, .*, got 'otsu'"),
        ({"rule": "any_missed"}, "expected a rule, one of .* got 'any_missed'"),
        ({"pixel_rule": "both"}, "expected a pixel rule, one of .*, got 'both'"),
        ({"false_reject": 0.0}, "expected a false-reject rate between 0 and 1, .* got 0.0"),
        ({"missed": 1}, "expected a rate of missed defects between 0 and 1, .* got 1"),
        ({"delta": 2}, r"expected a delta \(the chance that the promise fails\) between 0 and 1"),
        ({"pixel_rule": "pixel_false_share", "delta": 0.1}, "pixel_false_share holds on average"),
        ({"rule": "cross_conformal", "delta": 0.1}, "cross_conformal holds on average only"),
        ({"rule": "cost"}, "the rule cost needs what an overkill and an escape cost"),
        ({"sigmas": float("nan")}, "finite number of standard deviations, got nan"),
        ({"rule": "given"}, r"the rule given needs the threshold: give --threshold"),
        ({"threshold": 0.5}, "goes with the rule given, not with false_reject"),
        ({"rule": "given", "threshold": float("inf")}, "expected a finite threshold, got inf"),
    ],
)
def test_terms_that_make_no_sense(given: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        Terms(**given)


def test_terms_that_do() -> None:
    assert Terms(rule="cost", costs=Costs(1, 2, 0.1)).costs == Costs(1, 2, 0.1)
    assert Terms(rule="given", threshold=-3.0, delta=0.1).threshold == -3.0
