"""``anomaly-u2net data check``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

Cli = Callable[..., tuple[int, str, str]]


def test_a_whole_data_set_ends_with_0(cli: Cli, tiny_data: Path) -> None:
    code, out, err = cli("data", "check", tiny_data)
    assert code == 0
    assert out.splitlines() == [
        f"{tiny_data}: 54 images, nothing missing, broken or unexpected",
        "no counts to verify against, in card folder: plate, sheet",
    ]
    assert "54/54" in err  # the progress bar
    code, out, _ = cli("data", "check", tiny_data, "--json")
    assert (code, json.loads(out)) == (
        0,
        {"images": 54, "findings": [], "uncounted": ["plate", "sheet"]},
    )


def test_what_is_wrong_ends_with_1(cli: Cli, own_data: Path) -> None:
    for mask in (own_data / "plate" / "ground_truth" / "spot").iterdir():
        mask.unlink()
    good = own_data / "sheet" / "test" / "good"
    for number in range(30):
        (good / f"cut_off_{number:02d}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    code, out, _ = cli("data", "check", own_data)
    assert code == 1
    table = [line.split() for line in out.replace("│", " ").splitlines()]
    assert ["missing", "plate", "10"] in table
    assert ["broken", "sheet", "30"] in table
    assert "missing: plate/test/spot/test_spot_0.png: a defect image without a mask" in out
    assert out.count("broken: sheet/test/good/") == 20
    assert "broken: and 10 more; --json lists all" in out
    code, out, _ = cli("data", "check", own_data, "--json")
    assert code == 1
    assert len(json.loads(out)["findings"]) == 40


def test_what_is_no_data_set_ends_with_3(cli: Cli, tmp_path: Path) -> None:
    code, out, err = cli("data", "check", tmp_path / "no")
    assert (code, out) == (3, "")
    assert "expected a data-set folder, found nothing" in err
    code, _, err = cli("data", "check", tmp_path, "--card", "real-iad")
    assert code == 3
    assert "did you mean 'real_iad'?" in err
