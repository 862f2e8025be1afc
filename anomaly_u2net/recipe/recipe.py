"""A whole recipe: read, checked, written, and told by its hash."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from anomaly_u2net.errors import RecipeError
from anomaly_u2net.files import sha256_json, write_text
from anomaly_u2net.recipe.loss import LossRecipe
from anomaly_u2net.recipe.model import CHECKPOINTED, ModelRecipe
from anomaly_u2net.recipe.part import Part, hint
from anomaly_u2net.recipe.parts import (
    AugmentRecipe,
    DataRecipe,
    InputRecipe,
    ScoreRecipe,
    TrainRecipe,
)
from anomaly_u2net.recipe.synthesis import SynthesisRecipe


class StrictLoader(yaml.SafeLoader):
    """Safe YAML in which a key written twice is an error, not the last one's win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"the key {key!r} is there twice{node.start_mark}")
        return super().construct_mapping(node, deep)


class Recipe(Part):
    """Everything that decides a run.

    >>> recipe = Recipe.from_dict({"name": "mine", "train": {"steps": 10}})
    >>> recipe.train.steps, recipe.input.size
    (10, (320, 320))
    >>> Recipe.from_dict({"name": "mine", "trian": {"steps": 10}})
    Traceback (most recent call last):
    ...
    anomaly_u2net.errors.RecipeError: recipe: unknown key 'trian' (did you mean 'train'?)
    """

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    seed: Annotated[int, Field(ge=0)] = 0
    data: DataRecipe = DataRecipe()
    model: ModelRecipe = ModelRecipe()
    input: InputRecipe = InputRecipe()
    augment: AugmentRecipe = AugmentRecipe()
    synthesis: SynthesisRecipe = SynthesisRecipe()
    loss: LossRecipe = LossRecipe()
    train: TrainRecipe = TrainRecipe()
    score: ScoreRecipe = ScoreRecipe()

    @model_validator(mode="after")
    def _parts_agree(self) -> Recipe:
        if self.input.fit == "native" and self.augment.crop is None:
            raise ValueError(
                "input.fit native needs augment.crop: images of a batch differ in size"
            )
        if self.model.prior is not None and self.model.init is not None:
            raise ValueError(
                "model.prior is for training from scratch: set it to null with model.init"
            )
        crop = self.augment.crop
        square = crop is not None or self.input.size[0] == self.input.size[1]
        if self.augment.quarter_turns and not square:
            raise ValueError(
                f"augment.quarter_turns needs augment.crop or a square input.size, "
                f"got {list(self.input.size)}"
            )
        if crop is not None and self.input.fit != "native" and crop > min(self.input.size):
            raise ValueError(f"augment.crop {crop} is larger than input.size {self.input.size}")
        if not 1 <= round(self.train.batch_size * self.train.defect_share) < self.train.batch_size:
            raise ValueError(
                f"train.defect_share {self.train.defect_share} of batch_size "
                f"{self.train.batch_size} leaves no room for both good and defect images"
            )
        if self.train.checkpoint and self.model.arch not in CHECKPOINTED:
            raise ValueError(
                f"train.checkpoint expects an architecture made of stages, one of "
                f"{', '.join(CHECKPOINTED)}, got {self.model.arch}: set it to false"
            )
        if self.model.supervision != "all":
            self._sides_are_not_asked_for()
        sides, expected = self.loss.side_weights, self.model.sides
        if sides is not None and len(sides) != expected:
            raise ValueError(f"loss.side_weights needs {expected} numbers, got {len(sides)}")
        return self

    def _sides_are_not_asked_for(self) -> None:
        alone = f"but with model.deep_supervision {self.model.supervision} (arch {self.model.arch})"
        if self.loss.side_target == "native":
            raise ValueError(
                f"loss.side_target native is for the losses on side outputs, {alone} there are "
                'none: use "resized", or model.deep_supervision all'
            )
        if self.loss.side_weights is not None:
            raise ValueError(
                f"loss.side_weights are for the losses on side outputs, {alone} there are none: "
                "leave them out, or use model.deep_supervision all"
            )
        if not self.loss.fused_weight:
            raise ValueError(
                f"loss.fused_weight is 0, {alone} there is no other loss: nothing would be learnt"
            )

    @classmethod
    def load(cls, path: str | Path, *, overrides: Iterable[str] = ()) -> Recipe:
        """Read a YAML recipe; ``overrides`` are ``"a.b=value"`` strings, applied before checking."""
        path = Path(path)
        if not path.is_file():
            raise RecipeError(
                f"{path}: no such recipe file; 'anomaly-u2net recipe list' names ours"
            )
        try:
            data = yaml.load(path.read_text(encoding="utf-8"), Loader=StrictLoader)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise RecipeError(f"{path}: not valid YAML: {error}") from error
        if not isinstance(data, dict):
            raise RecipeError(f"{path}: expected a mapping at the top, got {type(data).__name__}")
        for text in overrides:
            apply_override(data, text)
        return cls.from_dict(data, source=str(path))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, source: str = "recipe") -> Recipe:
        """Check a mapping; raises `RecipeError` listing every fault at once."""
        try:
            return cls.model_validate(dict(data))
        except ValidationError as error:
            faults = "; ".join(_fault(item) for item in error.errors())
            raise RecipeError(f"{source}: {faults}") from None

    def with_overrides(self, overrides: Iterable[str]) -> Recipe:
        """A changed copy: ``recipe.with_overrides(["train.steps=10"])``."""
        data = self.to_dict()
        for text in overrides:
            apply_override(data, text)
        return type(self).from_dict(data)

    def to_dict(self) -> dict[str, Any]:
        """Every key with its resolved value, in plain JSON types."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)

    def save(self, path: str | Path) -> None:
        """Write the resolved recipe as YAML, whole or not at all."""
        write_text(path, self.to_yaml())

    @property
    def digest(self) -> str:
        """SHA-256 of the resolved recipe: the hash that score rows and calibrations carry."""
        return sha256_json(self.to_dict())

    def data_root(self) -> Path:
        """``data.root`` with ``~`` and ``$VARIABLES`` expanded; raises `RecipeError` if unset."""
        return self.data.folder()


def apply_override(data: dict[str, Any], text: str) -> None:
    """Set one key of nested ``data`` in place from ``"a.b=value"``; the value is read as YAML.

    >>> data = {"train": {"steps": 10}}
    >>> apply_override(data, "train.steps=20"); data
    {'train': {'steps': 20}}
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set {text!r}: expected KEY=VALUE, e.g. train.steps=100")
    *parents, last = key.strip().split(".")
    for parent in parents:
        data = data.setdefault(parent, {})
        if not isinstance(data, dict):
            raise RecipeError(f"--set {text!r}: {parent!r} is a value, not a section")
    try:
        data[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {text!r}: the value is not valid YAML: {error}") from error


def _fault(item: Any) -> str:
    """One pydantic error as one readable clause."""
    place = [part for part in item["loc"] if isinstance(part, str)]
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        return f"unknown key {key!r}{_nearest(place)}"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "missing":
        return f"{key} is missing"
    if item["type"] == "value_error":
        return f"{key}: {message}" if key else message
    return f"{key}: {message}, got {item['input']!r}"


def _nearest(place: list[str]) -> str:
    part: type[BaseModel] = Recipe
    for name in place[:-1]:
        annotation = part.model_fields[name].annotation
        choices = [annotation, *get_args(annotation)]
        part = next(c for c in choices if isinstance(c, type) and issubclass(c, BaseModel))
    return hint(place[-1], part.model_fields)
