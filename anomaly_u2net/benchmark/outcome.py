"""What came of one cell, as its folder holds it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from anomaly_u2net.errors import InputError
from anomaly_u2net.evaluation.table import Measured, Number, Numbers
from anomaly_u2net.files import write_aside, write_json
from anomaly_u2net.metrics import Resampled
from anomaly_u2net.recipe.protocol import parse_protocol

NAME, SAMPLES = "result.json", "samples.npz"
FORMAT = "anomaly_u2net.benchmark_cell/1"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The numbers of a cell, or its error.

    digest: of the cell that was asked for. numbers, small: by the names of `evaluation.RANKING`,
    at the original size and at 256². costs: minutes and steps of training, milliseconds per image,
    gib of memory and gpu_gib of a CUDA device's at most. images: split → [good, defective].
    near_copies: test images that look like one on the training side, ``None`` where nobody
    counted. start: what the weights started from. samples: the numbers that get a difference, in
    every resample. lacking: the error is that weights or a package are not there.
    """

    digest: str
    category: str
    protocol: str
    method: str
    seed: int
    numbers: Numbers = field(default_factory=dict)
    small: Numbers = field(default_factory=dict)
    costs: Mapping[str, Number] = field(default_factory=dict)
    images: Mapping[str, list[int]] = field(default_factory=dict)
    near_copies: int | None = None
    split_hash: str = ""
    model_hash: str = ""
    start: str = ""
    error: str | None = None
    lacking: bool = False
    samples: Mapping[str, Resampled] = field(default_factory=dict, compare=False)

    @property
    def repeat(self) -> tuple[int, int]:
        """What is repeated in a row: the seed, and the fold where there are some."""
        return self.seed, parse_protocol(self.protocol).fold

    @property
    def reason(self) -> str:
        """Why there are no numbers, for a table; empty where there are."""
        if self.error is None:
            return ""
        return f"n/a: needs {self.error}" if self.lacking else f"failed: {self.error}"

    def to_dict(self) -> dict[str, Any]:
        plain = (
            *("digest", "category", "protocol", "method", "seed", "images", "near_copies"),
            *("split_hash", "model_hash", "start", "costs", "error", "lacking"),
        )
        return {
            "format": FORMAT,
            **{name: getattr(self, name) for name in plain},
            "numbers": {name: n and n.to_dict() for name, n in self.numbers.items()},
            "numbers_256": {name: n and n.to_dict() for name, n in self.small.items()},
        }

    def save(self, folder: Path) -> None:
        """Write it whole or not at all, result.json last: with it the cell is finished."""
        if self.samples:
            with write_aside(folder / SAMPLES) as aside:
                values: dict[str, Any] = {n: one.samples for n, one in self.samples.items()}
                np.savez(aside, **values)
        write_json(folder / NAME, self.to_dict())

    @classmethod
    def load(cls, folder: Path) -> Outcome | None:
        """The outcome in ``folder``, None where there is none; `InputError` for another file."""
        path = folder / NAME
        if not path.is_file():
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found.pop("format") != FORMAT:
                raise KeyError(FORMAT)
            small = _numbers(found.pop("numbers_256"))
            numbers = _numbers(found.pop("numbers"))
            samples = _samples(folder / SAMPLES, numbers)
            return cls(**found, numbers=numbers, small=small, samples=samples)
        except (ValueError, KeyError, TypeError, AttributeError, BadZipFile) as error:
            raise InputError(
                f"{path}: expected the result of a benchmark cell, could not read it ({error!r}): "
                "remove it, and the cell is made again"
            ) from error


def _numbers(content: Mapping[str, Any]) -> Numbers:
    return {
        name: n and Measured(n["value"], n["low"], n["high"], _pair(n.get("certified")))
        for name, n in content.items()
    }


def _pair(limits: list[float] | None) -> tuple[float, float] | None:
    return None if limits is None else (limits[0], limits[1])


def _samples(path: Path, numbers: Numbers) -> dict[str, Resampled]:
    if not numbers or not path.is_file():
        return {}
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        values = {name: numbers[name] for name in stored.files}
        return {n: Resampled(one.value, stored[n]) for n, one in values.items() if one is not None}
