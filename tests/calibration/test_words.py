"""A limit in words is never stronger than the limit."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_u2net.calibration.words import confidence, percent, percent_up, upwards


@pytest.mark.parametrize(
    ("value", "spec", "text"),
    [
        (0.037037, ".4f", "0.0371"),
        (0.05, ".4f", "0.0500"),
        (0.1 + 0.2, ".3g", "0.3"),  # 0.30000000000000004
        (1.04e-5, ".0e", "2e-05"),
        (1.21e-5, ".1e", "1.3e-05"),
        (9.91, ".1f", "10.0"),
        (99.91, ".3g", "100"),
        (0.0, ".0e", "0e+00"),
        (1.0, ".4f", "1.0000"),
    ],
)
def test_upwards(value: float, spec: str, text: str) -> None:
    assert upwards(value, spec) == text


@settings(max_examples=50, deadline=None)
@given(value=st.floats(1e-9, 1), spec=st.sampled_from([".4f", ".3g", ".0e", ".1e"]))
def test_never_below_and_less_than_one_place_above(value: float, spec: str) -> None:
    printed = float(upwards(value, spec))
    place = 1e-4 if spec == ".4f" else value * (1 if spec == ".0e" else 0.1)
    assert value * (1 - 1e-11) <= printed < value + place * (1 + 1e-9)


def test_percent() -> None:
    assert (percent(1 / 27), percent_up(1 / 27)) == ("3.7 %", "3.71 %")
    for rate in (0.01, 0.02, 0.05, 0.06, 0.07, 0.1, 0.12, 0.125, 0.29, 0.57, 0.58, 1.0):
        assert percent_up(rate) == percent(rate)


def test_confidence() -> None:
    known = {0.05: "95 %", 0.1: "90 %", 0.2: "80 %", 0.3: "70 %", 0.0004: "99.96 %"}
    assert {delta: confidence(delta) for delta in known} == known
    assert confidence(0.12345) == "87.6 %"
    assert confidence(1e-15) == "99.9999999999999 %"
