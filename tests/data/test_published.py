from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from anomaly_u2net.benchmark import load_benchmark
from anomaly_u2net.data.images import read_image
from anomaly_u2net.data.index import index_dataset
from anomaly_u2net.data.protocols import split_by_protocol, split_hash
from anomaly_u2net.data.published import (
    INDEX,
    LEAVE_INDEX,
    PROTOCOLS,
    SEEDLESS,
    SplitFacts,
    publish_splits,
)
from anomaly_u2net.data.split_files import read_split
from anomaly_u2net.errors import DatasetError
from anomaly_u2net.resources import shipped

DATA = os.environ.get("ANOMALY_U2NET_DATA")
PUBLISHED = sorted(shipped("datasets").glob(f"*/splits/{INDEX}"))


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_files_hold_the_chosen_masks_and_the_index_counts(
    tiny_data: Path, tmp_path: Path
) -> None:
    records = index_dataset(tiny_data)
    facts = publish_splits(
        records, tmp_path, root=tiny_data, protocols=("kshot-2", "good_only"), seeds=(0, 1)
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        INDEX,
        "kshot-2-seed0.csv",
        "kshot-2-seed1.csv",
    ]
    split = split_by_protocol(records, "kshot-2", seed=1)
    chosen = [r for r in split if r.split == "train" and r.defective]
    assert len(chosen) == 4  # of two categories
    read_again = read_split(tmp_path / "kshot-2-seed1.csv", tiny_data, check_bytes=True)
    assert [r.path for r in read_again] == [r.path for r in chosen]
    assert facts[1] == SplitFacts("kshot-2", 1, 20, 4, 6, 6, 0, 0, split_hash(split))
    assert [row["hash"] for row in read(tmp_path / INDEX)] == [one.hash for one in facts]


def test_nothing_is_written_when_a_protocol_cannot_be_met(tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="expected at least 99 masks"):
        publish_splits(
            index_dataset(tiny_data),
            tmp_path / "new",
            root=tiny_data,
            protocols=("kshot-1", "kshot-99"),
        )
    assert not (tmp_path / "new").exists()


def test_what_the_seed_does_not_change_is_written_once(tiny_data: Path, tmp_path: Path) -> None:
    protocols = ("given", "full", "third", "good_only")
    facts = publish_splits(index_dataset(tiny_data), tmp_path, root=tiny_data, protocols=protocols)
    assert [(one.protocol, one.seed) for one in facts] == [(name, 0) for name in protocols]


def test_splits_without_near_copies_stand_beside_and_list_who_is_tested(
    own_data: Path, tmp_path: Path
) -> None:
    picture = read_image(own_data / "plate" / "train" / "good" / "train_good_0.png") * 0.8
    Pillow.fromarray(picture.astype(np.uint8)).save(own_data / "plate/test/good/copy.png")
    records = index_dataset(own_data)
    kept, left = (
        publish_splits(
            *(records, tmp_path),
            root=own_data, protocols=("kshot-2", "good_only"), seeds=(0,), leave=leave,
        )
        for leave in (False, True)
    )  # fmt: skip
    assert [(one.near_copies, one.left, one.test_good) for one in kept] == [(1, 0, 7)] * 2
    assert [(one.near_copies, one.left, one.test_good) for one in left] == [(0, 1, 6)] * 2
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        *("good_only-leave-seed0.csv", LEAVE_INDEX, INDEX),
        *("kshot-2-leave-seed0.csv", "kshot-2-seed0.csv"),
    ]
    rows = [read(tmp_path / f"kshot-2{kind}-seed0.csv") for kind in ("", "-leave")]
    assert [r for r in rows[1] if r["split"] == "train"] == rows[0]
    tested = read_split(tmp_path / "kshot-2-leave-seed0.csv", own_data, only="test")
    assert len(tested) == 12
    assert "copy.png" not in {r.path.name for r in tested}
    for index, facts in ((INDEX, kept), (LEAVE_INDEX, left)):
        assert [row["hash"] for row in read(tmp_path / index)] == [one.hash for one in facts]


@pytest.mark.parametrize(
    ("bench", "first"), [("magnetic_tile", "a0d7206eb91a"), ("bsdata", "fd3d989aa7cb")]
)
def test_the_splits_of_our_benchmarks_are_published(bench: str, first: str) -> None:
    asked = load_benchmark(bench)
    assert asked.data.near_copies == "leave"
    folder = shipped("datasets") / asked.data.card / "splits"
    found = {(row["protocol"], row["seed"]): row for row in read(folder / LEAVE_INDEX)}
    assert found.keys() == {
        (name, str(seed))
        for name in asked.protocols
        for seed in (asked.seeds[:1] if name in SEEDLESS else asked.seeds)
    }
    assert found["kshot-10", "0"]["hash"].startswith(first)  # of the cells that were measured
    for (name, seed), row in found.items():
        tested = [r for r in read(folder / f"{name}-leave-seed{seed}.csv") if r["split"] == "test"]
        assert (row["near_copies"], len(tested)) == (
            "0", int(row["test_good"]) + int(row["test_defective"])
        )  # fmt: skip


def test_what_is_published_is_small() -> None:
    assert [path.parent.parent.name for path in PUBLISHED] == [
        "bsdata_pitting",
        "demo",
        "magnetic_tile",
    ]
    files = [path for index in PUBLISHED for path in index.parent.iterdir()]
    listed = [path for path in files if "-leave" in path.name]
    assert (len(files), len(listed)) == (3 * (1 + 9) + (1 + 4) + (1 + 5), (1 + 4) + (1 + 5))
    assert sum(path.stat().st_size for path in set(files) - set(listed)) < 100_000
    assert sum(path.stat().st_size for path in listed) < 350_000  # with all tested images


@pytest.mark.skipif(not DATA, reason="set ANOMALY_U2NET_DATA to the folder of magnetic_tile/")
@pytest.mark.parametrize(
    ("name", "benchmark"), [("bsdata_pitting", "bsdata"), ("magnetic_tile", "magnetic_tile")]
)
def test_the_published_files_are_what_the_data_give(
    name: str, benchmark: str, tmp_path: Path
) -> None:
    root = Path(str(DATA)) / name
    records, protocols = index_dataset(root, card=name), load_benchmark(benchmark).protocols
    publish_splits(records, tmp_path, root=root)
    publish_splits(records, tmp_path, root=root, protocols=protocols, leave=True)
    folder = shipped("datasets") / name / "splits"
    assert {p.name: p.read_text() for p in folder.iterdir()} == {
        p.name: p.read_text() for p in tmp_path.iterdir()
    }


def test_the_published_files_of_the_demo_name_what_the_demo_gives(tmp_path: Path) -> None:
    from anomaly_u2net.data.demo import write_demo

    root = write_demo(tmp_path / "demo")
    publish_splits(index_dataset(root, card="demo"), tmp_path / "out", root=root)
    folder = shipped("datasets") / "demo" / "splits"

    def facts(path: Path) -> list[dict[str, str]]:
        # A PNG encoder of another version writes the same pixels in other bytes.
        return [
            {key: cell for key, cell in row.items() if key not in ("hash", "sha256")}
            for row in read(path)
        ]

    assert [row["protocol"] for row in read(folder / INDEX)][::3] == list(PROTOCOLS)
    for path in folder.iterdir():
        assert facts(path) == facts(tmp_path / "out" / path.name)
