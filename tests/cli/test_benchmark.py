"""``anomaly-u2net benchmark``: one network and one peer for real, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from anomaly_u2net import benchmark
from anomaly_u2net.benchmark import BenchmarkFile, here
from anomaly_u2net.recipe import Recipe

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def file(tiny_recipe: Recipe, tiny_data: Path, tmp_path: Path) -> Path:
    recipe = tiny_recipe.with_overrides(["train.steps=2", "train.validate_every=2"])
    recipe.save(tmp_path / "tiny.yaml")
    arguments = {"backbone": "resnet18", "layers": ["layer1"], "pre_trained": False}
    content = {
        "name": "mine",
        "data": {"root": str(tiny_data), "categories": ["plate"]},
        "protocols": ["given"],
        "seeds": [0],
        "accelerator": "cpu",
        "methods": {
            "ours": {"recipe": str(tmp_path / "tiny.yaml")},
            "PatchCore": {
                "anomalib": "Patchcore",
                "arguments": arguments | {"coreset_sampling_ratio": 0.1},
                "size": 32,
            },
        },
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Which runner is asked for; cells are made here."""
    found: dict[str, Any] = {}

    def in_processes(count: int) -> Any:
        found["processes"] = count
        return here

    monkeypatch.setattr(benchmark, "in_processes", in_processes)
    return found


@pytest.mark.filterwarnings("ignore")  # of anomalib and its neighbours, on themselves
def test_ours_and_a_peer_for_real(
    cli: Cli, asked: dict[str, Any], file: Path, tmp_path: Path
) -> None:
    pytest.importorskip("anomalib", reason="the extra anomalib is not installed")
    command = ["benchmark", file, "--out", tmp_path / "out", "--parallel", 2]
    code, out, err = cli(*command)
    assert (code, asked) == (0, {"processes": 2})
    assert "mine: given" in out
    assert "plate, given, PatchCore, seed 0" in err
    assert "Test images, each at its original size" in out
    cells = json.loads((tmp_path / "out" / "mine" / "benchmark.json").read_text())["cells"]
    assert [(c["method"], c["error"], c["costs"]["steps"]) for c in cells] == [
        ("ours", None, 2),
        ("PatchCore", None, 2),
    ]
    assert cells[0]["split_hash"] == cells[1]["split_hash"]
    assert cells[0]["images"] == {
        "calibration": [4, 1], "test": [3, 3], "train": [9, 5], "validation": [1, 1],
    }  # fmt: skip
    code, out, _ = cli(*command, "--json")
    assert code == 0
    assert json.loads(out)[0]["cells"] == cells  # the second call made nothing again


def test_refused(cli: Cli, asked: dict[str, Any], file: Path, tmp_path: Path) -> None:
    out = ["--out", tmp_path / "out"]
    for arguments, text in (
        ([file, "--ray", "--parallel", 2], "--ray and --parallel both say where cells run"),
        ([file, file, "--data-root", tmp_path], "--data-root is for one benchmark file"),
        (["magnetic"], "no benchmark 'magnetic'"),
        ([file, "--data-root", tmp_path / "gone"], "expected a data-set folder, found nothing"),
    ):
        code, _, err = cli("benchmark", *arguments, *out)
        assert code == 3
        assert text in err
    assert not (tmp_path / "out").exists()


def test_no_cell_finished(cli: Cli, asked: dict[str, Any], file: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(file.read_text())
    content["methods"] = {"a": {"anomalib": "Padim", "weights": "/gone.pth"}}
    assert BenchmarkFile.from_dict(content)
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    code, out, _ = cli("benchmark", file, "--out", tmp_path / "out")
    assert code == 3
    assert "n/a: needs /gone.pth: no such weights file" in " ".join(out.split())
