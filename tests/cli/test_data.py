"""``anomaly-u2net data``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from anomaly_u2net.data.cards import list_cards

Cli = Callable[..., tuple[int, str, str]]


def test_demo_is_written_and_counted(cli: Cli, tmp_path: Path) -> None:
    assert cli("data", "demo", tmp_path / "demo") == (0, f"{tmp_path / 'demo'}\n", "")
    code, out, _ = cli("data", "count", tmp_path / "demo", "--card", "demo", "--json")
    counts = {(c["category"], c["split"], c["label"]): c["images"] for c in json.loads(out)}
    assert code == 0
    assert counts["brick", "train", "good"] == 48
    assert counts["gravel", "test", "good"] == 30
    assert sum(counts.values()) == 570
    (tmp_path / "demo" / "mine.png").touch()
    code, _, err = cli("data", "demo", tmp_path / "demo")
    assert code == 3
    assert "expected an empty or new folder, or the demo with seed 0" in err


def test_count_as_a_table(cli: Cli, tiny_data: Path) -> None:
    code, out, _ = cli("data", "count", tiny_data)
    assert code == 0
    found = [line.split() for line in out.replace("│", " ").splitlines()]
    assert ["plate", "calibration", "good", "4"] in found
    assert ["sheet", "test", "spot", "3"] in found


def test_count_of_what_is_no_data_set(cli: Cli, tmp_path: Path) -> None:
    code, out, err = cli("data", "count", tmp_path / "nothing")
    assert (code, out) == (3, "")
    assert "expected a data-set folder, found nothing; check the path" in err
    code, _, err = cli("data", "count", tmp_path, "--card", "mvtec")
    assert code == 3
    assert "mvtec_ad" in err


def test_cards_say_licence_and_source(cli: Cli) -> None:
    code, out, _ = cli("data", "cards")
    assert code == 0
    lines = out.splitlines()
    assert [line.split()[0] for line in lines if line][::3] == list(list_cards())
    assert sum(line.startswith("licence") for line in lines) == len(list_cards())
    assert sum(line.startswith("get") for line in lines) == len(list_cards())
