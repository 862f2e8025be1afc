"""What a benchmark file says: images, protocols, methods, seeds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Discriminator, Field, Tag, ValidationError, model_validator

from anomaly_u2net.benchmark.rows import ALL_FOLDS, FOLD_NAMES, check_name
from anomaly_u2net.errors import RecipeError
from anomaly_u2net.files import sha256_json
from anomaly_u2net.recipe import DataRecipe, Part
from anomaly_u2net.recipe.part import Positive, hint
from anomaly_u2net.recipe.recipe import StrictLoader
from anomaly_u2net.resources import shipped

#: What may be a number of a published table; see `evaluation.RANKING`.
PUBLISHED = ("image_auroc", "pixel_auroc", "pixel_ap", "aupro_0.30", "aupro_0.05", "pixel_f1_max")

#: The side of the square that a model of anomalib sees where its method has no size.
USUAL_SIZE = 256


class TrainedMethod(Part):
    """A network that our training loop trains, by a recipe."""

    recipe: str = Field(description="a recipe file, or the name of one of ours")
    arch: str | None = Field(None, description="sets model.arch")
    set: dict[str, Any] = Field({}, description="recipe keys that differ, as train.steps: 400")
    under: dict[str, dict[str, Any]] = Field(
        {}, description="protocol → recipe keys that differ there only"
    )
    peer: bool = Field(
        False, description="others are measured against it; smp/ networks are peers anyway"
    )

    @property
    def content(self) -> dict[str, Any]:
        """What a digest is made of."""
        return self.model_dump(mode="json")

    @property
    def is_peer(self) -> bool:
        return self.peer or (self.arch or "").startswith("smp/")

    def overrides(self, protocol: str) -> dict[str, Any]:
        """Recipe key → value under ``protocol`` of the file, before data and seed are set."""
        named = {} if self.arch is None else {"model.arch": self.arch}
        return named | dict(self.set) | self.under.get(protocol, {})


class AnomalibMethod(Part):
    """A model of anomalib, which its own Engine trains."""

    anomalib: str = Field(description="the class, as Patchcore, Padim, Supersimplenet")
    arguments: dict[str, Any] = Field({}, description="of its constructor")
    size: Annotated[int, Field(ge=32)] | None = Field(
        None,
        description="side of the square that the whole image is resized to; null: 256, or what the "
        "model itself sees where it does not take that",
    )
    weights: str | None = Field(
        None,
        description="of its backbone: efficientnet-lite0 (a Python package), or a file with the "
        "names of timm; null: whatever the model itself would load",
    )
    batch_size: Positive = 8
    steps: Positive | None = Field(None, description="null: as long as the model says itself")

    @property
    def is_peer(self) -> bool:
        return True

    @property
    def content(self) -> dict[str, Any]:
        """What a digest is made of: a size that is not given counts as 256."""
        return self.model_dump(mode="json") | {"size": self.size or USUAL_SIZE}

    @property
    def digest(self) -> str:
        return sha256_json(self.content)


_KINDS: dict[str, type[Part]] = {"recipe": TrainedMethod, "anomalib": AnomalibMethod}


def _kind(value: Any) -> str:
    """Which method a mapping, or one that was read, is: the one whose first key it has."""
    has = value if isinstance(value, Mapping) else type(value).model_fields
    return "anomalib" if "anomalib" in has else "recipe"


Method = Annotated[
    Annotated[TrainedMethod, Tag("recipe")] | Annotated[AnomalibMethod, Tag("anomalib")],
    Discriminator(_kind),
]


class Published(Part):
    """Numbers from a publication, shown apart from those that were run here.

    numbers: by the names of `PUBLISHED`, 0..1. source: publication and table, so that it can be
    looked up.
    """

    method: str
    protocol: str
    numbers: dict[Literal[PUBLISHED], Annotated[float, Field(ge=0, le=1)]]  # type: ignore[valid-type]
    source: Annotated[str, Field(min_length=1)]


class BenchmarkFile(Part):
    """Categories × protocols × methods × seeds.

    >>> found = BenchmarkFile.from_dict({
    ...     "name": "mine", "data": {"root": "parts"}, "protocols": ["given"], "seeds": [0, 1],
    ...     "methods": {"U-Net": {"recipe": "folder", "arch": "smp/unet-resnet18"},
    ...                 "PatchCore": {"anomalib": "Patchcore"}}})
    >>> [method.is_peer for method in found.methods.values()]
    [True, True]
    """

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    data: DataRecipe
    protocols: Annotated[list[str], Field(min_length=1)]
    methods: Annotated[dict[str, Method], Field(min_length=1)]
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = Field([0, 1, 2])
    max_minutes: Annotated[float, Field(gt=0)] | None = Field(
        None, description="of each training; our loop brings its learning rate down by then"
    )
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    published: list[Published] = Field([])

    @model_validator(mode="after")
    def _nothing_twice(self) -> BenchmarkFile:
        for name in ("protocols", "seeds"):
            values = getattr(self, name)
            if twice := [v for v in values if values.count(v) > 1]:
                raise ValueError(f"{name} has {twice[0]!r} twice: name each once")
        return self

    @model_validator(mode="after")
    def _protocols_agree(self) -> BenchmarkFile:
        for protocol in self.protocols:
            check_name(protocol)
            if protocol in FOLD_NAMES and ALL_FOLDS in self.protocols:
                raise ValueError(f"protocols has {protocol} beside {ALL_FOLDS}, which holds it")
        if self.data.protocol != "given":
            raise ValueError(
                f"data.protocol {self.data.protocol} changes nothing: list it under protocols"
            )
        named = [
            (f"methods.{name}.under", protocol)
            for name, method in self.methods.items()
            for protocol in (method.under if isinstance(method, TrainedMethod) else ())
        ]
        named += [(f"published.{n}.protocol", one.protocol) for n, one in enumerate(self.published)]
        for where, protocol in named:
            if protocol not in self.protocols:
                raise ValueError(
                    f"{where} has {protocol!r}, which is none of protocols: "
                    f"{', '.join(self.protocols)}"
                )
        return self

    @classmethod
    def load(cls, path: str | Path) -> BenchmarkFile:
        """Read a YAML file; raises `RecipeError` with every fault."""
        path = Path(path)
        try:
            data = yaml.load(path.read_text(encoding="utf-8"), Loader=StrictLoader)
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise RecipeError(
                f"{path}: expected a benchmark file in YAML, could not read it: {error}"
            ) from error
        if not isinstance(data, dict):
            raise RecipeError(f"{path}: expected a mapping at the top, got {type(data).__name__}")
        return cls.from_dict(data, source=str(path))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, source: str = "benchmark") -> BenchmarkFile:
        """Check a mapping; raises `RecipeError` listing every fault at once."""
        try:
            return cls.model_validate(dict(data))
        except ValidationError as error:
            faults = "; ".join(_fault(item) for item in error.errors())
            raise RecipeError(f"{source}: {faults}") from None

    @property
    def digest(self) -> str:
        methods = {name: method.content for name, method in self.methods.items()}
        return sha256_json(self.model_dump(mode="json") | {"methods": methods})


def load_benchmark(name: str, *, data_root: str | Path | None = None) -> BenchmarkFile:
    """A benchmark by the path of its file, or the name of one of ours in recipes/benchmark/.

    data_root replaces ``data.root``. Raises `RecipeError` for an unknown name and as
    `BenchmarkFile.load`.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml") and not path.is_file():
        ours = {p.stem: p for p in sorted((shipped("recipes") / "benchmark").glob("*.yaml"))}
        if name not in ours:
            raise RecipeError(
                f"no benchmark {name!r}: expected a YAML file or one of ours{hint(name, ours)}"
            )
        path = ours[name]
    bench = BenchmarkFile.load(path)
    if data_root is None:
        return bench
    root = str(Path(data_root).expanduser().absolute())
    return bench.model_copy(update={"data": bench.data.model_copy(update={"root": root})})


def _fault(item: Any) -> str:
    """One pydantic error as one readable clause; the kind of a method is no key of the file."""
    place = [str(part) for part in item["loc"]]
    kind = place.pop(2) if place[:1] == ["methods"] and len(place) > 2 else None
    key = ".".join(place)
    if item["type"] == "extra_forbidden":
        part = _KINDS[kind] if kind and len(place) == 3 else BenchmarkFile
        part = DataRecipe if place[0] == "data" and len(place) == 2 else part
        return f"unknown key {key!r}{hint(place[-1], part.model_fields)}"
    if item["type"] == "missing":
        return f"{key} is missing"
    message = item["msg"].removeprefix("Value error, ")
    return f"{key}: {message}" if key else message
