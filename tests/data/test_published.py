from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from anomaly_u2net.data.index import index_dataset
from anomaly_u2net.data.protocols import split_by_protocol, split_hash
from anomaly_u2net.data.published import INDEX, PROTOCOLS, SplitFacts, publish_splits
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


def test_what_is_published_is_small() -> None:
    assert [path.parent.parent.name for path in PUBLISHED] == [
        "bsdata_pitting",
        "demo",
        "magnetic_tile",
    ]
    files = [path for index in PUBLISHED for path in index.parent.iterdir()]
    assert len(files) == 3 * (1 + 9)
    assert sum(path.stat().st_size for path in files) < 100_000


@pytest.mark.skipif(not DATA, reason="set ANOMALY_U2NET_DATA to the folder of magnetic_tile/")
@pytest.mark.parametrize("name", ["bsdata_pitting", "magnetic_tile"])
def test_the_published_files_are_what_the_data_give(name: str, tmp_path: Path) -> None:
    root = Path(str(DATA)) / name
    publish_splits(index_dataset(root, card=name), tmp_path, root=root)
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
