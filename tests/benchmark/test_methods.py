"""Benchmark files: what they may say, and what is said of wrong ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from anomaly_u2net.benchmark.jobs import _recipe
from anomaly_u2net.benchmark.methods import (
    AnomalibMethod,
    BenchmarkFile,
    TrainedMethod,
    load_benchmark,
)
from anomaly_u2net.errors import RecipeError
from anomaly_u2net.recipe import DataRecipe

SHIPPED = sorted((Path(__file__).parents[2] / "recipes" / "benchmark").glob("*.yaml"))


def content(**changes: Any) -> dict[str, Any]:
    """A small benchmark file."""
    found: dict[str, Any] = {
        "name": "mine",
        "data": {"root": "parts"},
        "protocols": ["given", "kshot-1"],
        "seeds": [0],
        "methods": {
            "ours": {"recipe": "folder", "set": {"train.steps": 7}},
            "U-Net": {"recipe": "folder", "arch": "smp/unet-resnet18"},
            "PatchCore": {"anomalib": "Patchcore", "arguments": {"layers": ["layer1"]}},
        },
    }
    return found | changes


def test_which_methods_are_peers() -> None:
    bench = BenchmarkFile.from_dict(content())
    assert [type(m) for m in bench.methods.values()] == [TrainedMethod] * 2 + [AnomalibMethod]
    assert [m.is_peer for m in bench.methods.values()] == [False, True, True]
    marked = {"ours": {"recipe": "folder", "peer": True}}
    assert BenchmarkFile.from_dict(content(methods=marked)).methods["ours"].is_peer


def test_what_differs_under_a_protocol_comes_last() -> None:
    method = TrainedMethod(
        recipe="folder",
        arch="unet",
        set={"train.steps": 7, "train.lr": 0.1},
        under={"kshot-1": {"train.steps": 3}},
    )
    assert method.overrides("given") == {"model.arch": "unet", "train.steps": 7, "train.lr": 0.1}
    assert method.overrides("kshot-1")["train.steps"] == 3


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"protocols": ["given", "given"]}, "protocols has 'given' twice: name each once"),
        (
            {"protocols": ["full-fold1of5", "full-folds"]},
            "protocols has full-fold1of5 beside full-folds, which holds it",
        ),
        ({"protocols": ["kshot"]}, "expected a protocol, as given, kshot-10"),
        ({"seed": 1}, "unknown key 'seed' (did you mean 'seeds'?)"),
        ({"data": {"rot": "a"}}, "unknown key 'data.rot' (did you mean 'root'?)"),
        ({"data": {"root": "a", "protocol": "third"}}, "changes nothing: list it under protocols"),
        ({"methods": {}}, "methods: Dictionary should have at least 1 item"),
        (
            {"methods": {"a": {"anomalib": "Padim", "argument": {}}}},
            "unknown key 'methods.a.argument' (did you mean 'arguments'?)",
        ),
        ({"methods": {"a": {"arch": "unet"}}}, "methods.a.recipe is missing"),
        (
            {"methods": {"a": {"recipe": "folder", "under": {"third": {"train.steps": 1}}}}},
            "methods.a.under has 'third', which is none of protocols: given, kshot-1",
        ),
        (
            {
                "published": [
                    {"method": "a", "protocol": "full", "numbers": {"pixel_ap": 1}, "source": "b"}
                ]
            },
            "published.0.protocol has 'full', which is none of protocols: given, kshot-1",
        ),
        (
            {"published": [{"method": "a", "protocol": "given", "numbers": {"pixel_ap": 2}}]},
            "published.0.source is missing",
        ),
    ],
)
def test_wrong_files(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(text)):
        BenchmarkFile.from_dict(content(**changes))


def test_files_and_names(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content()))
    assert load_benchmark(str(path)) == BenchmarkFile.from_dict(content())
    moved = load_benchmark(str(path), data_root=tmp_path)
    assert moved.data.root == str(tmp_path)
    with pytest.raises(RecipeError, match=r"no benchmark 'magnetic': .*mean 'magnetic_tile'"):
        load_benchmark("magnetic")
    path.write_text("name: a\nname: b\n")
    with pytest.raises(RecipeError, match="the key 'name' is there twice"):
        load_benchmark(str(path))
    path.write_text("[a]")
    with pytest.raises(RecipeError, match="expected a mapping at the top, got list"):
        load_benchmark(str(path))
    with pytest.raises(RecipeError, match="expected a benchmark file in YAML, could not read it"):
        load_benchmark(str(tmp_path / "gone.yaml"))


def test_which_benchmarks_ship() -> None:
    assert [path.stem for path in SHIPPED] == [
        *("bsdata", "demo", "ksdd2", "magnetic_tile", "mvtec_ad"),
    ]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_benchmarks_say_how_to_run_and_are_recipes_under_every_protocol(path: Path) -> None:
    assert path.read_text().startswith("# ")
    assert f"anomaly-u2net benchmark {path.stem} --out" in path.read_text()
    bench = load_benchmark(path.stem)
    assert bench.name == path.stem
    for protocol in bench.protocols:
        data = DataRecipe(card=bench.data.card, protocol=protocol)
        for name, method in bench.methods.items():
            if isinstance(method, TrainedMethod):
                recipe = _recipe(bench, name, method, data, 2, listed=protocol)
                assert recipe.train.select == "last"
                assert (recipe.seed, recipe.data) == (2, data)
                assert (recipe.synthesis.share > 0) == (protocol not in ("full", "given"))


def test_ksdd2_is_trained_on_as_many_masks_as_its_authors_list() -> None:
    assert load_benchmark("ksdd2").protocols == ["full", "listed-53", "listed-16", "good_only"]
