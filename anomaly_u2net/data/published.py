"""Splits as files small enough to be published beside a card: the chosen masks, no images.

A folder ``datasets/<name>/splits`` holds ``<protocol>-seed<k>.csv`` with the chosen defect images
alone, in the columns of ``write_split``, and ``index.csv`` with a row a split: how many images are
on each side, how many left the test, how many near copies of training images are tested, and the
hash of the whole split. Everything else follows from the protocol (data/protocols.py).

Splits whose near copies have left the test (``near_copies: leave``, as our benchmarks have it) stand
beside them as ``<protocol>-leave-seed<k>.csv`` and ``index-leave.csv``. Who is tested then follows from
a search by looks, so these files list the test images too.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from anomaly_u2net.data.duplicates import picture_groups
from anomaly_u2net.data.protocols import (
    check_protocol,
    near_copies,
    split_by_protocol,
    split_hash,
    without_near_copies,
)
from anomaly_u2net.data.split_files import write_split
from anomaly_u2net.files import write_aside
from anomaly_u2net.recipe.protocol import parse_protocol
from anomaly_u2net.types import ImageRecord

#: What is published for a set, for the seeds 0, 1 and 2.
PROTOCOLS = ("kshot-1", "kshot-5", "kshot-10", "good_only")
#: Kinds of protocols where the seed chooses nothing.
SEEDLESS = ("given", "full", "listed", "third", "good_only")
INDEX = "index.csv"
#: The same for splits without near copies in the test.
LEAVE_INDEX = "index-leave.csv"


class SplitFacts(NamedTuple):
    """One split in numbers of images.

    left: test images that it took out of the test. near_copies: those still tested that look like
    an image on the training side.
    """

    protocol: str
    seed: int
    train_good: int
    train_defective: int
    test_good: int
    test_defective: int
    left: int
    near_copies: int
    hash: str


def split_facts(
    records: Sequence[ImageRecord],
    split: Sequence[ImageRecord],
    groups: Mapping[Path, int],
    *,
    protocol: str,
    seed: int,
) -> SplitFacts:
    """The facts of ``split``, which ``protocol`` made of ``records``, alike as ``groups`` say."""
    count = Counter((r.split, r.defective) for r in split)
    given = {r.path for r in records if r.split == "test"}
    tested = {r.path for r in split if r.split == "test"}
    return SplitFacts(
        protocol,
        seed,
        count["train", False],
        count["train", True],
        count["test", False],
        count["test", True],
        len(given - tested),
        len(near_copies(split, groups)),
        split_hash(split),
    )


def publish_splits(
    records: Sequence[ImageRecord],
    folder: str | Path,
    *,
    root: str | Path,
    protocols: Sequence[str] = PROTOCOLS,
    seeds: Sequence[int] = (0, 1, 2),
    leave: bool = False,
) -> list[SplitFacts]:
    """Write the splits of ``records``, which lie under ``root``, to ``folder``; return their facts.

    A protocol that chooses nothing (``good_only``) has no file, only its row in the index, and
    one of ``SEEDLESS`` has the first seed alone. leave: test images that look like a training image
    are not tested, and those that stay are listed. A folder may hold both kinds.

    Raises what ``picture_groups``, ``split_by_protocol``, ``without_near_copies`` and
    ``check_protocol`` raise; nothing is written then.
    """
    groups = picture_groups(records)
    made = {}
    for protocol in protocols:
        for seed in seeds[:1] if parse_protocol(protocol).kind in SEEDLESS else seeds:
            split = split_by_protocol(records, protocol, seed=seed)
            if leave:
                split = without_near_copies(split, groups)
            check_protocol(split)
            facts = split_facts(records, split, groups, protocol=protocol, seed=seed)
            made[facts] = [
                r
                for r in split
                if (r.split == "train" and r.defective) or (r.split == "test" and leave)
            ]
    for facts, listed in made.items():
        if listed:
            kind = "-leave" if leave else ""
            name = f"{facts.protocol}{kind}-seed{facts.seed}.csv"
            write_split(Path(folder) / name, listed, root=root)
    with (
        write_aside(Path(folder) / (LEAVE_INDEX if leave else INDEX)) as aside,
        aside.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(SplitFacts._fields)
        writer.writerows(made)
    return list(made)
