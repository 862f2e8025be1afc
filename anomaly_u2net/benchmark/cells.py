"""The cells of a grid: one recipe, changed in every combination of values, once per seed."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from anomaly_u2net.errors import InputError, RecipeError
from anomaly_u2net.recipe import Recipe

MODEL, ARCH, SEED = "model", "model.arch", "seed"


@dataclass(frozen=True)
class Cell:
    """One run of a grid. design: what makes it differ from the others, without the seed."""

    design: str
    recipe: Recipe

    @property
    def seed(self) -> int:
        return self.recipe.seed

    @property
    def name(self) -> str:
        return f"{self.design}, seed {self.seed}"

    @property
    def folder(self) -> str:
        """The name of its run folder: the design with other signs than ``A-Z a-z 0-9 . _ = +``
        as ``-``, then the seed."""
        return f"{re.sub(r'[^A-Za-z0-9._=+]+', '-', self.design).strip('-')}-seed{self.seed}"


def cells(
    recipe: Recipe, *, vary: Mapping[str, Sequence[Any]], seeds: Sequence[int] | None = None
) -> tuple[Cell, ...]:
    """Every combination of the values in ``vary``, for each of ``seeds`` (the recipe's own if None).

    vary: recipe key → values. All designs of the first seed come first, so that a grid cut short
    still compares them. Raises `RecipeError` when any combination is not a recipe (an unknown key,
    a value that does not fit), naming it, before anything is trained; `InputError` for no values,
    for a combination or a seed that is there twice, however it is written, and for the key
    ``seed``.

    >>> recipe = Recipe.from_dict({"name": "mine"})
    >>> vary = {"model.arch": ["u2netp", "unet"], "loss.pixel": ["bce", "bce+dice"]}
    >>> grid = cells(recipe, vary=vary, seeds=[0, 1])
    >>> len(grid), grid[1].name, grid[1].recipe.loss.pixel
    (8, 'u2netp, loss.pixel=bce+dice, seed 0', 'bce+dice')
    >>> grid[1].folder
    'u2netp-loss.pixel=bce+dice-seed0'

    A value may be a whole section, for designs that differ in several of its keys:

    >>> models = [{"arch": "u2netp", "stem": "unshuffle2"}, {"arch": "smp/unet-resnet18"}]
    >>> [cell.design for cell in cells(recipe, vary={"model": models})]
    ['u2netp, stem=unshuffle2', 'smp/unet-resnet18']
    """
    if SEED in vary:
        raise InputError("the key seed is varied by seeds (--seed 0 --seed 1), not by vary")
    seeds = [recipe.seed] if seeds is None else seeds
    if not seeds:
        raise InputError("expected at least one seed, got none")
    if empty := [key for key, values in vary.items() if not values]:
        raise InputError(f"expected at least one value of {empty[0]}, got none")
    found = [
        _cell(recipe, dict(zip(vary, values, strict=True)), seed)
        for seed in seeds
        for values in product(*vary.values())
    ]
    _check_differ(found, [cell.recipe.digest[:12] for cell in found], what="recipe")
    _check_differ(found, [cell.folder.lower() for cell in found], what="folder")
    return tuple(found)


def from_scratch(cell: Cell) -> Cell:
    """The same design from random weights, called so."""
    recipe = cell.recipe.with_overrides(["model.init=null"])
    return Cell(f"{cell.design}, from scratch", recipe)


def _cell(recipe: Recipe, choice: Mapping[str, Any], seed: int) -> Cell:
    design = ", ".join(_name(key, value) for key, value in choice.items()) or recipe.model.arch
    overrides = [f"{key}={json.dumps(v, ensure_ascii=False)}" for key, v in choice.items()]
    try:
        return Cell(design, recipe.with_overrides([*overrides, f"{SEED}={seed}"]))
    except RecipeError as error:
        raise RecipeError(f"cell {design}: {error}") from error


def _check_differ(found: Sequence[Cell], keys: Sequence[str], *, what: str) -> None:
    """Raise `InputError` when two of the cells have one key."""
    twice, count = Counter(keys).most_common(1)[0]
    if count > 1:
        names = [cell.name for cell, key in zip(found, keys, strict=True) if key == twice]
        raise InputError(
            f"expected cells that differ, got {' and '.join(names)} for the one {what} {twice}: "
            "name each value and each seed once"
        )


def _name(key: str, value: Any) -> str:
    """What a design is called for this choice; a network by its arch, and what else it is."""
    if key == MODEL and isinstance(value, Mapping) and "arch" in value:
        shown = {**value, "init": Path(value["init"]).name} if value.get("init") else value
        rest = [f"{k}={_text(v)}" for k, v in shown.items() if k != "arch"]
        return ", ".join([_text(value["arch"]), *rest])
    return _text(value) if key == ARCH else f"{key}={_text(value)}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
