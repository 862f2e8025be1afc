"""``anomaly-u2net data synthesize``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image as Pillow

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
        (
            ["--set", "train.steps=3"],
            "'train.steps=3': expected synthesis.GENERATOR.PARAMETER=VALUE",
        ),
        (["--set", "synthesis.share=1"], "expected synthesis.GENERATOR.PARAMETER=VALUE, e.g."),
        (["--set", "synthesis.scar"], "expected synthesis.GENERATOR.PARAMETER=VALUE, e.g."),
        (["--set", "synthesis.scarr.turn=5"], "got 'scarr' (did you mean 'scar'?)"),
        (["--set", "synthesis.paste.turn=5"], "expected a generator with parameters, got 'paste'"),
        (["--set", "synthesis.scar.size=3"], "unknown key 'synthesis.scar.size'"),
        (["--set", "synthesis.scar.turn=200"], "synthesis.scar.turn: Input should be less than or"),
        (
            ["--set", "synthesis.scar.turn=5", "--generator", "hole"],
            "the parameters of scar change nothing without that generator (named: hole)",
        ),
    ]:
        code, text, err = cli("data", "synthesize", tiny_data, "--out", out, *options)
        assert (code, text) == (3, "")
        assert message in err
    assert not out.exists()


def test_generators_keep_to_the_parameters_that_are_set(cli: Cli, tmp_path: Path) -> None:
    """Holes are drawn in a window whose side is a share of the image's."""
    folder = tmp_path / "plate" / "train" / "good"
    folder.mkdir(parents=True)
    Pillow.new("RGB", (128, 128), (120, 120, 120)).save(folder / "0.png")

    def sides(out: Path, *options: str) -> list[int]:
        command = ["data", "synthesize", tmp_path / "plate", "--out", out, "--generator", "hole"]
        code, _, err = cli(*command, "--count", 3, *options)
        assert code == 0, err
        masks = [Pillow.open(path) for path in (out / "plate" / "ground_truth").rglob("*.png")]
        boxes = [box for mask in masks if (box := mask.getbbox())]
        return [max(right - left, bottom - top) for left, top, right, bottom in boxes]

    small = sides(tmp_path / "small", "--set", "synthesis.hole.window=0.1")
    assert len(small) == 3
    large = sides(tmp_path / "large", "--set", "synthesis.hole.window=1")
    assert max(small) < min(large), (small, large)
    about = json.loads((tmp_path / "small" / "made.json").read_text())
    assert about["parameters"] == {"hole": {"window": [0.1, 0.1]}}


def test_the_help_names_every_generator(cli: Cli) -> None:
    code, text, _ = cli("data", "synthesize", "--help")
    assert code == 0
    named = " ".join(text.replace("│", " ").split())
    assert ", ".join(GENERATOR_NAMES) in named
