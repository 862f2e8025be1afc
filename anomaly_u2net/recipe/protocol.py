"""How a recipe names the protocol by which its training images are chosen, and a fold of them."""

from __future__ import annotations

import re
from typing import NamedTuple

from anomaly_u2net.errors import InputError

FOLDS = 5
#: kind → how it is written. What each does: data/protocols.py.
FORMS = {
    "given": r"given",
    "kshot": r"kshot-(?P<shots>[1-9]\d*)",
    "hard": r"hard-(?P<label>.+)-(?P<shots>[1-9]\d*)",
    "listed": r"listed-(?P<shots>[1-9]\d*)",
    "third": r"third",
    "full": r"full",
    "fold": rf"full-fold(?P<fold>[1-{FOLDS}])of{FOLDS}",
    "good_only": r"good_only",
}
_EXAMPLES = (
    f"given, kshot-10, hard-<type>-10, listed-16, third, full, full-fold1of{FOLDS} or good_only"
)


class Protocol(NamedTuple):
    """A protocol, taken apart: shots is its number of masks, label the one type of ``hard``."""

    kind: str
    shots: int = 0
    label: str = ""
    fold: int = 0


def parse_protocol(text: str) -> Protocol:
    """Take the name of a protocol apart; raises ``InputError`` for one that is none.

    >>> parse_protocol("hard-glue_strip-10")
    Protocol(kind='hard', shots=10, label='glue_strip', fold=0)
    """
    for kind, form in FORMS.items():
        if match := re.fullmatch(form, text):
            parts = match.groupdict()
            return Protocol(
                kind, int(parts.get("shots", 0)), parts.get("label", ""), int(parts.get("fold", 0))
            )
    raise InputError(f"expected a protocol, as {_EXAMPLES}, got {text!r}")


class Fold(NamedTuple):
    """Number ``number`` (from 1) of ``of`` folds."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}of{self.of}"


def parse_fold(text: str) -> Fold:
    """One of several folds by its name; raises ``InputError`` for one that is none.

    >>> parse_fold("2of5")
    Fold(number=2, of=5)
    """
    match = re.fullmatch(r"([1-9]\d*)of([1-9]\d*)", text)
    fold = Fold(*map(int, match.groups())) if match else None
    if fold is None or not fold.number <= fold.of or fold.of < 2:
        raise InputError(f"expected one of two folds or more, as 1of5, got {text!r}")
    return fold
