"""What a trained model is on disk: ``model.json`` and the weight files that it names.

A run folder is a bundle. To move a model to a line computer, copy ``model.json``, ``model.onnx``
and ``calibration.json``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from anomaly_u2net.errors import ModelFileError
from anomaly_u2net.files import sha256_file, sha256_json, write_json
from anomaly_u2net.recipe import InputRecipe, ModelRecipe, Part, Recipe, ScoreRecipe

SPEC_NAME = "model.json"
FORMAT: Literal["anomaly_u2net.model/1"] = "anomaly_u2net.model/1"
Kind = Literal["safetensors", "onnx"]


class ModelSpec(Part):
    """Everything that turns an image into a score map, weights by hash included.

    ``files``: kind → (file name, SHA-256). ``digest`` names all of it: rows and calibrations
    carry it, so a threshold cannot be used with another model.
    """

    format: Literal["anomaly_u2net.model/1"] = FORMAT
    name: str
    model: ModelRecipe
    input: InputRecipe
    score: ScoreRecipe
    recipe_hash: str
    files: dict[Kind, tuple[str, str]]

    @property
    def digest(self) -> str:
        return sha256_json(self.model_dump(mode="json"))


def write_spec(folder: str | Path, recipe: Recipe) -> ModelSpec:
    """Describe the weight files in ``folder`` in its ``model.json``."""
    folder = Path(folder)
    kinds: tuple[Kind, ...] = ("safetensors", "onnx")
    names: dict[Kind, str] = {kind: f"model.{kind}" for kind in kinds}
    files = {
        kind: (name, sha256_file(folder / name))
        for kind, name in names.items()
        if (folder / name).is_file()
    }
    spec = ModelSpec(
        name=recipe.name,
        model=recipe.model,
        input=recipe.input,
        score=recipe.score,
        recipe_hash=recipe.digest,
        files=files,
    )
    write_json(folder / SPEC_NAME, spec.model_dump(mode="json"))
    return spec


def read_spec(folder: str | Path) -> ModelSpec:
    """Read ``model.json``; raises `ModelFileError` when it is missing, damaged or unknown."""
    folder = Path(folder)
    if folder.is_file():
        raise ModelFileError(
            f"{folder}: expected the folder of a trained model (with {SPEC_NAME}), got a file; "
            "pickled models are never loaded"
        )
    path = folder / SPEC_NAME
    if not path.is_file():
        hint = "" if folder.is_dir() else " (there is no such folder)"
        raise ModelFileError(f"{folder}: no {SPEC_NAME} here{hint}: expected the folder of a run")
    try:
        return ModelSpec.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelFileError(f"{path}: not valid JSON: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "top"
        raise ModelFileError(f"{path}: {key}: {first['msg']}: not a model of {FORMAT}") from error


def weight_file(folder: str | Path, spec: ModelSpec, kind: Kind) -> Path:
    """The path of a weight file whose bytes are the ones ``spec`` names."""
    folder = Path(folder)
    if kind not in spec.files:
        raise ModelFileError(
            f"{folder}: this model has no {kind} file; it has {sorted(spec.files)}"
        )
    name, expected = spec.files[kind]
    path = folder / name
    if Path(name).name != name or not path.is_file():
        raise ModelFileError(f"{path}: the weight file that {SPEC_NAME} names is missing")
    actual = sha256_file(path)
    if actual != expected:
        raise ModelFileError(
            f"{path}: altered or damaged: expected SHA-256 {expected[:12]}…, got {actual[:12]}…: "
            "copy the model again"
        )
    return path
