"""``anomaly-u2net benchmark``: one network and one peer for real, and what is refused."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from anomaly_u2net import benchmark
from anomaly_u2net.benchmark import BenchmarkFile, here
from anomaly_u2net.benchmark.outcome import Outcome
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
    assert f"splits seed 0: {cells[0]['split_hash'][:12]}" in " ".join(out.split())
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
        ([file, file], "files of different names, .* got mine, mine"),
    ):
        code, _, err = cli("benchmark", *arguments, *out)
        assert code == 3
        assert re.search(text, err)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def lacking(file: Path) -> Path:
    """A benchmark file of two cells without the weights of their one method."""
    content = yaml.safe_load(file.read_text()) | {"name": "second", "seeds": [0, 1]}
    content["methods"] = {"a": {"anomalib": "Padim", "weights": "/gone.pth"}}
    path = file.with_name("second.yaml")
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.mark.parametrize(
    ("root", "text"),
    [
        ("/gone", "/gone: expected a data-set folder, found nothing; check the path"),
        ("$NOT_SET_HERE", "that variable is not set in the environment: set it, or give --data-"),
        (None, "data.root is not set: give --data-root FOLDER"),
    ],
)
def test_a_file_without_its_images_is_na_and_the_others_go_on(
    cli: Cli, asked: dict[str, Any], file: Path, lacking: Path, tmp_path: Path, root: Any, text: str
) -> None:
    theirs = {"method": "theirs", "protocol": "given", "numbers": {"pixel_ap": 0.75}, "source": "b"}
    content = yaml.safe_load(file.read_text()) | {"data": {"root": root}, "published": [theirs]}
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    code, out, err = cli("benchmark", file, lacking, "--out", tmp_path / "out")
    assert code == 3  # no cell finished: the weights are not there either
    assert "mine: n/a: needs its images: " in out
    assert text in out
    assert "plate, given, a, seed 1" in err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"mine", "second"}
    folder = tmp_path / "out" / "mine"
    assert f"written: {folder / 'benchmark.md'} (and .csv, .tex, .json)" in out
    names = {f"benchmark.{end}" for end in ("yaml", "md", "csv", "tex", "json")}
    assert {path.name for path in folder.iterdir()} == names
    with (folder / "benchmark.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [(row["kind"], row["method"]) for row in rows] == [
        ("mean", "ours"), ("mean", "PatchCore"), ("published", "theirs"),
    ]  # fmt: skip
    assert all(text in row["note"] for row in rows[:2])
    assert (rows[0]["pixel_ap"], rows[0]["split_hash"], rows[2]["pixel_ap"]) == (
        "n/a",
        "n/a",
        "0.75",
    )
    for end in ("md", "tex"):
        assert "n/a: needs its images: " in (folder / f"benchmark.{end}").read_text()
    code, out, _ = cli("benchmark", file, lacking, "--out", tmp_path / "out", "--json")
    mine, second = json.loads(out)
    assert mine == json.loads((folder / "benchmark.json").read_text())
    assert [row["method"] for row in mine["rows"]] == ["ours", "PatchCore", "theirs"]
    assert all(text in row["notes"][0] and not row["seeds"] for row in mine["rows"][:2])
    assert len(second["cells"]) == 2


def test_the_table_of_a_call_that_had_the_images_stays(
    cli: Cli, asked: dict[str, Any], lacking: Path, tmp_path: Path
) -> None:
    cli("benchmark", lacking, "--out", tmp_path / "out")
    files = [path for path in (tmp_path / "out" / "second").iterdir() if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    assert len(before) == 5
    content = yaml.safe_load(lacking.read_text()) | {"data": {"root": "/gone"}}
    lacking.write_text(yaml.safe_dump(content, sort_keys=False))
    code, out, _ = cli("benchmark", lacking, "--out", tmp_path / "out")
    assert code == 3
    assert "second: n/a: needs its images: /gone" in out
    assert f"left as it is: {tmp_path / 'out' / 'second' / 'benchmark.md'}, of a call that" in out
    assert {path: path.read_bytes() for path in files} == before


def test_a_fault_of_any_file_stops_before_the_first_training(
    cli: Cli, asked: dict[str, Any], file: Path, lacking: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    content = yaml.safe_load(file.read_text())
    for change, text in (
        ({"data": {"root": str(tmp_path / "empty")}}, "empty: expected"),
        ({"methods": {"ours": {"recipe": "folder", "set": {"train.step": 3}}}}, "'train.step'"),
    ):
        file.write_text(yaml.safe_dump(content | change, sort_keys=False))
        code, out, err = cli("benchmark", lacking, file, "--out", tmp_path / "out")
        assert (code, out) == (3, "")
        assert text in err
        assert not (tmp_path / "out").exists()


def test_the_cells_of_another_benchmark_stop_before_the_first_training(
    cli: Cli, asked: dict[str, Any], file: Path, lacking: Path, tmp_path: Path
) -> None:
    result = tmp_path / "out" / "mine" / "plate" / "given" / "ours-seed0" / "result.json"
    result.parent.mkdir(parents=True)
    Outcome("of another", "plate", "given", "ours", 0).save(result.parent)
    code, _, err = cli("benchmark", lacking, file, "--out", tmp_path / "out")
    assert code == 3
    assert "holds a cell of another benchmark" in err
    assert not (tmp_path / "out" / "second").exists()


def test_no_cell_finished(cli: Cli, asked: dict[str, Any], file: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(file.read_text())
    content["methods"] = {"a": {"anomalib": "Padim", "weights": "/gone.pth"}}
    assert BenchmarkFile.from_dict(content)
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    code, out, _ = cli("benchmark", file, "--out", tmp_path / "out")
    assert code == 3
    assert "n/a: needs /gone.pth: no such weights file" in " ".join(out.split())


def test_sigterm_ends_the_cell_as_ctrl_c_does(
    file: Path, tmp_path: Path, this_package: dict[str, str]
) -> None:
    """The command's output ends once nobody is left who could write there."""
    script = """
        import os, sys, threading
        from anomaly_u2net.benchmark import pool
        from anomaly_u2net.cli.main import main

        def for_ever(job):
            print(os.getpid(), flush=True)
            threading.Event().wait()

        pool.execute = for_ever
        if __name__ == "__main__":
            main(["benchmark", *sys.argv[1:]])
    """
    path = tmp_path / "command.py"
    path.write_text(textwrap.dedent(script))
    command = [sys.executable, path, file, "--out", tmp_path / "out"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=this_package, text=True, **pipes) as main:
        assert main.stdout is not None
        worker = int(main.stdout.readline())
        assert worker != main.pid
        main.terminate()
        try:
            out, err = main.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            os.kill(worker, signal.SIGKILL)
            raise
    assert (main.returncode, out) == (130, "")
    assert err.endswith("anomaly-u2net: interrupted\n")
