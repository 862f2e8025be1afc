"""``anomaly-u2net data audit``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

Cli = Callable[..., tuple[int, str, str]]


def test_a_sound_folder_ends_with_0(cli: Cli, tiny_data: Path) -> None:
    code, out, _ = cli("data", "audit", tiny_data, "--size", 64)
    assert code == 0, out
    assert out.splitlines()[-1].startswith("54 images; findings: 0 error, 0 warning")
    assert "counts plate: good 17 (4 calibration, 3 test, 10 train)" in out


def test_a_problem_ends_with_1_and_is_named_first(cli: Cli, own_data: Path, tmp_path: Path) -> None:
    good = own_data / "plate/train/good"
    shutil.copy(good / "train_good_0.png", good / "twice.png")
    out_folder, groups = tmp_path / "out", tmp_path / "groups.csv"
    options = ["--size", 64, "--out", out_folder, "--write-groups", groups]
    code, out, _ = cli("data", "audit", own_data / "plate", *options)
    assert code == 1
    lines = out.splitlines()
    assert lines[0].startswith("warning  copies plate: 2 images in 1 group: the same picture")
    assert lines[1].strip() == "train/good/train_good_0.png, train/good/twice.png: train/good"
    assert lines[2].strip() == "→ Keep one of each."
    assert lines[-1].startswith(f"written: {out_folder / 'audit.md'}, {out_folder / 'audit.json'}")
    assert groups.read_text().count(",0001") == 2
    code, out, _ = cli("data", "audit", own_data, "--size", 64, "--fail-on", "error", "--json")
    assert code == 0
    assert json.loads(out)["counts"]["warning"] == 1


def test_what_split_refuses_for_its_groups_is_an_error(
    cli: Cli, own_data: Path, tmp_path: Path
) -> None:
    part = own_data / "plate"
    (part / "groups.csv").write_text("file,group\ntrain_good_0,7\ntest_good_0,7\n")
    code, out, _ = cli("data", "audit", part, "--size", 64, "--fail-on", "error")
    assert code == 1
    assert "error    groups_across_splits plate: 2 images in 1 group: named as one" in out
    assert "test/good/test_good_0.png, train/good/train_good_0.png: group 7: test/good" in out
    code, _, err = cli("data", "split", part, "--protocol", "given", "--out", tmp_path / "s.csv")
    assert code == 3
    assert "by their group" in err


def test_labels_are_judged_by_runs(cli: Cli, tiny_run: Path, tiny_data: Path) -> None:
    code, out, err = cli("data", "audit", tiny_data, "--size", 64, "--run", tiny_run, "--json")
    assert code in (0, 1), err
    checks = [finding["check"] for finding in json.loads(out)["findings"]]
    assert "counts" in checks
    code, out, err = cli("data", "audit", tiny_data / "plate", "--size", 64, "--run", tiny_run)
    assert code in (0, 1), err
    assert "of 21 (" in next(line for line in out.splitlines() if "labels_judged" in line)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--size", "100"], "size must be multiples of 32, got [100, 100]"),
        (["--fit", "crop"], "'letterbox', 'stretch' or 'native'"),
        (["--fit", "native", "--size", "64"], "leave --size out"),
        (["--recipe", "folder", "--size", "64"], "leave --size and --fit out"),
        (["--fail-on", "info"], "--fail-on 'info': expected error or warning"),
        (["--run", "nothing"], "nothing"),
        (["--write-groups", "g.csv"], "found plate, sheet: audit one"),
    ],
)
def test_wrong_arguments(cli: Cli, tiny_data: Path, options: list[str], text: str) -> None:
    code, _, err = cli("data", "audit", tiny_data, *options)
    assert code == 3
    assert text in err


def test_size_and_fit_of_a_recipe(cli: Cli, tiny_data: Path) -> None:
    code, out, _ = cli("data", "audit", tiny_data, "--recipe", "folder")
    assert code == 0
    assert "letterbox" in out
