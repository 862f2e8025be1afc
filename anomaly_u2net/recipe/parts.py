"""The parts of a recipe about images, training and scoring."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from anomaly_u2net.errors import RecipeError
from anomaly_u2net.recipe.part import Fraction, OpenFraction, Part, Positive, expanded
from anomaly_u2net.recipe.protocol import parse_fold, parse_protocol
from anomaly_u2net.types import STRIDE


class DataRecipe(Part):
    """Which images, and which of them are held out of training."""

    root: str | None = Field(None, description="folder in MVTec layout; $VARIABLES are expanded")
    card: str = Field("folder", description="card in datasets/, or a path to one")
    categories: list[str] | None = Field(None, description="null: all that are found")
    protocol: str = Field(
        "given",
        description="given, kshot-K, hard-TYPE-K, listed-K, third, full, full-fold1of5 or good_only: "
        "which defects are trained on",
    )
    near_copies: Literal["keep", "together", "leave"] = Field(
        "keep",
        description="images that look alike: together, no held-out part is parted from them; "
        "leave, nor is the test part: they leave it. Groups and equal bytes are heeded anyway",
    )
    calibration_fraction: Fraction = Field(0.2, description="of train/, held out for thresholds")
    validation_fraction: Fraction = Field(
        0.1, description="of train/, held out to choose the model"
    )
    validation_fold: str | None = Field(
        None,
        description="1of5, 2of5 … hold out that fold of the training part instead of "
        "validation_fraction: over all folds each image once (cross-validation)",
    )
    borrow_defects: Fraction = Field(
        0.0,
        description="share of each defect type that moves from test/ to training (no masks in train/)",
    )

    @field_validator("protocol")
    @classmethod
    def _protocol_is_known(cls, name: str) -> str:
        parse_protocol(name)
        return name

    @field_validator("validation_fold")
    @classmethod
    def _validation_fold_is_known(cls, name: str | None) -> str | None:
        if name is not None:
            parse_fold(name)
        return name

    @model_validator(mode="after")
    def _validation_is_chosen_in_one_way(self) -> DataRecipe:
        default = type(self).model_fields["validation_fraction"].default
        if self.validation_fold is not None and self.validation_fraction != default:
            raise ValueError(
                f"validation_fraction {self.validation_fraction} and validation_fold "
                f"{self.validation_fold} both say what is held out: set validation_fraction to "
                f"{default}, its default, or validation_fold to null"
            )
        return self

    @model_validator(mode="after")
    def _defects_are_chosen_in_one_way(self) -> DataRecipe:
        if self.protocol != "given" and self.borrow_defects:
            raise ValueError(
                f"borrow_defects {self.borrow_defects} and protocol {self.protocol} both say which "
                "defects are trained on: leave one of them out"
            )
        if self.near_copies == "leave" and self.borrow_defects:
            raise ValueError(
                f"near_copies leave looks before borrow_defects {self.borrow_defects} moves images "
                "to training: choose the masks by a protocol, as kshot-10"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_no_fold(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """So that a recipe without one is written as before there were any: one digest."""
        found: dict[str, Any] = dump(self)
        if self.validation_fold is None:
            del found["validation_fold"]
        return found

    def folder(self) -> Path:
        """``root`` with ``~`` and ``$VARIABLES`` expanded; raises `RecipeError` if unset."""
        if self.root is None:
            raise RecipeError(
                "data.root is not set: give --data-root FOLDER or set it in the recipe"
            )
        return expanded(self.root, key="data.root", instead="give --data-root FOLDER")


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
        0.85, description="of a defect image's crops that hold a defect (before turning)"
    )
    flip: bool = Field(True, description="mirror left-right and top-bottom, each half of the time")
    quarter_turns: bool = Field(False, description="turn by 0, 90, 180 or 270 degrees")
    rotate: Annotated[float, Field(ge=0, le=180)] = Field(0.0, description="at most, in degrees")
    scale: tuple[float, float] = Field((1.0, 1.0), description="zoom range")
    brightness: Fraction = Field(0.1, description="factor 1 ± this")
    contrast: Fraction = Field(0.1, description="factor 1 ± this")
    gamma: Annotated[float, Field(ge=0, le=4)] = Field(
        0.0, description="gray levels between 0 and 1 to a power of 1 / (1 + this) to 1 + this"
    )
    blur: Annotated[float, Field(ge=0, le=16)] = Field(
        0.0, description="largest sigma of a Gaussian blur, in pixels"
    )
    noise: Fraction = Field(
        0.0, description="largest standard deviation of gray noise, where white is 1"
    )
    paste: Fraction = Field(
        0.0,
        description="of the images that get a defect of another one of their category pasted in",
    )

    @model_validator(mode="after")
    def _scale_is_a_range(self) -> AugmentRecipe:
        low, high = self.scale
        if not 0.1 <= low <= high <= 10:
            raise ValueError(f"scale must be [low, high] within 0.1..10, got {list(self.scale)}")
        return self

    @model_validator(mode="after")
    def _crop_on_defect_has_an_effect(self) -> AugmentRecipe:
        default = type(self).model_fields["crop_on_defect"].default
        if self.crop_on_defect != default and self.crop is None:
            raise ValueError(
                f"crop_on_defect {self.crop_on_defect} changes nothing without crop: set crop, or "
                f"crop_on_defect to {default}"
            )
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
        description="max, topk_mean, or area_above:0.5, the share of pixels above 0.5; with "
        '" inside 12" behind it the outermost 12 pixels do not count; see metrics/image_scores.py',
    )
    min_area: Positive = Field(1, description="pixels; smaller regions are not reported")

    @field_validator("image_score")
    @classmethod
    def _image_score_is_known(cls, name: str) -> str:
        rule = r"(max|topk_mean|area_above:0?\.\d*[1-9]\d*)( inside [1-9]\d*)?"
        if not re.fullmatch(rule, name):
            raise ValueError(
                "expected max, topk_mean or area_above:LEVEL with a level between 0 and 1, as "
                "area_above:0.5, and perhaps a margin in pixels behind it, as max inside 12, "
                f"got {name!r}"
            )
        return name
