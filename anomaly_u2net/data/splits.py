"""Who trains, who chooses the model, who sets the thresholds, who is tested: each image once.

Every choice ranks images by a hash of the seed and of their name, so it depends neither on the
order of files, nor on the folder they lie in, nor on the other categories, and adding an image
leaves the order of the others as it was.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from anomaly_u2net.data.index import few
from anomaly_u2net.errors import DatasetError, InputError, LeakError
from anomaly_u2net.files import sha256_file
from anomaly_u2net.recipe.protocol import Fold
from anomaly_u2net.types import GOOD, ImageRecord, Split

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Unit:
    """Images that stay together: one group, or one image without a group."""

    name: str
    indexes: tuple[int, ...]
    labels: Counter[str]


def split_records(
    records: Sequence[ImageRecord],
    *,
    calibration_fraction: float,
    validation_fraction: float,
    seed: int,
    borrow_defects: float = 0.0,
    validation_fold: Fold | None = None,
) -> list[ImageRecord]:
    """Give every record its final split, in the order given.

    Per category: first ``borrow_defects``, the share of each defect type's test images that moves
    into training (for data sets without defects in training; they leave the test set). Then
    ``calibration_fraction`` and ``validation_fraction`` of the training images, of each label
    alike, are held out for the thresholds and for choosing the model. A category that comes with
    calibration (or validation) images keeps those and gives no others. Fractions are of the
    images and met as nearly as whole groups permit; at least one image of each label stays, unless a
    fold has them all.

    ``validation_fold`` holds out that one of several folds for validation, instead of a fraction and
    before anything is held out for the thresholds: over all folds each training image is once in it.

    A group never straddles two splits, so borrowing takes whole groups, those that already have
    images in training first; test groups with good images are not borrowed.

    Raises ``InputError`` for fractions out of range, ``LeakError`` when a group lies in two of the
    given splits, ``DatasetError`` when good images are in groups too large to hold one out, and for a
    fold of too few groups.

    >>> good = [ImageRecord(Path(f"a/train/good/{i}.png"), "a", "train", "good") for i in range(10)]
    >>> split = split_records(good, calibration_fraction=0.2, validation_fraction=0.1, seed=0)
    >>> sorted(Counter(record.split for record in split).items())
    [('calibration', 2), ('train', 7), ('validation', 1)]
    """
    if validation_fold is not None:
        _check_fold(validation_fold)
        validation_fraction = 1 / validation_fold.of
    _check_fractions(calibration_fraction, validation_fraction, borrow_defects)
    split = list(records)
    for category in sorted({record.category for record in records}):
        own = [i for i, record in enumerate(records) if record.category == category]
        if borrow_defects:
            _borrow(split, own, share=borrow_defects, seed=seed)
        _check_groups(split, own, given=records)
        come = {split[i].split for i in own}
        total = Counter(split[i].label for i in own if split[i].split == "train")
        wanted: list[tuple[Split, float]] = [("calibration", calibration_fraction)]
        if validation_fold is None:
            wanted.append(("validation", validation_fraction))
        else:
            _hold_out_fold(split, own, validation_fold, seed=seed)
        for name, fraction in wanted:
            if name not in come and fraction:
                _hold_out(split, own, name=name, total=total, fraction=fraction, seed=seed)
    return split


def deal(units: Sequence[Unit], folds: int) -> dict[int, int]:
    """Record index → its fold, 1 to ``folds``: all units dealt, each whole.

    The largest first, equals in the order given, each to the fold that has the smallest share of its
    labels so far.

    >>> deal([Unit(str(i), (i,), Counter(["cut"])) for i in range(3)], 2)
    {0: 1, 1: 2, 2: 1}
    """
    total = sum((unit.labels for unit in units), Counter[str]())
    dealt = [Counter[str]() for _ in range(folds)]
    found: dict[int, int] = {}
    for unit in sorted(units, key=lambda unit: -len(unit.indexes)):

        def fullness(fold: int, labels: Counter[str] = unit.labels) -> tuple[float, int, int]:
            # what the unit adds to the fold's sum of squared shares of each label
            shares = sum(dealt[fold][label] * n / total[label] ** 2 for label, n in labels.items())
            return shares, dealt[fold].total(), fold

        fold = min(range(folds), key=fullness)
        dealt[fold].update(unit.labels)
        found |= dict.fromkeys(unit.indexes, fold + 1)
    return found


def record_hashes(records: Iterable[ImageRecord]) -> dict[str, Path]:
    """The SHA-256 of each image file's bytes → its path (of equal files the first).

    Give the records of every split but the test to ``check_disjoint``.
    """
    hashes: dict[str, Path] = {}
    for record in records:
        hashes.setdefault(sha256_file(record.path), record.path)
    return hashes


def check_disjoint(train_hashes: Collection[str], records: Iterable[ImageRecord]) -> None:
    """Raise ``LeakError`` when a test image's bytes equal those of a training image.

    ``train_hashes``: SHA-256 of the images that had a part in the model, as ``record_hashes``
    gives; of ``records`` those of split ``"test"`` are compared.
    """
    hashes = record_hashes(record for record in records if record.split == "test")
    common = sorted(str(path) for key, path in hashes.items() if key in train_hashes)
    if common:
        raise LeakError(
            f"expected no test image among those that the model was made from, found "
            f"{len(common)} of {len(hashes)} with the same bytes: {few(common)}; "
            "remove them from the test images, or train without them"
        )


def hash_rank(seed: int, category: str, name: str) -> str:
    """What images and groups are ranked by when some of them are chosen at random."""
    return hashlib.sha256(f"{seed}|{category}|{name}".encode()).hexdigest()


def ranked_name(path: Path) -> str:
    """What ``hash_rank`` calls an image: its path inside its category, whatever lies above.

    Where images lie directly in train/ or test/ (KSDD2, DAGM) the category ends one folder earlier.

    >>> ranked_name(Path("a/bottle/test/cut/0.png")), ranked_name(Path("b/ksdd2/train/0.png"))
    ('file:test/cut/0.png', 'file:train/0.png')
    """
    below = 2 if path.parent.name.lower() in ("train", "test") else 3
    return "file:" + "/".join(path.parts[-below:])


def _check_fractions(calibration: float, validation: float, borrow: float) -> None:
    for name, value in (
        ("calibration_fraction", calibration),
        ("validation_fraction", validation),
        ("borrow_defects", borrow),
        ("calibration_fraction + validation_fraction", calibration + validation),
    ):
        if not (math.isfinite(value) and 0 <= value < 1):
            raise InputError(
                f"{name}: expected a fraction of the images, 0 <= fraction < 1, got {value}"
            )


def _check_fold(fold: Fold) -> None:
    if not (fold.of >= 2 and 1 <= fold.number <= fold.of):
        raise InputError(f"validation_fold: expected one of two folds or more, got {fold}")


def units_of(
    split: Sequence[ImageRecord] | Mapping[int, ImageRecord], indexes: Iterable[int], *, seed: int
) -> list[Unit]:
    """The units of these records in the order of their hash."""
    members: dict[str, list[int]] = defaultdict(list)
    for i in indexes:
        record = split[i]
        name = ranked_name(record.path) if record.group is None else f"group:{record.group}"
        members[name].append(i)
    units = [Unit(n, tuple(m), Counter(split[i].label for i in m)) for n, m in members.items()]

    return sorted(
        units, key=lambda unit: hash_rank(seed, split[unit.indexes[0]].category, unit.name)
    )


def _borrow(split: list[ImageRecord], own: list[int], *, share: float, seed: int) -> None:
    """Move a share of each defect type's test images into training, in ``split``."""
    tests = units_of(split, [i for i in own if split[i].split == "test"], seed=seed)
    total = sum((unit.labels for unit in tests), Counter[str]())
    target = {label: min(_rounded(share * n), n - 1) for label, n in total.items() if label != GOOD}
    trained = {split[i].group for i in own if split[i].split == "train"} - {None}
    free = [unit for unit in tests if GOOD not in unit.labels]
    shared = [unit for unit in free if split[unit.indexes[0]].group in trained]
    chosen = _choose(shared, target, total)
    rest = [unit for unit in free if split[unit.indexes[0]].group not in trained]
    chosen += _choose(rest, target, total, taken=chosen)
    for i in (i for unit in chosen for i in unit.indexes):
        split[i] = replace(split[i], split="train")
    moved = sum((unit.labels for unit in chosen), Counter[str]())
    for label, count in sorted(target.items()):
        if moved[label] != count:
            logger.warning(
                "category %r: borrowed %d of %d test images of %r, not %d: groups stay whole, "
                "and those with good test images stay in the test",
                *(split[own[0]].category, moved[label], total[label], label, count),
            )


def _hold_out(
    split: list[ImageRecord],
    own: list[int],
    *,
    name: Split,
    total: Counter[str],
    fraction: float,
    seed: int,
) -> None:
    """Move ``fraction`` of the images of each label from training to ``name``, in ``split``."""
    units = units_of(split, [i for i in own if split[i].split == "train"], seed=seed)
    left = sum((unit.labels for unit in units), Counter[str]())
    target = {label: min(_rounded(fraction * n), left[label] - 1) for label, n in total.items()}
    chosen = _choose(units, target, left)
    if target.get(GOOD, 0) > 0 and not any(unit.labels[GOOD] for unit in chosen):
        smallest = min(unit.labels[GOOD] for unit in units if unit.labels[GOOD])
        raise DatasetError(
            f"category {split[own[0]].category!r}: expected {target[GOOD]} good images to hold out "
            f"for {name}, but the smallest group has {smallest}, and groups are not parted; "
            f"raise data.{name}_fraction, or put images into validation/good/"
        )
    for i in (i for unit in chosen for i in unit.indexes):
        split[i] = replace(split[i], split=name)


def _hold_out_fold(split: list[ImageRecord], own: list[int], fold: Fold, *, seed: int) -> None:
    """Move one fold of the training images to validation, in ``split``."""
    category = split[own[0]].category
    units = units_of(split, [i for i in own if split[i].split == "train"], seed=seed)
    if units and len(units) < fold.of:
        raise DatasetError(
            f"category {category!r}: expected {fold.of} groups of training images, or images without "
            f"one, for data.validation_fold {fold}, found {len(units)}: choose fewer folds"
        )
    dealt = deal(units, fold.of)
    held = Counter(split[i].label for i, number in dealt.items() if number == fold.number)
    total = Counter(split[i].label for i in dealt)
    gone = [label for label in sorted(held) if held[label] == total[label]]
    kinds = {label == GOOD for label in total}
    if lost := kinds - {label == GOOD for label in total if label not in gone}:
        what = "good" if True in lost else "defect"
        raise DatasetError(
            f"category {category!r}: expected {what} images in training beside data.validation_fold "
            f"{fold}, but the fold has them all: they are in too few groups to be dealt; train without "
            "folds, or leave the category out"
        )
    if gone:
        logger.warning(
            "category %r: data.validation_fold %s holds out all images of %s",
            *(category, fold, ", ".join(gone)),
        )
    for i, number in dealt.items():
        if number == fold.number:
            split[i] = replace(split[i], split="validation")


def _choose(
    units: Sequence[Unit],
    target: dict[str, int],
    total: Counter[str],
    *,
    taken: Sequence[Unit] = (),
) -> list[Unit]:
    """Units whose labels together come near ``target``, beside those already ``taken``.

    First, in order, whatever fits without going over; then whatever brings the sum of the
    differences down. At least one image of each label in ``total`` is never chosen.
    """
    count = sum((unit.labels for unit in taken), Counter[str]())
    chosen: list[Unit] = []
    names: set[str] = set()
    for nearer in (False, True):
        for unit in units:
            if unit.name in names or all(count[x] >= target.get(x, 0) for x in unit.labels):
                continue
            after = {label: count[label] + n for label, n in unit.labels.items()}
            if any(after[label] >= total[label] for label in after):
                continue
            if nearer:
                gain = sum(
                    abs(target.get(label, 0) - count[label]) - abs(target.get(label, 0) - n)
                    for label, n in after.items()
                )
                fits = gain > 0
            else:
                fits = all(n <= target.get(label, 0) for label, n in after.items())
            if fits:
                chosen.append(unit)
                names.add(unit.name)
                count.update(unit.labels)
    return chosen


def _check_groups(
    split: Sequence[ImageRecord], own: Sequence[int], *, given: Sequence[ImageRecord]
) -> None:
    """No group in two splits; ``given`` are the records before any was borrowed."""
    places: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for i in own:
        group = split[i].group
        if group is not None:
            places[group][split[i].split].append(i)
    torn = {group: where for group, where in sorted(places.items()) if len(where) > 1}
    if not torn:
        return
    group, where = next(iter(torn.items()))
    counts = ", ".join(f"{len(indexes)} in {name}" for name, indexes in sorted(where.items()))
    hint = "move the images of one group into one split"
    trained = {given[i].group for i in own if given[i].split == "train"} - {None}
    tests = [given[i] for i in own if given[i].split == "test"]
    shared = [record for record in tests if record.group in trained]
    if shared and all(record.defective for record in shared):
        every = Counter(record.label for record in tests)
        needed = Counter(record.label for record in shared)
        share = math.ceil(100 * max(n / every[label] for label, n in needed.items())) / 100
        hint += (
            f", or let training borrow the {len(shared)} test defects of the shared groups: set "
            f"data.borrow_defects to {share} or more"
        )
    raise LeakError(
        f"category {split[own[0]].category!r}: expected every group in one split, found "
        f"{len(torn)} in several: group {group!r} has {counts}; {hint}"
    )


def _rounded(value: float) -> int:
    return math.floor(value + 0.5)
