"""``anomaly-u2net compare``: what it takes, prints, writes and refuses."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anomaly_u2net import benchmark
from anomaly_u2net.benchmark import DesignTable, Row, cells
from anomaly_u2net.benchmark.table import COLUMNS, failed_row
from anomaly_u2net.cli import show
from anomaly_u2net.evaluation import Measured
from anomaly_u2net.recipe import Recipe

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def recipe_file(tiny_recipe: Recipe, tmp_path: Path) -> Path:
    tiny_recipe.with_overrides(["train.steps=2", "train.validate_every=2"]).save(
        tmp_path / "tiny.yaml"
    )
    return tmp_path / "tiny.yaml"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the library is asked for; it answers that all cells but the first failed."""
    found: dict[str, Any] = {"finished": 1}

    def answer(recipe: Recipe, **options: Any) -> DesignTable:
        found.update(options, recipe=recipe)
        options["on_work"]("training", 1, 2)
        grid = cells(recipe, vary=options["vary"], seeds=options["seeds"])
        numbers = dict.fromkeys(COLUMNS) | {"pixel_ap": Measured(0.5, 0.25, 0.75)}
        rows = [failed_row(cell, "no [bold] luck [/x]") for cell in grid]
        rows[: found["finished"]] = [Row(cell, numbers) for cell in grid[: found["finished"]]]
        return DesignTable(tuple(rows), recipe.digest, images=3)

    monkeypatch.setattr(benchmark, "compare_designs", answer)
    return found


def test_two_networks(cli: Cli, recipe_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    # at such a rate the weights are no numbers after one step
    options = ["--vary", "train.lr=[0.02, 1.0e+30]", "--set", "train.clip=null", "--out", out]
    code, text, err = cli("compare", recipe_file, *options, "--set", "train.warmup=0")
    assert code == 0
    assert "the loss became" in " ".join(text.split())
    assert "training train.lr=0.02, seed 0" in err
    assert f"written: {out / 'compare.md'}, {out / 'compare.csv'}, {out / 'compare.json'}" in text
    done, failed = json.loads((out / "compare.json").read_text())["cells"]
    assert (done["cell"], done["folder"]) == ("train.lr=0.02", "train.lr=0.02-seed0")
    assert done["error"] is None
    assert done["numbers"]["steps"]["value"] == 2
    assert (failed["cell"], failed["numbers"]["steps"]) == ("train.lr=1e+30", None)
    assert "compared on" not in text
    assert "validation images, never on test images" in text


def test_plot(
    cli: Cli,
    asked: dict[str, Any],
    recipe_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    grid = ["compare", recipe_file, "--seed", "0", "--seed", "1", "--plot", "--out"]
    code, text, _ = cli(*grid, tmp_path / "out")
    assert code == 0
    assert str(tmp_path / "out" / "compare.png") in text
    assert (tmp_path / "out" / "compare.png").read_bytes().startswith(b"\x89PNG")
    asked["finished"] = 0
    assert cli(*grid, tmp_path / "none")[0] == 3
    assert not (tmp_path / "none" / "compare.png").exists()
    asked.clear()
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as if it were not installed
    code, text, err = cli(*grid, tmp_path / "other")
    assert (code, text) == (3, "")
    assert "matplotlib is not installed: pip install" in err
    assert asked == {}  # before anything is trained


def test_all_options(
    cli: Cli, asked: dict[str, Any], recipe_file: Path, own_data: Path, tmp_path: Path
) -> None:
    code, text, _ = cli(
        "compare", recipe_file, "--out", tmp_path / "out", "--arch", "small", "--arch", "unet",
        "--vary", 'loss.pixel=[bce, "bce+dice"]', "--vary", "train.lr=0.01",
        "--vary", "augment.scale=[[1, 1], [0.8, 1.2]]", "--seed", 3, "--seed", 4,
        "--set", "train.steps=7", "--data-root", own_data, "--init", "a b: c.onnx",
        "--max-minutes", 5, "--json",
    )  # fmt: skip
    assert code == 0
    assert asked["vary"] == {
        "model.arch": ["small", "unet"],
        "loss.pixel": ["bce", "bce+dice"],
        "train.lr": [0.01],
        "augment.scale": [[1, 1], [0.8, 1.2]],
    }
    assert (asked["seeds"], asked["max_minutes"], asked["out"]) == ([3, 4], 5, tmp_path / "out")
    recipe = asked["recipe"]
    assert (recipe.data.root, recipe.model.init) == (str(own_data), "a b: c.onnx")
    assert recipe.train.steps == 7
    assert json.loads(text) == json.loads((tmp_path / "out" / "compare.json").read_text())


def test_failed_cells(cli: Cli, asked: dict[str, Any], recipe_file: Path, tmp_path: Path) -> None:
    options = ["--arch", "small", "--arch", "unet", "--out", tmp_path]
    code, text, _ = cli("compare", recipe_file, *options)
    assert code == 0
    assert "0.500" in text
    assert "no [bold] luck [/x]" in " ".join(text.split())
    asked["finished"] = 0
    code, text, _ = cli("compare", recipe_file, *options)
    assert code == 3
    small, unet, written = text.splitlines()
    assert small == "small, seed 0: no [bold] luck [/x]"
    assert unet == "unet, seed 0: no [bold] luck [/x]"
    assert written.startswith(f"written: {tmp_path / 'compare.md'}, ")
    assert (tmp_path / "compare.md").is_file()


@pytest.mark.parametrize("shown", [[], ["--json"]])
def test_what_was_measured_is_saved_before_it_is_shown(
    cli: Cli,
    asked: dict[str, Any],
    recipe_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shown: list[str],
) -> None:
    def closed(*_: Any) -> None:
        raise BrokenPipeError("nobody reads this")

    monkeypatch.setattr(show, "print_table", closed)
    monkeypatch.setattr(show, "print_json", closed)
    options = ["--arch", "small", "--arch", "unet", "--out", tmp_path / "out"]
    code, _, err = cli("compare", recipe_file, *options, *shown)
    assert (code, "nobody reads this" in err) == (3, True)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["compare.csv", "compare.json", "compare.md"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            ["--arch", "small", "--arch", "resunet"],
            "cell resunet: recipe: model.arch: unknown arch",
        ),
        (["--vary", "train.stesp=[1, 2]"], "unknown key 'train.stesp' (did you mean 'steps'?)"),
        (["--vary", "loss.pixel"], "--vary 'loss.pixel': expected KEY=VALUES, e.g. train.lr="),
        (["--vary", "=[1, 2]"], "expected KEY=VALUES"),
        (["--vary", "train.lr=[1, 2"], "--vary 'train.lr=[1, 2': the values are not valid YAML"),
        (["--vary", "train.lr=[]"], "at least one value of train.lr, got none"),
        (["--vary", "train.lr=1", "--vary", "train.lr=2"], "train.lr is varied already: give all"),
        (["--arch", "small", "--vary", "model.arch=unet"], "model.arch is varied already"),
        (["--vary", "seed=[0, 1]"], "the key seed is varied by seeds (--seed 0 --seed 1)"),
        (["--arch", "small"], "nothing to compare: expected two designs or seeds at least"),
        ([], "nothing to compare"),
        (["--seed", "0", "--seed", "1", "--max-minutes", "0"], "max_minutes must be positive"),
        (
            ["--seed", "0", "--seed", "1", "--set", "data.root=null"],
            "anomaly-u2net: data.root is not set: give --data-root FOLDER",
        ),
        (
            [
                *("--arch", "small", "--arch", "smp/nothing-at-all"),  # which has no width, depth:
                *("--set", "model.width=null", "--set", "model.depth=null"),
            ],
            "cell smp/nothing-at-all, seed 0: unknown model.arch 'smp/nothing-at-all'",
        ),
    ],
)
def test_refused_in_one_line(
    cli: Cli, recipe_file: Path, tmp_path: Path, options: list[str], text: str
) -> None:
    code, out, err = cli("compare", recipe_file, *options, "--out", tmp_path / "out")
    assert (code, out) == (3, "")
    (line,) = [line for line in err.splitlines() if line.startswith("anomaly-u2net: ")]
    assert text in line
    assert not (tmp_path / "out").exists()
