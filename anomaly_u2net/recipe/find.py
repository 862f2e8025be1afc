"""A recipe by its path, or by the name of one that comes with the package."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from anomaly_u2net.errors import RecipeError
from anomaly_u2net.recipe.recipe import Recipe
from anomaly_u2net.resources import shipped


def shipped_recipes() -> list[Path]:
    """The YAML files in recipes/, sorted by name; those of benchmarks are not recipes."""
    return sorted(shipped("recipes").glob("*.yaml"))


def find_recipe(name: str, *, overrides: Sequence[str] = ()) -> Recipe:
    """Load a recipe by path, or by the name of one that comes with the package."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml") and not path.is_file():
        ours = {p.stem: p for p in shipped_recipes()}
        if name not in ours:
            close = get_close_matches(name, ours, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"ours: {', '.join(ours)}"
            raise RecipeError(f"no recipe {name!r}: expected a YAML file or a known name ({hint})")
        path = ours[name]
    return Recipe.load(path, overrides=overrides)
