"""``anomaly-u2net data split`` and ``data publish``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from anomaly_u2net.data.images import read_image
from anomaly_u2net.data.split_files import read_split

Cli = Callable[..., tuple[int, str, str]]
Write = Callable[[np.ndarray, Path], None]


def test_split_is_written_and_counted(cli: Cli, tiny_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "split.csv"
    code, printed, _ = cli(
        *("data", "split", tiny_data, "--protocol", "kshot-2", "--seed", 1, "--out", out, "--json")
    )
    assert code == 0
    [facts] = json.loads(printed)
    assert (facts["protocol"], facts["seed"], facts["train_defective"]) == ("kshot-2", 1, 4)
    records = read_split(out, tiny_data, check_bytes=True)
    assert sum(r.split == "train" and r.defective for r in records) == 4
    code, printed, _ = cli(
        "data", "split", tiny_data, "--protocol", "good_only", "--out", tmp_path / "b.csv"
    )
    assert code == 0
    assert "train defective" in printed


def test_the_name_of_a_protocol_is_shown_whole(cli: Cli, tmp_path: Path, write_png: Write) -> None:
    for name in ("train/good/0", "train/good/1", "test/good/0", "test/glue_strip/0", "test/cut/0"):
        path = tmp_path / "bolt" / f"{name}.png"
        mask = tmp_path / "bolt" / "ground_truth" / path.parent.name / "0_mask.png"
        for file in (path, mask) if mask.parent.name != "good" else (path,):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_png(np.full((8, 8, 3), len(name), np.uint8), file)
    code, printed, _ = cli(
        *("data", "split", tmp_path / "bolt", "--protocol", "hard-glue_strip-1"),
        *("--out", tmp_path / "split.csv"),
    )
    assert code == 0
    assert "hard-glue_strip-1 " in printed


def test_split_by_what_is_no_protocol(cli: Cli, tiny_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "split.csv"
    code, _, err = cli("data", "split", tiny_data, "--protocol", "10-shot", "--out", out)
    assert code == 3
    assert "expected a protocol, as given, kshot-10" in err
    assert not out.exists()


def test_a_split_that_leaks_is_not_written(cli: Cli, own_data: Path, tmp_path: Path) -> None:
    good = own_data / "plate" / "test" / "good"
    (good / "copy.png").write_bytes(
        (own_data / "plate" / "train" / "good" / "train_good_0.png").read_bytes()
    )
    out = tmp_path / "split.csv"
    code, _, err = cli("data", "split", own_data, "--protocol", "full", "--out", out)
    assert code == 3
    assert "found 1 of 13 with the same bytes" in err
    assert not out.exists()
    code, _, err = cli(
        *("data", "split", own_data, "--protocol", "full", "--out", out, "--near-copies", "leave")
    )
    assert code == 0, err  # as in training: a copy is a near copy, and has left
    assert not [r for r in read_split(out, own_data) if r.path.name == "copy.png"]


def test_test_images_that_look_like_training_images_are_counted_and_may_leave(
    cli: Cli, own_data: Path, tmp_path: Path, write_png: Write
) -> None:
    plate = own_data / "plate"
    darker = read_image(plate / "train" / "good" / "train_good_0.png") * 0.8
    write_png(darker.astype(np.uint8), plate / "test" / "good" / "copy.png")
    counts = {}
    for choice in ("keep", "leave"):
        out = tmp_path / f"{choice}.csv"
        command = ("data", "split", own_data, "--protocol", "full", "--out", out)
        command = (*command, "--near-copies", choice)
        code, printed, err = cli(*command, "--json")
        assert code == 0, err
        [facts] = json.loads(printed)
        _, text, _ = cli(*command)
        told = "full, seed 0: 1 of 13 test images look like a training image; --near-copies leave"
        assert (told in text) == (choice == "keep")
        tested = [r.path.name for r in read_split(out, own_data) if r.split == "test"]
        counts[choice] = (facts["near_copies"], facts["left"], "copy.png" in tested)
    assert counts == {"keep": (1, 0, True), "leave": (0, 1, False)}


def test_publish(cli: Cli, tiny_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "splits"
    code, printed, _ = cli(
        *("data", "publish", tiny_data, "--out", out, "--seeds", 2),
        *("--protocol", "kshot-1", "--protocol", "full"),
    )
    assert code == 0
    assert len([line for line in printed.splitlines() if "kshot-1" in line]) == 2
    assert sorted(p.name for p in out.iterdir()) == [
        *("full-seed0.csv", "index.csv", "kshot-1-seed0.csv", "kshot-1-seed1.csv"),
    ]
    code, _, _ = cli(
        *("data", "publish", tiny_data, "--out", out, "--protocol", "full"),
        *("--near-copies", "leave"),
    )
    assert code == 0
    assert {"full-leave-seed0.csv", "index-leave.csv", "index.csv"} < {
        p.name for p in out.iterdir()
    }
