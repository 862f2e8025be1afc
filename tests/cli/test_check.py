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
        {"images": 54, "findings": [], "uncounted": ["plate", "sheet"], "total": None},
    )


def test_the_total_of_a_card(cli: Cli, tiny_data: Path, tmp_path: Path) -> None:
    def check(total: str, *args: str, root: Path = tiny_data) -> tuple[int, list[str]]:
        card = tmp_path / "own.yaml"
        card.write_text(
            "name: own\ntitle: t\nlayout: mvtec\nlicence: l\ncitation: c\nget: g\n"
            f"categories: {{plate: {{}}, sheet: {{}}}}\ntotal: {total}\n"
        )
        code, out, _ = cli("data", "check", root, "--card", card, *args)
        return code, out.replace(str(card), "own").splitlines()

    stated = "the total in card own, 34 good and 20 defective images"
    code, lines = check("[34, 20]")
    assert (code, lines[-1]) == (0, f"{stated}, is what was found")
    code, lines = check("[34, 20]", root=tiny_data / "sheet")
    assert code == 0
    assert lines[-1] == f"{stated}, was not verified; not here: plate"
    code, lines = check("[55]")
    assert code == 1
    assert lines[-2] == "count: all categories: the card 'own' states 55 images, found 54"
    assert not [line for line in lines if line.startswith("the total")]
    code, lines = check("[55]", "--json")
    assert json.loads("\n".join(lines))["total"] == {"stated": [55], "found": [54], "absent": []}


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
