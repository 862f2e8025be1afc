"""The counted tables of docs/reference/architecture.md and rivals.md, counted again."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from anomaly_u2net.models.blocks import BLOCKS
from anomaly_u2net.recipe import ARCHITECTURES

ROOT = Path(__file__).parent.parent


def script(path: Path) -> ModuleType:
    """A file of the repository that is no part of the package, as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


architecture = script(ROOT / "docs" / "architecture.py")


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    before = list(sys.path)
    try:
        return script(ROOT / "tests" / "benchmarks" / "bench_models.py")
    finally:
        sys.path[:] = before  # the script adds docs/


def cells(table: str) -> list[list[str]]:
    """The lines of a table below its head and rule."""
    return [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]


@pytest.mark.parametrize("name", architecture.NETWORKS)
def test_the_stage_tables_are_those_of_the_networks(name: str) -> None:
    table = architecture.stage_table(architecture.NETWORKS[name]())
    assert architecture.read_table(architecture.PAGE, name) == table, "python docs/architecture.py"


def test_the_shares_in_the_text_follow_from_the_tables() -> None:
    whole, ends = {}, {}
    for name in architecture.NETWORKS:
        rows = [
            line.strip("|").replace(",", "").split("|")
            for line in architecture.read_table(architecture.PAGE, name).splitlines()[2:]
        ]
        counts = {row[0].strip(): [float(c) for c in row[4:7]] for row in rows}
        whole[name] = counts["whole"]
        ends[name] = (counts["En_1"][2] + counts["De_1"][2]) / counts["whole"][2]
    small, full = whole["u2netp"], whole["u2net"]
    parameters, work, memory = (a / b for a, b in zip(small, full, strict=True))
    text = " ".join(architecture.PAGE.read_text(encoding="utf-8").split())
    assert f"has {parameters:.1%} of the parameters, but {work:.0%}".replace("%", " %") in text
    assert f"and {memory:.0%} of the activations".replace("%", " %") in text
    assert f"hold {ends['u2net']:.0%} of U²-Net's activations".replace("%", " %") in text
    assert f"and {ends['u2netp']:.0%} of U²-Net†'s".replace("%", " %") in text


def test_the_table_of_rivals_is_counted_again(bench: ModuleType) -> None:
    rows = cells(architecture.read_table(bench.PAGE, "rivals"))
    assert len(rows) == len(bench.RIVALS)
    assert rows[0][-1] == "1.00"  # the unit of time
    for rival, row in zip(bench.RIVALS, rows, strict=True):
        assert float(row[-1]) > 0  # measured: CPU time
        assert float(row[-2]) > 0  # and peak memory
        if rival in bench.installed():
            assert row[:-2] == bench.row(rival), "python tests/benchmarks/bench_models.py --write"


def test_every_block_and_network_is_in_the_table(bench: ModuleType) -> None:
    recipes = [rival.recipe for rival in bench.RIVALS]
    assert {recipe.block for recipe in recipes} == set(BLOCKS)
    assert {r.arch for r in recipes if not r.arch.startswith("smp/")} == set(ARCHITECTURES)


def test_a_table_goes_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A\n<!-- b -->\nold\n<!-- end of b -->\nrest\n", encoding="utf-8")
    table = architecture.markdown(("x", "y"), [["1", "2"]], right=1)
    assert table == "| x | y |\n| --- | ---: |\n| 1 | 2 |"
    architecture.write_table(page, "b", table=table)
    architecture.write_table(page, "b", table=table)
    assert architecture.read_table(page, "b") == table
    assert page.read_text(encoding="utf-8").startswith("# A\n<!-- b -->\n")
    assert page.read_text(encoding="utf-8").endswith("\n<!-- end of b -->\nrest\n")
    with pytest.raises(AssertionError, match=re.escape("expected the marks <!-- c -->")):
        architecture.write_table(page, "c", table=table)
