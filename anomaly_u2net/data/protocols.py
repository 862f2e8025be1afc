"""Protocols: which defect masks may be trained on, so that two methods are compared alike.

A protocol chooses defect images to train on from those of the training part or, where a data set
has none there (MVTec AD, VisA), from those of the test part. Good images stay where they are.
No other defect image has a part in the model: those outside the test part that are not chosen are
dropped, with the held-out ones that a set may come with. The chosen leave the test part, and so
does every test image of a group that is on the training side. ``third`` alone deals the defect
images of both parts anew: none that it does not train on is dropped, but tested.

===================  ===========================================================================
``given``            the data set's own split, unchanged
``kshot-K``          K masks a category, held-out ones among them: K // (number of types) of each
                     type, the rest from all
``hard-TYPE-K``      K masks of one type, which is not tested then, alone or beside another
                     (DRA, arXiv 2203.14506)
``listed-K``         the K masks that the authors list in a file, put beside train/ (KSDD2)
``third``            the first third (rounded down) of each type by file name, of training and test
                     part together; the rest is tested
``full``             every mask of the data set's own training part
``full-fold1of5``    for sets without one: groups dealt into five folds; this one is tested, the
                     others train; over the five, every image is tested once
``good_only``        no mask
===================  ===========================================================================

Chosen at random means ranked by a hash of seed, category and name, as in data/splits.py: neither
the order of files nor the folder they lie in matters. Of the test part, images of a group that
trains already are chosen first, for they could not be tested anyway.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from anomaly_u2net.data.duplicates import join_pairs
from anomaly_u2net.data.images import image_files
from anomaly_u2net.data.index import few
from anomaly_u2net.data.mask_lists import listed_masks
from anomaly_u2net.data.splits import (
    Unit,
    check_disjoint,
    deal,
    hash_rank,
    ranked_name,
    record_hashes,
    units_of,
)
from anomaly_u2net.errors import DatasetError, LeakError
from anomaly_u2net.files import sha256_file, sha256_json
from anomaly_u2net.recipe.protocol import FOLDS, Protocol, parse_protocol
from anomaly_u2net.types import ImageRecord, Split, types_of

logger = logging.getLogger(__name__)


def split_by_protocol(
    records: Sequence[ImageRecord], protocol: str, *, seed: int
) -> list[ImageRecord]:
    """The records that ``protocol`` keeps, in the order given, each with its side.

    ``records`` are those of ``index_dataset``. What is held out for choosing the model and for
    the thresholds comes out of the training part afterwards (``split_records``), never out of the
    test: of the K masks of ``kshot-K`` too. How many test images leave for their group is logged.

    Raises ``InputError`` (no such protocol) and ``DatasetError`` (too few masks, a type that is not
    there, nothing left to test, ``full`` without masks in training or a fold with them).

    >>> from pathlib import Path
    >>> records = [
    ...     ImageRecord(Path(f"a/{split}/good/{split}.png"), "a", split, "good")
    ...     for split in ("train", "test")
    ... ]
    >>> for i in range(8):
    ...     kind = ("cut", "hole")[i % 2]
    ...     path = Path(f"a/test/{kind}/{i}.png")
    ...     records.append(ImageRecord(path, "a", "test", kind, Path(f"m/{i}.png")))
    >>> split = split_by_protocol(records, "kshot-4", seed=0)
    >>> sorted(r.label for r in split if r.split == "train")
    ['cut', 'cut', 'good', 'hole', 'hole']
    """
    parsed = parse_protocol(protocol)
    if parsed.kind == "given":
        return list(records)
    kept: dict[int, ImageRecord] = {}
    for category in sorted({record.category for record in records}):
        own = {i: record for i, record in enumerate(records) if record.category == category}
        if parsed.fold:
            sides = _deal(own, parsed, seed=seed)
        elif parsed.kind == "third":
            sides = _thirds(own)
        else:
            sides = _choose(own, parsed, seed=seed)
        sides = _without_shared_groups(sides)
        _check_tested(sides.values(), own.values(), category, protocol=protocol)
        kept |= sides
    return [kept[i] for i in sorted(kept)]


def choosable(records: Iterable[ImageRecord]) -> list[ImageRecord]:
    """The defect images of one category to choose from: of training or, where it has none, of test."""
    defects = [record for record in records if record.defective]
    trained = [record for record in defects if record.split == "train"]
    return trained or [record for record in defects if record.split == "test"]


def check_protocol(records: Sequence[ImageRecord]) -> None:
    """Raise ``LeakError`` when the test and the rest share an image, its bytes, or a group."""
    rest = [record for record in records if record.split != "test"]
    tests = [record for record in records if record.split == "test"]
    names = {record.path for record in rest}
    groups = {(record.category, record.group) for record in rest if record.group is not None}
    for what, shared in (
        ("image itself", [r for r in tests if r.path in names]),
        ("group", [r for r in tests if (r.category, r.group) in groups]),
    ):
        if shared:
            raise LeakError(
                f"expected no test image on the training side, found {len(shared)} of "
                f"{len(tests)} there by their {what}: {few([str(r.path) for r in shared])}; "
                "use a protocol other than given: it takes them out of the test"
            )
    check_disjoint(record_hashes(rest).keys(), records)


def near_copies(records: Iterable[ImageRecord], groups: Mapping[Path, int]) -> list[ImageRecord]:
    """The test images that show, as it seems, what an image on the training side shows.

    ``groups``: image → group, of those alike (`picture_groups` of the whole data set).
    """
    records = list(records)
    rest = {groups[r.path] for r in records if r.split != "test" and r.path in groups}
    return [r for r in records if r.split == "test" and groups.get(r.path) in rest]


def without_near_copies(
    records: Sequence[ImageRecord], groups: Mapping[Path, int]
) -> list[ImageRecord]:
    """``records`` without their `near_copies`; how many leave the test is logged.

    Raises ``DatasetError`` when all good or all defective test images of a category would leave.
    """
    leave = near_copies(records, groups)
    _log_tests(leave, "leave the test, because they look like training images")
    for category in sorted({record.category for record in leave}):
        own = [record for record in leave if record.category == category]
        tested = Counter(
            r.defective for r in records if r.split == "test" and r.category == category
        )
        left = tested - Counter(r.defective for r in own)
        if left.keys() != tested.keys():
            raise DatasetError(
                f"category {category!r}: expected good and defective images left to test without "
                f"near copies, found {left[False]} and {left[True]}; set near_copies to keep, or "
                "leave the category out"
            )
    gone = {record.path for record in leave}
    return [record for record in records if record.path not in gone]


def warn_of_near_copies(records: Iterable[ImageRecord], groups: Mapping[Path, int]) -> None:
    """Log how many test images are `near_copies`; ``records`` as they are trained with."""
    alike = near_copies(records, groups)
    _log_tests(alike, "look like training images: numbers on them may be too good")


def near_copies_grouped(
    records: Sequence[ImageRecord], groups: Mapping[Path, int]
) -> list[ImageRecord]:
    """``records`` in the order given, near copies outside the test part in one group.

    Groups that share such images become one, by the name of the first: what is held out then
    parts none of them (`split_records`). Test images keep the groups that they have.
    """
    rest = [i for i, record in enumerate(records) if record.split != "test"]
    first: dict[tuple[str, str, str], int] = {}
    pairs = []
    for place, i in enumerate(rest):
        record = records[i]
        for kind, name in (("given", record.group), ("looks", groups.get(record.path))):
            if name is not None:
                key = (record.category, kind, str(name))
                pairs.append((first.setdefault(key, place), place))
    joined = list(records)
    for members in join_pairs(len(rest), pairs):
        own = [records[rest[place]] for place in members]
        name = next((r.group for r in own if r.group is not None), ranked_name(own[0].path))
        for place, record in zip(members, own, strict=True):
            joined[rest[place]] = replace(record, group=name)
    return joined


def split_hash(records: Iterable[ImageRecord]) -> str:
    """SHA-256 over who is trained on and who is tested, by content: the name of a split in tables.

    It covers category, split, label, the bytes of image and mask; not where the files lie, their
    names or their order.
    """

    def masks(record: ImageRecord) -> list[str]:
        if record.mask is None:
            return []
        files = image_files(record.mask) if record.mask.is_dir() else [record.mask]
        return sorted(map(sha256_file, files))

    rows = [(r.category, r.split, r.label, sha256_file(r.path), *masks(r)) for r in records]
    return sha256_json(sorted(rows))


def _choose(
    own: dict[int, ImageRecord], protocol: Protocol, *, seed: int
) -> dict[int, ImageRecord]:
    """The records of one category with the chosen masks in training."""
    category = next(iter(own.values())).category
    if protocol.kind == "full":
        if not any(record.defective and record.split == "train" for record in own.values()):
            raise DatasetError(
                f"category {category!r}: expected masks in the data set's own training part for "
                f"the protocol full, found none; use full-fold1of{FOLDS} to full-fold{FOLDS}of"
                f"{FOLDS} (all of them in a benchmark, by full), or some masks, as kshot-10"
            )
        return own
    choice = set(choosable(own.values()))
    pool = {i: record for i, record in own.items() if record in choice}
    if protocol.kind != "good_only":
        _check_masks(pool, category)
    trained = {r.group for r in own.values() if r.split == "train"} - {None}

    def rank(i: int) -> tuple[bool, str, str]:
        path = pool[i].path
        costs_a_test_image = pool[i].split == "test" and pool[i].group not in trained
        return costs_a_test_image, hash_rank(seed, category, ranked_name(path)), str(path)

    chosen = CHOICES[protocol.kind](pool, protocol, sorted(pool, key=rank))
    sides = {i: replace(r, split="train") if i in chosen else r for i, r in own.items()}
    shown = types_of(protocol.label)
    return {
        i: record
        for i, record in sides.items()
        if i in chosen
        or not record.defective
        or (record.split == "test" and types_of(record.label).isdisjoint(shown))
    }


def _kshot(pool: dict[int, ImageRecord], protocol: Protocol, ranked: list[int]) -> set[int]:
    _check_enough(len(ranked), protocol, category=_category(pool), of="masks")
    each = protocol.shots // len({record.label for record in pool.values()})
    taken: Counter[str] = Counter()
    chosen: list[int] = []
    for i in ranked:
        if taken[pool[i].label] < each:
            chosen.append(i)
            taken[pool[i].label] += 1
    rest = [i for i in ranked if i not in chosen]
    return {*chosen, *rest[: protocol.shots - len(chosen)]}


def _hard(pool: dict[int, ImageRecord], protocol: Protocol, ranked: list[int]) -> set[int]:
    types = sorted({record.label for record in pool.values()})
    if protocol.label not in types:
        raise DatasetError(
            f"category {_category(pool)!r}: expected one of its defect types for hard-<type>-"
            f"{protocol.shots} ({', '.join(types)}), got {protocol.label!r}; in a benchmark "
            f"hard-each-{protocol.shots} is each of them, category by category"
        )
    own = [i for i in ranked if pool[i].label == protocol.label]
    _check_enough(len(own), protocol, category=_category(pool), of=f"masks of {protocol.label!r}")
    return set(own[: protocol.shots])


def _listed(pool: dict[int, ImageRecord], protocol: Protocol, _: list[int]) -> set[int]:
    folder = next(iter(pool.values())).path.parent.parent
    names = listed_masks(folder, protocol.shots)
    chosen = {i for i, record in pool.items() if record.path.stem in names}
    if len(chosen) != protocol.shots:
        raise DatasetError(
            f"category {_category(pool)!r}: expected {protocol.shots} defect images in training that "
            f"the list in {folder} names, found {len(chosen)}; is it the list of this data set?"
        )
    return chosen


#: kind → which of the pool train: (pool, protocol, the pool in random order) → indexes.
CHOICES: dict[str, Callable[[dict[int, ImageRecord], Protocol, list[int]], set[int]]] = {
    "kshot": _kshot,
    "hard": _hard,
    "listed": _listed,
    "good_only": lambda *_: set(),
}


def _thirds(own: dict[int, ImageRecord]) -> dict[int, ImageRecord]:
    """The records of one category with the first third of each type in training, the rest in test.

    Groups train whole: first those with good images in training, which could not be tested, then in
    the order of their first file; each unless one of its types would go beyond its third.
    """
    category = next(iter(own.values())).category
    pool = {i: r for i, r in own.items() if r.defective and r.split in ("train", "test")}
    _check_masks(pool, category)
    trained = {r.group for r in own.values() if not r.defective and r.split == "train"} - {None}

    def order(unit: Unit) -> tuple[bool, tuple[str, str]]:
        paths = [pool[i].path for i in unit.indexes]
        could_be_tested = pool[unit.indexes[0]].group not in trained
        return could_be_tested, min((path.name, str(path)) for path in paths)

    units = units_of(pool, pool, seed=0)  # that seed orders them; here their files do
    third = {label: n // 3 for label, n in Counter(r.label for r in pool.values()).items()}
    taken: Counter[str] = Counter()
    chosen: set[int] = set()
    for unit in sorted(units, key=order):
        if all(taken[label] + n <= third[label] for label, n in unit.labels.items()):
            taken.update(unit.labels)
            chosen.update(unit.indexes)
    if not chosen:
        raise DatasetError(
            f"category {category!r}: expected masks within a third of their defect type for the "
            f"protocol third, found {len(pool)} masks in {len(third)} types and {len(units)} groups "
            "or images without one; use kshot-1"
        )
    sides = {i: replace(r, split="train" if i in chosen else "test") for i, r in pool.items()}
    return {i: sides.get(i, r) for i, r in own.items() if i in sides or not r.defective}


def _deal(own: dict[int, ImageRecord], protocol: Protocol, *, seed: int) -> dict[int, ImageRecord]:
    """The records of one category with one of the folds as test."""
    category = next(iter(own.values())).category
    if any(record.defective and record.split == "train" for record in own.values()):
        raise DatasetError(
            f"category {category!r}: expected no masks in the data set's own training part for "
            "folds, found some: that split is its supervised one; use the protocol full"
        )
    movable = [i for i, record in own.items() if record.split in ("train", "test")]
    sides = own.copy()
    for i, fold in deal(units_of(own, movable, seed=seed), FOLDS).items():
        side: Split = "test" if fold == protocol.fold else "train"
        sides[i] = replace(own[i], split=side)
    return sides


def _without_shared_groups(sides: dict[int, ImageRecord]) -> dict[int, ImageRecord]:
    """``sides`` without the test images whose group is on the other side as well."""
    groups = {r.group for r in sides.values() if r.split != "test"} - {None}
    leave = {i for i, r in sides.items() if r.split == "test" and r.group in groups}
    shared = "leave the test, because they are of a group on the training side"
    _log_tests([sides[i] for i in leave], shared)
    return {i: record for i, record in sides.items() if i not in leave}


def _log_tests(tests: Iterable[ImageRecord], what: str) -> None:
    """Say what happens to these test images, category by category."""
    counts = Counter((record.category, record.defective) for record in tests)
    for category in sorted({category for category, _ in counts}):
        logger.warning(
            "category %r: %d good and %d defective test images %s",
            *(category, counts[category, False], counts[category, True], what),
        )


def _check_masks(pool: Mapping[int, ImageRecord], category: str) -> None:
    if not pool:
        raise DatasetError(
            f"category {category!r}: expected masks to choose from, found no defect image in "
            "training or test; use good_only, or leave the category out"
        )


def _check_enough(found: int, protocol: Protocol, *, category: str, of: str) -> None:
    if found < protocol.shots:
        raise DatasetError(
            f"category {category!r}: expected at least {protocol.shots} {of} to train on, "
            f"found {found}; choose fewer shots"
        )


def _check_tested(
    records: Iterable[ImageRecord], given: Iterable[ImageRecord], category: str, *, protocol: str
) -> None:
    left = Counter(record.defective for record in records if record.split == "test")
    any_good = any(not record.defective for record in given)
    if not left[True] or (any_good and not left[False]):
        raise DatasetError(
            f"category {category!r}: expected good and defective images left to test after the "
            f"protocol {protocol}, found {left[False]} and {left[True]}; choose fewer masks, "
            "as kshot-10, folds, as full-fold1of5, or leave the category out"
        )


def _category(pool: dict[int, ImageRecord]) -> str:
    return next(iter(pool.values())).category
