"""The part ``synthesis`` of a recipe: defects made on good training images."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from anomaly_u2net.recipe.generators import GeneratorParameters
from anomaly_u2net.recipe.part import Fraction, hint

#: The generators, as `data.synthesis` has them, and how often each is drawn where nothing is said:
#: a third textures in odd shapes, which teach "anything that differs", over a third drawn like the
#: defects of surfaces, the rest pieces of the part at a wrong place. ``paste`` needs real defects, so
#: a recipe names it.
DEFAULT_WEIGHTS = {
    "perlin": 3.0,
    "structure": 1.0,
    "cut_paste": 0.5,
    "scar": 1.0,
    "poisson": 1.0,
    "scratch": 1.0,
    "stain": 1.0,
    "hole": 1.0,
    "crack": 1.0,
}
GENERATOR_NAMES = (*DEFAULT_WEIGHTS, "paste")


class SynthesisRecipe(GeneratorParameters):
    """Made defects; off unless ``share`` says otherwise. A key a generator has its parameters.

    >>> SynthesisRecipe(share=0.5, perlin={"opacity": 1}).perlin.opacity
    (1.0, 1.0)
    """

    share: Fraction = Field(
        0.0, description="of the good training images drawn that get a made defect; 0: none"
    )
    generators: dict[str, Annotated[float, Field(gt=0)]] = Field(
        DEFAULT_WEIGHTS,
        description=f"how often each is drawn, by weight: {', '.join(GENERATOR_NAMES)}",
    )
    textures: str | None = Field(
        None,
        description="what perlin fills its shapes with: self (good training images), noise, or a "
        "folder of images, $VARIABLES expanded; null: self and noise by turns",
    )

    @field_validator("generators", mode="before")
    @classmethod
    def _weights_are_numbers(cls, weights: Any) -> Any:
        for name, weight in weights.items() if isinstance(weights, dict) else ():
            if isinstance(weight, dict) and name in GeneratorParameters.model_fields:
                raise ValueError(
                    f"expected a number, the weight of {name}, got {weight}: set the parameters of "
                    f"a generator in synthesis.{name}, beside synthesis.generators"
                )
        return weights

    @field_validator("generators")
    @classmethod
    def _generators_are_known(cls, weights: dict[str, float]) -> dict[str, float]:
        if not weights:
            raise ValueError(
                f"expected at least one generator (known here: {', '.join(GENERATOR_NAMES)}), got "
                "none: name one, or set synthesis.share to 0"
            )
        for name in weights:
            if name not in GENERATOR_NAMES:
                raise ValueError(unknown_generator(name))
        return weights

    @model_validator(mode="after")
    def _keys_do_something(self) -> SynthesisRecipe:
        changed = [
            name
            for name, field in type(self).model_fields.items()
            if name != "share" and getattr(self, name) != field.default
        ]
        if changed and not self.share:
            verb = "changes" if len(changed) == 1 and changed != ["generators"] else "change"
            raise ValueError(
                f"{' and '.join(changed)} {verb} nothing with share 0: set share, as 0.5, or leave "
                "them out"
            )
        for name in changed:
            if name in GeneratorParameters.model_fields and name not in self.generators:
                raise ValueError(
                    f"{name} changes nothing without the generator {name}: add it to generators, "
                    "or leave its parameters out"
                )
        if self.textures is not None and "perlin" not in self.generators:
            raise ValueError(
                f"textures {self.textures} changes nothing without the generator perlin: add it, "
                "or leave textures out"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_default_parameters(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """So that a recipe that sets none is written as before there were any: one digest."""
        fields = GeneratorParameters.model_fields
        unset = [name for name, field in fields.items() if getattr(self, name) == field.default]
        return {name: value for name, value in dump(self).items() if name not in unset}


def unknown_generator(name: str) -> str:
    """The message for a name that is no generator, with the nearest one."""
    return f"unknown generator {name!r}{hint(name, GENERATOR_NAMES)}"
