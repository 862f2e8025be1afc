"""``anomaly-u2net recipe``: list, show and check recipes."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anomaly_u2net.errors import RecipeError

if TYPE_CHECKING:
    from anomaly_u2net.recipe import Recipe

app = typer.Typer(help="List, show and check recipes.", no_args_is_help=True)

Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key before checking."),
]
Name = Annotated[str, typer.Argument(help="A recipe file, or the name of one of ours.")]


@app.command("list")
def list_recipes() -> None:
    """The recipes that come with the package, with what each says of itself."""
    from anomaly_u2net.cli.show import print_fields

    print_fields({path.stem: _header(path) for path in shipped_recipes()})


@app.command("show")
def show_recipe(recipe: Name, overrides: Set = None) -> None:
    """Print a recipe with every default filled in."""
    print(find_recipe(recipe, overrides=overrides or []).to_yaml(), end="")


@app.command("check")
def check_recipe(recipe: Name, overrides: Set = None) -> None:
    """Check a recipe's keys, types and values; says what is wrong, or OK."""
    found = find_recipe(recipe, overrides=overrides or [])
    print(f"OK  {found.name}  {found.digest[:12]}")


def shipped_recipes() -> list[Path]:
    """The YAML files in recipes/, sorted by name."""
    from anomaly_u2net.resources import shipped

    return sorted(shipped("recipes").rglob("*.yaml"))


def find_recipe(name: str, *, overrides: Sequence[str] = ()) -> Recipe:
    """Load a recipe by path, or by the name of one that comes with the package."""
    from anomaly_u2net.recipe import Recipe

    path = Path(name)
    if path.suffix not in (".yaml", ".yml") and not path.is_file():
        ours = {p.stem: p for p in shipped_recipes()}
        if name not in ours:
            close = get_close_matches(name, ours, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"ours: {', '.join(ours)}"
            raise RecipeError(f"no recipe {name!r}: expected a YAML file or a known name ({hint})")
        path = ours[name]
    return Recipe.load(path, overrides=overrides)


def _header(path: Path) -> str:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    return first.lstrip("# ")
