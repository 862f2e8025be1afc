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


def test_a_published_split_is_checked_against_the_data(
    cli: Cli, own_data: Path, tmp_path: Path
) -> None:
    """A whole file, the chosen masks alone, and those with the tested images."""
    whole, splits = tmp_path / "whole.csv", tmp_path / "splits"
    by = ("--protocol", "kshot-2")
    assert cli("data", "split", own_data, *by, "--out", whole)[0] == 0
    for choice in ("keep", "leave"):
        command = ("data", "publish", own_data, *by, "--out", splits, "--seeds", 1)
        assert cli(*command, "--near-copies", choice)[0] == 0
    files = {
        whole: (44, "keep"),
        splits / "kshot-2-seed0.csv": (4, "keep"),
        splits / "kshot-2-leave-seed0.csv": (16, "leave"),
    }
    for file, (images, choice) in files.items():
        before = file.read_bytes()
        command = ("data", "split", own_data, *by, "--near-copies", choice, "--check", file)
        code, printed, err = cli(*command)
        assert code == 0, err
        made = "kshot-2 with seed 0" + " without near copies" * (choice == "leave")
        assert printed.replace("\n", "") == f"{file}: {images} images, as {made} from {own_data}"
        code, printed, _ = cli(*command, "--json")
        assert (code, json.loads(printed)) == (0, {"images": images, "differences": []})
        code, printed, _ = cli(*command, "--seed", 1)
        assert code == 1
        assert f"{images} images, not as kshot-2 with seed 1" in printed
        assert file.read_bytes() == before


def test_what_a_split_that_is_checked_holds_otherwise_is_named(
    cli: Cli, own_data: Path, tmp_path: Path, write_png: Write
) -> None:
    file = tmp_path / "full.csv"
    by = ("data", "split", own_data, "--protocol", "full")
    assert cli(*by, "--out", file)[0] == 0
    train, test = own_data / "plate" / "train" / "good", own_data / "plate" / "test"
    (train / "train_good_1.png").unlink()
    (test / "good" / "test_good_0.png").rename(train / "moved.png")
    write_png(read_image(test / "spot" / "test_spot_1.png") // 2, test / "spot" / "test_spot_1.png")
    lines = file.read_text().replace("plate/test/spot/test_spot_0.png,plate,test,spot", "{},spat")
    file.write_text(lines.replace("{}", "plate/test/spot/test_spot_0.png,plate,train"))
    code, printed, _ = cli(*by, "--check", file)
    assert code == 1
    told = printed.splitlines()
    assert "2 only in the file, 1 not in the file, 2 other" in printed
    assert told[-5:] == [
        "plate/test/good/test_good_0.png: only in the file: test, good",
        "plate/train/good/train_good_1.png: only in the file: train, good",
        "plate/train/good/moved.png: not in the file: train, good",
        "plate/test/spot/test_spot_0.png: split train, now test; label spat, now spot",
        next(line for line in told if line.startswith("plate/test/spot/test_spot_1.png: sha256 ")),
    ]
    code, printed, _ = cli(*by, "--check", file, "--json")
    found = json.loads(printed)["differences"]
    assert (code, [one["kind"] for one in found]) == (1, ["gone", "gone", "new", "other", "other"])
    for number in range(12):
        (train / f"train_good_{number}.png").unlink(missing_ok=True)
    _, printed, _ = cli(*by, "--check", file)
    assert printed.splitlines()[-1].startswith("and ")
    assert printed.endswith("more; --json lists all\n")


def test_what_cannot_be_checked(cli: Cli, tiny_data: Path, tmp_path: Path) -> None:
    none = tmp_path / "none.csv"
    by = ("data", "split", tiny_data, "--protocol", "full")
    for text, told in (
        (None, "expected a split as CSV, could not read it"),
        ("a,b\n", "expected the columns file,category,split"),
    ):
        if text is not None:
            none.write_text(text)
        code, _, err = cli(*by, "--check", none)
        assert (code, told in err) == (3, True)
    assert cli(*by, "--out", none)[0] == 0
    none.write_text(none.read_text() + none.read_text().splitlines()[1] + "\n")
    code, _, err = cli(*by, "--check", none)
    assert code == 3
    assert "expected every image once, found 1 twice" in err
    for more, got in (((), "neither"), (("--out", none, "--check", none), "both")):
        code, _, err = cli(*by, *more)
        assert code == 3
        assert f"expected --out FILE to write, or --check FILE to compare, got {got}" in err
