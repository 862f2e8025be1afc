from __future__ import annotations

import inspect
import pickle
import re

import pytest

from anomaly_u2net import errors
from anomaly_u2net.errors import AnomalyU2NetError, InputError, MissingExtra

CLASSES = [
    value
    for _, value in inspect.getmembers(errors, inspect.isclass)
    if value.__module__ == errors.__name__
]


def test_they_are_one_tree_and_the_drawing_shows_it() -> None:
    assert errors.__doc__
    drawn = re.findall(r"^(.*?)(\w+)(?: \((\w+)\))?(?:  .*)?$", tree(errors.__doc__), re.MULTILINE)
    assert {name for _, name, _ in drawn} == {c.__name__ for c in CLASSES}
    for lead, name, builtin in drawn:
        found = getattr(errors, name)
        assert issubclass(found, AnomalyU2NetError)
        assert bool(len(lead) > 8) == (issubclass(found, InputError) and found is not InputError)
        if builtin:
            assert issubclass(
                found, {"ValueError": ValueError, "ImportError": ImportError}[builtin]
            )


def tree(doc: str) -> str:
    return "\n".join(
        line for line in doc.splitlines() if "─" in line or line.strip() == "AnomalyU2NetError"
    )


def test_an_input_error_is_a_value_error() -> None:
    below = [c for c in CLASSES if issubclass(c, InputError)]
    assert len(below) == 8
    assert all(issubclass(c, ValueError) for c in below)


@pytest.mark.parametrize("kind", CLASSES)
def test_each_says_when_it_is_raised(kind: type[Exception]) -> None:
    assert kind.__doc__
    assert len(kind.__doc__) > 20


@pytest.mark.parametrize("kind", [c for c in CLASSES if c is not MissingExtra])
def test_the_message_survives_another_process(kind: type[Exception]) -> None:
    again = pickle.loads(pickle.dumps(kind("expected a, got b")))
    assert type(again) is kind
    assert str(again) == "expected a, got b"


def test_a_missing_extra_says_what_to_install() -> None:
    error = MissingExtra("ray", "ray")
    assert str(error) == "ray is not installed: pip install 'anomaly_u2net[ray]'"
    assert isinstance(error, ImportError)
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
