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

from anomaly_u2net.recipe.generators import (
    CutPasteRecipe,
    DrawnRecipe,
    GeneratorParameters,
    PerlinRecipe,
    PoissonRecipe,
    ScarRecipe,
    StructureRecipe,
)
from anomaly_u2net.recipe.loss import (
    AREA_LOSS_NAMES,
    PIXEL_LOSS_NAMES,
    LossRecipe,
    unknown_loss,
)
from anomaly_u2net.recipe.model import (
    ARCHITECTURES,
    MODEL_KEYS,
    RIVAL_DEPTH,
    RIVAL_WIDTH,
    SMALL_DEPTH,
    SMALL_WIDTH,
    ModelRecipe,
)
from anomaly_u2net.recipe.part import Part
from anomaly_u2net.recipe.parts import (
    AugmentRecipe,
    DataRecipe,
    InputRecipe,
    ScoreRecipe,
    TrainRecipe,
)
from anomaly_u2net.recipe.recipe import Recipe, apply_override
from anomaly_u2net.recipe.synthesis import (
    DEFAULT_WEIGHTS,
    GENERATOR_NAMES,
    SynthesisRecipe,
    unknown_generator,
)

__all__ = [
    "ARCHITECTURES",
    "AREA_LOSS_NAMES",
    "DEFAULT_WEIGHTS",
    "GENERATOR_NAMES",
    "MODEL_KEYS",
    "PIXEL_LOSS_NAMES",
    "RIVAL_DEPTH",
    "RIVAL_WIDTH",
    "SMALL_DEPTH",
    "SMALL_WIDTH",
    "AugmentRecipe",
    "CutPasteRecipe",
    "DataRecipe",
    "DrawnRecipe",
    "GeneratorParameters",
    "InputRecipe",
    "LossRecipe",
    "ModelRecipe",
    "Part",
    "PerlinRecipe",
    "PoissonRecipe",
    "Recipe",
    "ScarRecipe",
    "ScoreRecipe",
    "StructureRecipe",
    "SynthesisRecipe",
    "TrainRecipe",
    "apply_override",
    "unknown_generator",
    "unknown_loss",
]
