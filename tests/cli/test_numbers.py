"""The tables on screen: a certificate is never tighter than what was certified."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from anomaly_u2net.cli.numbers import _cell, _engine, print_comparison
from anomaly_u2net.evaluation import Measured


def test_a_certificate_below_a_number_is_rounded_up() -> None:
    number = Measured(0.5, certified=(0.5 - 1.04e-5, 0.5 + 1e-6))
    assert _cell(number).splitlines() == ["0.5000", "±2e-05"]
    exactly = Measured(0.5, certified=(0.5, 0.5))
    assert _cell(exactly).splitlines() == ["0.5000", "±0e+00"]


def test_the_certificate_of_a_run_is_rounded_up(capsys: pytest.CaptureFixture[str]) -> None:
    result = SimpleNamespace(
        engine="streaming", certified_within=1.21e-5, categories={}, split="test", too_close=()
    )
    assert "within 1.3e-05 " in _engine(result)  # type: ignore[arg-type]
    print_comparison(result, names=("a", "b"))  # type: ignore[arg-type]
    printed = capsys.readouterr().out
    assert "certified within 1.3e-05;" in printed
    assert "too close" not in printed


def test_numbers_that_lie_too_close_together_for_intervals_are_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = SimpleNamespace(
        engine="streaming",
        certified_within=0.0,
        categories={},
        split="test",
        too_close=("pixel_auroc", "aupro_0.30"),
    )
    print_comparison(result, names=("a", "b"))  # type: ignore[arg-type]
    printed = capsys.readouterr().out
    assert "certified within" not in printed  # no difference is left that it could speak of
    assert "too close together for intervals of pixel AUROC, AUPRO @0.30: n/a" in printed
