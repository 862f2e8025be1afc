"""``anomaly-u2net data synthesize``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from anomaly_u2net.data.index import index_dataset
from anomaly_u2net.recipe import DEFAULT_WEIGHTS, GENERATOR_NAMES

Cli = Callable[..., tuple[int, str, str]]


def test_made_defects_are_written_counted_and_trainable(
    cli: Cli, tiny_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "made"
    options = ["--out", out, "--count", 2, "--generator", "stain", "--generator", "paste"]
    code, text, _ = cli("data", "synthesize", tiny_data, *options, "--json")
    assert code == 0
    assert json.loads(text) == [
        {"category": category, "generator": generator, "images": 2}
        for category in ("plate", "sheet")
        for generator in ("stain", "paste")
    ]
    assert len(index_dataset(out)) == 2 * (10 + 4)
    code, text, _ = cli("data", "count", out)
    assert code == 0
    assert ["plate", "train", "stain", "2"] in [
        line.split() for line in text.replace("│", " ").splitlines()
    ]


def test_all_generators_but_paste_without_a_choice(
    cli: Cli, tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    code, text, err = cli("data", "synthesize", tiny_data / "sheet", "--out", tmp_path / "made",
                          "--count", 1, "--card", "folder")  # fmt: skip
    assert code == 0, err
    assert "made in" in text
    shown = [line.split() for line in text.replace("│", " ").splitlines()]
    counts = {line[1]: line[2] for line in shown if line[:1] == ["sheet"]}
    assert list(counts) == list(DEFAULT_WEIGHTS)
    assert counts["perlin"] == "1"
    for name, number in counts.items():  # the images are noise, which hides some
        assert number == ("0" if f"no defect by generator '{name}'" in caplog.text else "1")


def test_what_is_wrong_is_said(cli: Cli, tiny_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "made"
    for options, message in [
        (["--generator", "perlim"], "unknown generator 'perlim' (did you mean 'perlin'?)"),
        (["--count", "0"], "expected a count of 1 or more images, got 0"),
        (["--generator", "hole", "--textures", "self"], "changes nothing without the generator"),
        (["--card", "mvtec"], "mvtec_ad"),
    ]:
        code, text, err = cli("data", "synthesize", tiny_data, "--out", out, *options)
        assert (code, text) == (3, "")
        assert message in err
    assert not out.exists()


def test_the_help_names_every_generator(cli: Cli) -> None:
    code, text, _ = cli("data", "synthesize", "--help")
    assert code == 0
    named = " ".join(text.replace("│", " ").split())
    assert ", ".join(GENERATOR_NAMES) in named
