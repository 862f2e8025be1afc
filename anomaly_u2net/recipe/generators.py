"""The parameters of the generators of made defects, parts of a recipe's ``synthesis``.

A range is [low, high], each value between as likely; one number stands for both. Where the defaults
come from is told in docs/learn/made-defects.md.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field

from anomaly_u2net.recipe.part import Part

#: Of a range's ends.
T = TypeVar("T", int, float)


def _pair(value: Any) -> Any:
    return (value, value) if isinstance(value, (int, float)) else value


def _rising(pair: tuple[T, T]) -> tuple[T, T]:
    if pair[0] > pair[1]:
        raise ValueError(f"expected [low, high] with low ≤ high, got {list(pair)}")
    return pair


RANGE = (BeforeValidator(_pair), AfterValidator(_rising))
Share = Annotated[float, Field(gt=0, le=1)]
Shares = Annotated[tuple[Share, Share], *RANGE]
Pixels = Annotated[float, Field(gt=0, le=256)]
Zoom = Annotated[float, Field(ge=0.1, le=10)]
Aspect = Annotated[float, Field(ge=1, le=100)]
Power = Annotated[int, Field(ge=0, le=8)]


class PerlinRecipe(Part):
    """``perlin``, and the shapes of ``structure``."""

    scale: Annotated[tuple[Power, Power], *RANGE] = Field(
        (0, 5), description="[a, b]: 2^a to 2^b cells of noise along each axis"
    )
    threshold: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.5, description="a shape is where the noise, in −1..1, is above this"
    )
    opacity: Shares = Field((0.1, 1.0), description="share of the filling in what is seen")


class StructureRecipe(PerlinRecipe):
    """``structure``."""

    tiles: Annotated[int, Field(ge=2, le=64)] = Field(8, description="shuffled, along each axis")


class CutPasteRecipe(Part):
    """``cut_paste``."""

    area: Shares = Field((0.02, 0.15), description="share of the image's area")
    aspect: Annotated[tuple[Aspect, Aspect], *RANGE] = Field(
        (1.0, 3.3), description="longer over shorter side"
    )


class ScarRecipe(Part):
    """``scar``; lengths in pixels of an image whose shorter side is 256."""

    width: Annotated[tuple[Pixels, Pixels], *RANGE] = (2, 16)
    length: Annotated[tuple[Pixels, Pixels], *RANGE] = (10, 25)
    turn: Annotated[float, Field(ge=0, le=180)] = Field(45, description="at most, in degrees")


class PoissonRecipe(Part):
    """``poisson``."""

    side: Shares = Field((0.06, 0.3), description="height and width, as shares of the image's")
    zoom: Annotated[tuple[Zoom, Zoom], *RANGE] = (0.7, 1.3)


class DrawnRecipe(Part):
    """``scratch``, ``stain``, ``hole`` and ``crack``."""

    window: Shares = Field(
        (0.3, 0.7), description="side of what it is drawn in, as a share of the image's shorter one"
    )
    opacity: Shares = Field((0.4, 1.0), description="share of the drawing in what is seen")


class GeneratorParameters(Part):
    """What can be set of each generator; ``paste`` has nothing."""

    perlin: PerlinRecipe = PerlinRecipe()
    structure: StructureRecipe = StructureRecipe()
    cut_paste: CutPasteRecipe = CutPasteRecipe()
    scar: ScarRecipe = ScarRecipe()
    poisson: PoissonRecipe = PoissonRecipe()
    scratch: DrawnRecipe = DrawnRecipe()
    stain: DrawnRecipe = DrawnRecipe()
    hole: DrawnRecipe = DrawnRecipe()
    crack: DrawnRecipe = DrawnRecipe()
