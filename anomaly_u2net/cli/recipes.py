"""``anomaly-u2net recipe``: list, show and check recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
    from anomaly_u2net.recipe.find import shipped_recipes

    print_fields({path.stem: _header(path) for path in shipped_recipes()})


@app.command("show")
def show_recipe(recipe: Name, overrides: Set = None) -> None:
    """Print a recipe with every default filled in."""
    from anomaly_u2net.recipe.find import find_recipe

    print(find_recipe(recipe, overrides=overrides or []).to_yaml(), end="")


@app.command("check")
def check_recipe(recipe: Name, overrides: Set = None) -> None:
    """Check a recipe's keys, types and values; says what is wrong, or OK."""
    from anomaly_u2net.recipe.find import find_recipe

    found = find_recipe(recipe, overrides=overrides or [])
    print(f"OK  {found.name}  {found.digest[:12]}")


def _header(path: Path) -> str:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    return first.lstrip("# ")
