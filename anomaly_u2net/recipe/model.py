"""The part ``model`` of a recipe: which network."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from anomaly_u2net.recipe.part import Part, Positive

#: Channels and stages of ``model.arch`` small where the recipe leaves them open.
SMALL_WIDTH, SMALL_DEPTH = 16, 4
#: The same for the networks that U²-Net is compared with (`models.rivals`).
RIVAL_WIDTH, RIVAL_DEPTH = 32, 5

_NESTED = {"block", "repeats", "stem", "conv", "fuse", "upsample", "deep_supervision"}
_PYRAMID = {"width", "depth", "conv", "fuse"}
#: The keys of ``model`` that each architecture has, besides ``init`` and ``prior``.
MODEL_KEYS: dict[str, frozenset[str]] = {
    "u2net": frozenset(_NESTED),
    "u2netp": frozenset(_NESTED),
    "u2net_fast": frozenset({"fuse", "deep_supervision"}),
    "small": frozenset(_NESTED | {"width", "depth", "mid"}),
    "unet": frozenset(_PYRAMID | {"deep_supervision"}),
    "cascaded": frozenset(_PYRAMID | {"deep_supervision", "repeats"}),
    "hed": frozenset(_PYRAMID | {"deep_supervision"}),
    "dilated": frozenset({"width", "conv"}),
    "bidirectional": frozenset(_PYRAMID | {"deep_supervision"}),
}
#: The architectures that consist of nested Us, whose stages can be computed again.
CHECKPOINTED = ("u2net", "u2netp", "u2net_fast", "small", "unet", "cascaded")
#: What ``model.arch`` may name, besides ``smp/DECODER-ENCODER``.
ARCHITECTURES = tuple(MODEL_KEYS)


class ModelRecipe(Part):
    """Which network."""

    arch: str = Field(
        "u2netp",
        description="u2net, u2netp, u2net_fast, small, unet, cascaded, hed, dilated, "
        "bidirectional, or smp/DECODER-ENCODER",
    )
    block: Literal["rsu", "plain", "residual", "dense", "inception", "pyramid"] = Field(
        "rsu", description="what a stage of u2net, u2netp and small is made of"
    )
    repeats: Annotated[int, Field(ge=1, le=8)] | None = Field(
        None, description="blocks in a row in each stage (null: 1); of cascaded, U-Nets (null: 2)"
    )
    width: Positive | None = Field(
        None, description="channels; u2net, u2netp and u2net_fast have their own"
    )
    depth: Annotated[int, Field(ge=2, le=6)] | None = Field(
        None, description="stages; u2net, u2netp and u2net_fast have their own"
    )
    mid: Positive | None = Field(None, description="channels inside the blocks of small")
    stem: Literal["full", "unshuffle2", "unshuffle2_learned"] = Field(
        "full", description="unshuffle2: work at half size; bilinear or learned way back"
    )
    upsample: Literal["bilinear", "nearest"] = Field(
        "bilinear", description="how maps and side outputs of u2net, u2netp and small are resized"
    )
    conv: Literal["standard", "separable"] = Field("standard", description="of the blocks")
    fuse: Literal["conv1x1", "mean"] = Field("conv1x1", description="of the side outputs")
    deep_supervision: Literal["all", "fused_only", "none"] | None = Field(
        None,
        description="losses on all outputs or the fused one; none: a single output, of the finest "
        "stage. null: none for unet, dilated and smp, all for the others",
    )
    init: str | None = Field(
        None,
        description="weights to start from: .safetensors, .pth, .onnx; for smp/ networks those of "
        "the encoder will do, as a file or by the name efficientnet-lite0, a Python package",
    )
    prior: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="initial defect probability of every output; null: leave the biases alone"
    )

    @field_validator("arch")
    @classmethod
    def _arch_is_known(cls, arch: str) -> str:
        if arch not in ARCHITECTURES and not re.fullmatch(r"smp/\w+-\S+", arch):
            names = ", ".join(ARCHITECTURES)
            raise ValueError(
                f"unknown architecture {arch!r}: expected one of {names}, or smp/DECODER-ENCODER, "
                "as smp/unet-resnet18"
            )
        return arch

    @model_validator(mode="after")
    def _keys_belong_to_the_arch(self) -> ModelRecipe:
        fields = {name: field for name, field in type(self).model_fields.items() if name != "arch"}
        own = MODEL_KEYS.get(self.arch, frozenset()) | {"init", "prior"}
        others = [n for n, f in fields.items() if n not in own and getattr(self, n) != f.default]
        if others:
            verb = "do" if len(others) > 1 else "does"
            back = ", ".join(f"{n} to {_yaml(fields[n].default)}" for n in others)
            keys = ", ".join(name for name in fields if name in own)
            raise ValueError(
                f"{', '.join(others)} {verb} not belong to arch {self.arch}: set {back} "
                f"(its keys: {keys})"
            )
        return self

    @model_validator(mode="after")
    def _keys_do_something(self) -> ModelRecipe:
        if self.arch == "cascaded" and self.repeats == 1:
            raise ValueError(
                "expected 2 or more U-Nets in arch cascaded, got repeats 1: use arch unet"
            )
        if self.arch in ("hed", "bidirectional") and self.deep_supervision == "none":
            raise ValueError(
                f"arch {self.arch} is made of its side outputs: expected deep_supervision all or "
                "fused_only, got none"
            )
        if self.fuse != "conv1x1" and self.supervision == "none":
            raise ValueError(
                f"fuse {self.fuse} changes nothing: with deep_supervision none (arch {self.arch}) "
                "there is a single output: set fuse to conv1x1, or deep_supervision to all"
            )
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
        own = {"u2net": 6, "u2netp": 6, "u2net_fast": 4, "small": SMALL_DEPTH}
        return self.depth or own.get(self.arch, RIVAL_DEPTH)


def _yaml(value: object) -> str:
    return "null" if value is None else str(value)
