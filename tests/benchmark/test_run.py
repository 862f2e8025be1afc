"""What happens to the errors of a cell."""

from __future__ import annotations

import logging

import pytest

from anomaly_u2net.benchmark import Failed, attempt
from anomaly_u2net.errors import InputError


def test_errors_become_results(caplog: pytest.LogCaptureFixture) -> None:
    def ours() -> None:
        raise InputError("expected this, got that")

    def another() -> None:
        raise RuntimeError("out of memory")

    assert attempt("one", lambda: 3) == 3
    assert attempt("one", ours) == Failed("expected this, got that")
    assert caplog.records == []
    assert attempt("one", another) == Failed("RuntimeError: out of memory")
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "one failed")
    assert record.exc_info is not None


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interruption_stops_everything(error: type[BaseException]) -> None:
    def interrupted() -> None:
        raise error

    with pytest.raises(error):
        attempt("one", interrupted)
