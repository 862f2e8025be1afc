"""The schema of a run. Every default lives here and nowhere else.

A recipe is a short YAML file that names only what differs from the defaults::

    name: magnetic_tile
    data: {root: $ANOMALY_U2NET_DATA/magnetic_tile, card: magnetic_tile}
    model: {arch: u2netp}
    train: {steps: 350}

Unknown keys, wrong types and values out of range are refused with a `RecipeError` that names the
key and the nearest known one.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from anomaly_u2net.errors import RecipeError
from anomaly_u2net.files import sha256_json, write_text
from anomaly_u2net.types import STRIDE

Fraction = Annotated[float, Field(ge=0, le=1)]
OpenFraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[int, Field(ge=1)]

#: Channels and stages of ``model.arch`` small where the recipe leaves them open.
SMALL_WIDTH, SMALL_DEPTH = 16, 4
#: The same for the networks that U²-Net is compared with (`models.rivals`).
RIVAL_WIDTH, RIVAL_DEPTH = 32, 5

_NESTED = {"block", "repeats", "stem", "conv", "fuse", "deep_supervision"}
_PYRAMID = {"width", "depth", "conv", "fuse"}
#: The keys of ``model`` that each architecture has, besides ``init`` and ``prior``.
MODEL_KEYS: dict[str, frozenset[str]] = {
    "u2net": frozenset(_NESTED),
    "u2netp": frozenset(_NESTED),
    "small": frozenset(_NESTED | {"width", "depth", "mid"}),
    "unet": frozenset(_PYRAMID | {"deep_supervision"}),
    "cascaded": frozenset(_PYRAMID | {"deep_supervision", "repeats"}),
    "hed": frozenset(_PYRAMID),
    "dilated": frozenset({"width", "conv"}),
    "bidirectional": frozenset(_PYRAMID),
}
#: The losses on areas, which look at ``loss.reduce``, and all that ``loss.pixel`` may name.
AREA_LOSS_NAMES = ("dice", "iou", "tversky", "focal_tversky", "lovasz")
PIXEL_LOSS_NAMES = ("bce", "balanced_bce", "focal", "ssim", *AREA_LOSS_NAMES)

#: What ``model.arch`` may name, besides ``smp/DECODER-ENCODER``.
ARCHITECTURES = tuple(MODEL_KEYS)


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML in which a key written twice is an error, not the last one's win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"the key {key!r} is there twice{node.start_mark}")
        return super().construct_mapping(node, deep)


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


class DataRecipe(Part):
    """Which images, and which of them are held out of training."""

    root: str | None = Field(None, description="folder in MVTec layout; $VARIABLES are expanded")
    card: str = Field("folder", description="card in datasets/, or a path to one")
    categories: list[str] | None = Field(None, description="null: all that are found")
    calibration_fraction: Fraction = Field(0.2, description="of train/, held out for thresholds")
    validation_fraction: Fraction = Field(
        0.1, description="of train/, held out to choose the model"
    )
    borrow_defects: Fraction = Field(
        0.0,
        description="share of each defect type that moves from test/ to training (no masks in train/)",
    )


class ModelRecipe(Part):
    """Which network."""

    arch: str = Field(
        "u2netp",
        description="u2net, u2netp, small, unet, cascaded, hed, dilated, bidirectional, or "
        "smp/DECODER-ENCODER",
    )
    block: Literal["rsu", "plain", "residual", "dense", "inception", "pyramid"] = Field(
        "rsu", description="what a stage of u2net, u2netp and small is made of"
    )
    repeats: Annotated[int, Field(ge=1, le=8)] | None = Field(
        None, description="blocks in a row in each stage (null: 1); of cascaded, U-Nets (null: 2)"
    )
    width: Positive | None = Field(None, description="channels; u2net and u2netp have their own")
    depth: Annotated[int, Field(ge=2, le=6)] | None = Field(
        None, description="stages; u2net and u2netp have their own"
    )
    mid: Positive | None = Field(None, description="channels inside the blocks of small")
    stem: Literal["full", "unshuffle2", "unshuffle2_learned"] = Field(
        "full", description="unshuffle2: work at half size; bilinear or learned way back"
    )
    conv: Literal["standard", "separable"] = Field("standard", description="of the blocks")
    fuse: Literal["conv1x1", "mean"] = Field("conv1x1", description="of the side outputs")
    deep_supervision: Literal["all", "fused_only", "none"] | None = Field(
        None,
        description="losses on all outputs or the fused one; none: a single output, of the finest "
        "stage. null: none for unet, dilated and smp, all for the others",
    )
    init: str | None = Field(None, description="weights to start from: .safetensors, .pth, .onnx")
    prior: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="initial defect probability of every output; null: leave the biases alone"
    )

    @field_validator("arch")
    @classmethod
    def _arch_is_known(cls, arch: str) -> str:
        if arch not in ARCHITECTURES and not arch.startswith("smp/"):
            names = ", ".join(ARCHITECTURES)
            raise ValueError(
                f"unknown architecture {arch!r}: expected one of {names}, or smp/DECODER-ENCODER"
            )
        return arch

    @model_validator(mode="after")
    def _keys_belong_to_the_arch(self) -> ModelRecipe:
        own = MODEL_KEYS.get(self.arch, frozenset()) | {"init", "prior", "arch"}
        for name, field in type(self).model_fields.items():
            if name not in own and getattr(self, name) != field.default:
                raise ValueError(f"{name} does not belong to arch {self.arch}")
        return self

    @property
    def nested(self) -> bool:
        """Whether it is a nested U, whose stages are made of ``block``."""
        return self.arch in ("u2net", "u2netp", "small")

    @property
    def supervision(self) -> Literal["all", "fused_only", "none"]:
        """``deep_supervision``, or the architecture's own."""
        single = self.arch in ("unet", "dilated") or self.arch.startswith("smp/")
        return self.deep_supervision or ("none" if single else "all")

    @property
    def sides(self) -> int:
        """How many side outputs the network has."""
        if self.supervision == "none":
            return 0
        if self.arch == "cascaded":
            return self.repeats or 2
        own = {"u2net": 6, "u2netp": 6, "small": SMALL_DEPTH}
        return self.depth or own.get(self.arch, RIVAL_DEPTH)


class InputRecipe(Part):
    """How an image is brought to the network's size, and back."""

    fit: Literal["letterbox", "stretch", "native"] = Field(
        "letterbox", description="native keeps the pixel scale and pads to a multiple of 32"
    )
    size: tuple[Positive, Positive] = Field(
        (320, 320), description="[height, width]; unused by native"
    )

    @model_validator(mode="before")
    @classmethod
    def _one_number_is_a_square(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("size"), int):
            return data | {"size": (data["size"], data["size"])}
        return data

    @model_validator(mode="after")
    def _sizes_are_whole(self) -> InputRecipe:
        if any(side % STRIDE for side in self.size):
            raise ValueError(f"size must be multiples of {STRIDE}, got {list(self.size)}")
        return self


class AugmentRecipe(Part):
    """What is done to a training image and its mask together."""

    crop: Annotated[int, Field(ge=32)] | None = Field(
        None,
        description="side of a square crop in pixels at the network's scale; null: whole image",
    )
    crop_on_defect: Fraction = Field(
        0.85, description="of a defect image's crops that hold a defect"
    )
    flip: bool = Field(True, description="mirror left-right and top-bottom, each half of the time")
    quarter_turns: bool = Field(False, description="turn by 0, 90, 180 or 270 degrees")
    rotate: Annotated[float, Field(ge=0, le=180)] = Field(0.0, description="at most, in degrees")
    scale: tuple[float, float] = Field((1.0, 1.0), description="zoom range")
    brightness: Fraction = Field(0.1, description="factor 1 ± this")
    contrast: Fraction = Field(0.1, description="factor 1 ± this")

    @model_validator(mode="after")
    def _scale_is_a_range(self) -> AugmentRecipe:
        low, high = self.scale
        if not 0.1 <= low <= high <= 10:
            raise ValueError(f"scale must be [low, high] within 0.1..10, got {list(self.scale)}")
        return self


class LossRecipe(Part):
    """L = Σ side_weights[m]·ℓ(side_m) + fused_weight·ℓ(fused), on logits."""

    pixel: str = Field(
        "bce", description=f'ℓ, one or a sum such as "bce+dice": {", ".join(PIXEL_LOSS_NAMES)}'
    )
    reduce: Literal["batch", "image"] = Field(
        "batch",
        description="over what areas are compared, by " + ", ".join(AREA_LOSS_NAMES),
    )
    side_target: Literal["resized", "native"] = Field(
        "resized",
        description="compare side outputs with the mask at the input's size (the paper), or at "
        "their own, where a cell is defective when one of its pixels is",
    )
    side_weights: tuple[Annotated[float, Field(ge=0)], ...] | None = Field(
        None, description="one per side output, finest first; null: all 1 (the paper)"
    )
    fused_weight: Annotated[float, Field(ge=0)] = 1.0
    small_regions: Fraction = Field(
        0.0, description="p: pixels of a region of A < 1024 pixels count (1024 / A)^p, at most 10"
    )
    edge_band: Annotated[int, Field(ge=0)] = Field(
        0, description="pixels on both sides of a mask's edge that count edge_weight"
    )
    edge_weight: Fraction = 0.25

    @field_validator("pixel")
    @classmethod
    def _losses_are_known(cls, pixel: str) -> str:
        names = pixel.split("+")
        for name in names:
            if name not in PIXEL_LOSS_NAMES:
                raise ValueError(unknown_loss(name))
            if names.count(name) > 1:
                raise ValueError(f"the loss {name!r} is there twice: name each once")
        return pixel

    @model_validator(mode="after")
    def _reduce_has_an_effect(self) -> LossRecipe:
        if self.reduce != "batch" and not set(self.pixel.split("+")) & set(AREA_LOSS_NAMES):
            raise ValueError(
                f"reduce {self.reduce} changes nothing in pixel {self.pixel}: it is for "
                + ", ".join(AREA_LOSS_NAMES)
            )
        return self

    @model_validator(mode="after")
    def _something_counts(self) -> LossRecipe:
        if not self.fused_weight and self.side_weights is not None and not any(self.side_weights):
            raise ValueError("side_weights and fused_weight are all 0: nothing would be learnt")
        return self


class TrainRecipe(Part):
    """How long, how fast, on what."""

    steps: Positive = Field(1000, description="optimiser steps in all")
    validate_every: Positive = Field(100, description="steps between validations (and checkpoints)")
    batch_size: Positive = 8
    defect_share: OpenFraction = Field(
        0.5, description="of each batch that comes from defect images"
    )
    lr: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: Annotated[int, Field(ge=0)] = Field(20, description="steps of linear warm-up")
    clip: Annotated[float, Field(gt=0)] | None = Field(1.0, description="gradient norm; null: none")
    ema: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.99, description="decay of the averaged weights that are validated and kept; 0: none"
    )
    select: Literal["pixel_ap", "aupro", "last"] = Field(
        "pixel_ap", description="what on the validation part chooses the kept weights"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "fp32", description="auto: bf16 on a GPU or CPU that multiplies in it, otherwise fp32"
    )
    checkpoint: bool = Field(
        False, description="compute each stage again in the backward pass: less memory, more time"
    )
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices: Positive = Field(1, description="processes (DDP when more than 1)")
    workers: Annotated[int, Field(ge=0)] = Field(0, description="loader processes")
    sheet_every: Annotated[int, Field(ge=0)] = Field(
        1, description="validations between sample sheets; 0: none"
    )


class ScoreRecipe(Part):
    """From a score map to an image score and to regions."""

    image_score: str = Field(
        "max",
        description="max, topk_mean, or area_above:0.5, the share of pixels above 0.5; "
        "see metrics/image_scores.py",
    )
    min_area: Positive = Field(1, description="pixels; smaller regions are not reported")

    @field_validator("image_score")
    @classmethod
    def _image_score_is_known(cls, name: str) -> str:
        if not re.fullmatch(r"max|topk_mean|area_above:0?\.\d*[1-9]\d*", name):
            raise ValueError(
                "expected max, topk_mean or area_above:LEVEL with a level between 0 and 1, as "
                f"area_above:0.5, got {name!r}"
            )
        return name


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
        sides = self.loss.side_weights
        expected = self.model.sides
        if sides is not None and len(sides) != expected:
            raise ValueError(f"loss.side_weights needs {expected} numbers, got {len(sides)}")
        if self.model.supervision != "all":
            self._sides_are_not_asked_for()
        return self

    def _sides_are_not_asked_for(self) -> None:
        alone = f"but with model.deep_supervision {self.model.supervision} (arch {self.model.arch})"
        if self.loss.side_target == "native":
            raise ValueError(
                f"loss.side_target native is for the losses on side outputs, {alone} there are "
                'none: use "resized", or model.deep_supervision all'
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
            data = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
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
        if self.data.root is None:
            raise RecipeError(
                "data.root is not set: give --data-root FOLDER or set it in the recipe"
            )
        text = os.path.expandvars(self.data.root)
        if "$" in text:
            raise RecipeError(
                f"data.root is {self.data.root!r}, and that variable is not set in the environment: "
                "set it, or give --data-root FOLDER"
            )
        return Path(text).expanduser()


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
    return _hint(place[-1], part.model_fields)


def unknown_loss(name: str) -> str:
    """The message for a name that is no pixel loss, with the nearest one."""
    return f"unknown loss {name!r}{_hint(name, PIXEL_LOSS_NAMES)}"


def _hint(name: str, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else f" (known here: {', '.join(known)})"
