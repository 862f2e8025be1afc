"""The shipped recipes, and what the command line says of wrong ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from anomaly_u2net.recipe import Recipe
from anomaly_u2net.recipe.find import shipped_recipes

Cli = Callable[..., tuple[int, str, str]]
FOUND = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
NAMES = ["demo", "folder", "good_only", "magnetic_tile", "magnetic_tile_scratch",
         "magnetic_tile_small", "mvtec_ad"]  # fmt: skip


def test_which_recipes_ship() -> None:
    assert [path.stem for path in FOUND] == NAMES
    assert [path.stem for path in shipped_recipes()] == NAMES


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.stem)
def test_every_recipe_is_short_and_says_how_to_run_it(cli: Cli, path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= 25
    header = [line for line in lines if line.startswith("#")]
    assert lines[0].startswith("# ")
    assert f"anomaly-u2net train {path.stem}" in " ".join(header)
    recipe = Recipe.load(path)
    assert recipe.name == path.stem
    for name in (path.stem, str(path)):
        assert cli("recipe", "check", name) == (0, f"OK  {path.stem}  {recipe.digest[:12]}\n", "")


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.stem)
def test_show_prints_what_loads_as_the_same_recipe(cli: Cli, path: Path, tmp_path: Path) -> None:
    code, out, _ = cli("recipe", "show", path.stem)
    assert code == 0
    (tmp_path / "shown.yaml").write_text(out)
    assert Recipe.load(tmp_path / "shown.yaml") == Recipe.load(path)


def test_list_names_all(cli: Cli) -> None:
    code, out, _ = cli("recipe", "list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == NAMES
    assert all(len(line.split()) > 3 for line in out.splitlines())


def test_set_changes_a_key(cli: Cli) -> None:
    code, out, _ = cli("recipe", "show", "demo", "--set", "train.steps=7", "--set", "seed=3")
    shown = yaml.safe_load(out)
    assert (code, shown["train"]["steps"], shown["seed"]) == (0, 7, 3)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["dmeo"], "no recipe 'dmeo': expected a YAML file or a known name (did you mean 'demo'?)"),
        (["zzz"], "(ours: demo, "),
        (["nothing.yaml"], "nothing.yaml: no such recipe file; 'anomaly-u2net recipe list'"),
        (["demo", "--set", "trian.steps=3"], "unknown key 'trian' (did you mean 'train'?)"),
        (["demo", "--set", "train.stesp=3"], "unknown key 'train.stesp' (did you mean 'steps'?)"),
        (["demo", "--set", "train.steps"], "expected KEY=VALUE, e.g. train.steps=100"),
        (["demo", "--set", "train.steps=many"], "train.steps: Input should be a valid integer"),
        (["demo", "--set", "train.steps=0"], "train.steps: Input should be greater than or"),
        (["demo", "--set", "name.a=3"], "'name' is a value, not a section"),
        (["demo", "--set", "train.steps=[3"], "the value is not valid YAML"),
        (["demo", "--set", "input.size=100"], "size must be multiples of 32"),
        (
            ["demo", "--set", "model.arch=segnet"],
            "unknown architecture 'segnet': expected one of u2net",
        ),
        (["demo", "--set", "loss.pixel=ce"], "unknown loss 'ce' (did you mean 'bce'?)"),
        (["demo", "--set", "train.lr=nan"], "train.lr"),
    ],
)
def test_what_is_wrong_is_said(cli: Cli, arguments: list[str], text: str) -> None:
    code, out, err = cli("recipe", "check", *arguments)
    assert (code, out) == (3, "")
    assert err.startswith("anomaly-u2net: ")
    assert text in err


def test_all_faults_at_once(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("nmae: a\ntrain: {lr: fast, stpes: 3}\n")
    code, _, err = cli("recipe", "check", path)
    assert code == 3
    for text in ("name is missing", "'nmae'", "train.lr", "'train.stpes'", str(path)):
        assert text in err


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("name: [", "not valid YAML"),
        ("- name", "expected a mapping at the top, got list"),
        ("", "expected a mapping at the top, got NoneType"),
        ("name: ../up\n", "name: String should match pattern"),
    ],
)
def test_files_that_are_no_recipe(cli: Cli, tmp_path: Path, content: str, text: str) -> None:
    (tmp_path / "bad.yaml").write_text(content)
    code, _, err = cli("recipe", "check", tmp_path / "bad.yaml")
    assert code == 3
    assert text in err
