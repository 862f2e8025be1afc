"""A card a data set: its layout, categories, licence, citation and how to get it. No images."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from anomaly_u2net.data.layouts import LAYOUTS
from anomaly_u2net.errors import DatasetError
from anomaly_u2net.resources import shipped
from anomaly_u2net.types import Split

Count = Annotated[int, Field(ge=0)]
#: (good, defective), or (all,) where no source tells the two apart
Images = Annotated[tuple[Count, ...], Field(min_length=1, max_length=2)]
#: images of a split
Counts = dict[Split, Images]


class Groups(BaseModel):
    """How ``groups.csv`` of a category names the group of an image.

    left_out: it also lists images that the set leaves out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    column: str = "group"
    left_out: bool = False


class Card(BaseModel):
    """What is known of a data set before its folder is opened.

    category: the name of the one category of a single-category set, else None.
    categories: the expected categories and, where known, their images per split as
    (good, defective) or (all,); None where any category will do.
    total: the images of all categories and splits together, where no source counts each.
    groups: stated where the set has a ``groups.csv`` that must be there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", str_min_length=1)

    name: str
    title: str
    layout: str
    category: str | None = None
    categories: dict[str, Counts] | None = None
    total: Images | None = None
    groups: Groups | None = None
    licence: str
    citation: str
    get: str

    @field_validator("layout")
    @classmethod
    def _layout_is_known(cls, name: str) -> str:
        if name not in LAYOUTS:
            raise ValueError(f"expected a layout out of {', '.join(LAYOUTS)}, got {name!r}")
        return name

    @model_validator(mode="after")
    def _category_is_expected(self) -> Card:
        if self.category and self.categories and set(self.categories) != {self.category}:
            raise ValueError(
                f"expected categories to hold {self.category!r} alone, as category says, "
                f"found {sorted(self.categories)}"
            )
        return self

    @model_validator(mode="after")
    def _total_is_over_categories(self) -> Card:
        if self.total is not None and not self.categories:
            raise ValueError(
                "expected categories beside total, found none; name those that it is over, as "
                "categories: {bolt: {}}"
            )
        return self


def list_cards() -> list[str]:
    """The names of the shipped cards, sorted.

    >>> list_cards()[:4]
    ['bsdata_pitting', 'btad', 'dagm', 'demo']
    """
    return sorted(path.stem for path in shipped("datasets").glob("*.yaml"))


def load_card(name_or_path: str | Path) -> Card:
    """Load a shipped card by name, or your own by the path of its ``.yaml`` file.

    Raises ``DatasetError`` for an unknown name (with the nearest known), a missing file, an
    unknown key, a missing key or a wrong type.

    >>> load_card("mvtec_ad").categories["bottle"]
    {'train': (209, 0), 'test': (20, 63)}
    """
    path = Path(name_or_path)
    if isinstance(name_or_path, str) and path.suffix not in (".yaml", ".yml"):
        known = list_cards()
        if name_or_path not in known:
            raise DatasetError(
                f"expected the name of a data-set card, one of {', '.join(known)}, or the path of "
                f"a .yaml file; got {name_or_path!r}{nearest(name_or_path, known)}"
            )
        path = shipped("datasets") / f"{name_or_path}.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DatasetError(
            f"{path}: expected a data-set card in YAML, could not read it ({error})"
        ) from error
    if not isinstance(content, dict):
        raise DatasetError(
            f"{path}: expected a data-set card (keys and values), "
            f"found {type(content).__name__}; start from the shipped card 'folder'"
        )
    try:
        return Card.model_validate(content)
    except ValidationError as error:
        raise DatasetError(f"{path}: expected a data-set card, found{_faults(error)}") from error


def nearest(name: str, known: list[str]) -> str:
    """``"; did you mean 'x'?"`` for the known name nearest to ``name``, else nothing.

    >>> nearest("botle", ["bottle", "cable"])
    "; did you mean 'bottle'?"
    """
    close = get_close_matches(name.lower(), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _faults(error: ValidationError) -> str:
    lines = ""
    for fault in error.errors():
        key = ".".join(str(part) for part in fault["loc"]) or "card"
        hint = nearest(key, list(Card.model_fields)) if fault["type"] == "extra_forbidden" else ""
        lines += f"\n  {key}: {fault['msg']}{hint}"
    return lines
