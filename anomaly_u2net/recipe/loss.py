"""The part ``loss`` of a recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from anomaly_u2net.recipe.part import Fraction, Part, hint

#: The losses on areas, which look at ``loss.reduce``, and all that ``loss.pixel`` may name.
AREA_LOSS_NAMES = ("dice", "iou", "tversky", "focal_tversky", "lovasz")
PIXEL_LOSS_NAMES = ("bce", "balanced_bce", "focal", "ssim", *AREA_LOSS_NAMES)


class LossRecipe(Part):
    """L = Σ side_weights[m]·ℓ(side_m) + fused_weight·ℓ(fused), on logits."""

    pixel: str = Field(
        "bce",
        description='ℓ, one or a sum such as "bce+dice", ssim in a sum only: '
        + ", ".join(PIXEL_LOSS_NAMES),
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
        if names == ["ssim"]:
            raise ValueError(
                "ssim alone does not learn from good images: on one that is predicted 0.98 all over "
                "its gradient is less than 1e-5 of that of bce; use bce+ssim+iou"
            )
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
    def _edge_weight_has_an_effect(self) -> LossRecipe:
        default = type(self).model_fields["edge_weight"].default
        if self.edge_weight != default and not self.edge_band:
            raise ValueError(
                f"edge_weight {self.edge_weight} changes nothing with edge_band 0: set edge_band "
                f"to 1 pixel or more, or edge_weight to {default}"
            )
        return self

    @model_validator(mode="after")
    def _something_counts(self) -> LossRecipe:
        if not self.fused_weight and self.side_weights is not None and not any(self.side_weights):
            raise ValueError("side_weights and fused_weight are all 0: nothing would be learnt")
        return self


def unknown_loss(name: str) -> str:
    """The message for a name that is no pixel loss, with the nearest one."""
    return f"unknown loss {name!r}{hint(name, PIXEL_LOSS_NAMES)}"
