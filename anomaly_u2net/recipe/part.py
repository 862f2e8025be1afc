"""What all parts of a recipe share."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from anomaly_u2net.errors import AnomalyU2NetError, RecipeError

Fraction = Annotated[float, Field(ge=0, le=1)]
OpenFraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[int, Field(ge=1)]


class Part(BaseModel):
    """A part of a recipe: frozen, and closed to unknown keys."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields[str(info.field_name)]
        if isinstance(value, bool) and field.annotation is not bool:
            raise ValueError(f"expected no true or false here, got {str(value).lower()}")
        return value


def expanded(
    text: str, *, key: str, instead: str, error: type[AnomalyU2NetError] = RecipeError
) -> Path:
    """The path ``text`` with ``~`` and ``$VARIABLES`` expanded.

    Raises ``error`` if a variable is not set: ``key`` is what the path is for, ``instead`` what else
    can be done.
    """
    path = os.path.expandvars(text)
    if re.search(r"\$(\w|\{)", path):
        raise error(
            f"{key} is {text!r}, and that variable is not set in the environment: "
            f"set it, or {instead}"
        )
    return Path(path).expanduser()


#: Known names that a message lists.
SHOWN = 20


def hint(name: str, known: Iterable[str]) -> str:
    """The nearest known name to ``name``, or else the known ones (at most 20), in brackets."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f" (did you mean {close[0]!r}?)"
    rest = ["…"] if len(known) > SHOWN else []
    return f" (known here: {', '.join([*known[:SHOWN], *rest])})"
