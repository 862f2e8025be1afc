"""Findings on images that are there twice: to the byte, to the pixel, or nearly; or named as one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import numpy as np

from anomaly_u2net.data.audit.findings import Finding, Item
from anomaly_u2net.data.audit.seen import SeenImage
from anomaly_u2net.data.duplicates import SIDE, alike_pairs, join_pairs


@dataclass(frozen=True, slots=True)
class Copies:
    """The findings of one category, and its images in groups of two or more: indexes into it.

    By what they look like, and by the groups that were given.
    """

    findings: list[Finding]
    joined: list[tuple[int, ...]]


def copy_findings(category: str, seen: Sequence[SeenImage]) -> Copies:
    """Same files, same pixels, same things, same groups in one category: within and across splits."""
    exact, pixels = _equal(seen, attrgetter("bytes")), _equal(seen, attrgetter("pixels"))
    given = _equal(seen, attrgetter("record.group"))
    near = alike_pairs(np.array([one.thumbnail for one in seen]).reshape(-1, SIDE, SIDE))
    equal = _pairs(pixels)
    found = join_pairs(len(seen), [*equal, *near])
    joined = join_pairs(len(seen), [*equal, *near, *_pairs(given)])
    near_only = sorted(set(found) - set(pixels))  # the others are named as copies
    known = [group for group in near_only if _one_group(seen, group)]
    new = [group for group in near_only if not _one_group(seen, group)]
    across = [group for group in new if len(_splits(seen, group)) > 1]
    within = [group for group in new if len(_splits(seen, group)) == 1]
    unlike = [group for group in found if len({seen[i].record.label == "good" for i in group}) > 1]
    torn = [group for group in pixels if len(_splits(seen, group)) > 1]
    whole = [group for group in pixels if len(_splits(seen, group)) == 1]
    same = sum(_same_file(exact, group) for group in torn)
    parted = [group for group in given if len(_splits(seen, group)) > 1]
    findings = [
        _finding(
            seen, torn, "error", "copies_across_splits", category,
            f"the same picture lies in several splits ({same} of {len(torn)} to the byte)",
            "Keep each picture in one split: a test on trained images proves nothing.",
        ),
        _finding(
            seen, parted, "error", "groups_across_splits", category,
            "named as one group, as by groups.csv, but parted between splits",
            "Move each group into one split, or use a protocol other than given: it takes such "
            "images out of the test.",
        ),
        _finding(
            seen, across, "warning", "near_copies_across_splits", category,
            "the same thing, as it seems, was photographed for several splits",
            "Look at them; move each group into one split. Numbers on such test images are too good.",
        ),
        _finding(
            seen, unlike, "warning", "near_copies_unlike_labels", category,
            "the same thing, as it seems, is good in one image and defective in another",
            "Look at them: one label may be wrong, or the defect shows in one light only.",
        ),
        _finding(
            seen, whole, "warning", "copies", category,
            "the same picture is there more than once in a split",
            "Keep one of each.",
        ),
        _finding(
            seen, within, "warning", "near_copies", category,
            "the same thing, as it seems, was photographed several times, and groups.csv does not "
            "say so",
            "Write groups.csv (--write-groups), look through it, and put it into the category's "
            "folder: then no group is parted between training, validation and calibration.",
        ),
        _finding(
            seen, known, "info", "near_copies_known", category,
            "the same thing was photographed several times, as groups.csv says",
            "",
        ),
    ]  # fmt: skip
    return Copies([finding for finding in findings if finding.items], joined)


def copies_across_categories(seen: Sequence[SeenImage]) -> list[Finding]:
    """Pictures that lie in two categories, to the pixel."""
    groups = [
        group
        for group in _equal(seen, attrgetter("pixels"))
        if len({seen[i].record.category for i in group}) > 1
    ]
    found = _finding(
        seen, groups, "warning", "copies_across_categories", "",
        "the same picture lies in several categories",
        "Keep it where it belongs.",
    )  # fmt: skip
    return [found] if groups else []


def _finding(
    seen: Sequence[SeenImage],
    groups: list[tuple[int, ...]],
    severity: str,
    check: str,
    category: str,
    what: str,
    advice: str,
) -> Finding:
    images = sum(map(len, groups))
    return Finding(
        severity,  # type: ignore[arg-type]
        check,
        category,
        f"{images} images in {len(groups)} group{'' if len(groups) == 1 else 's'}: {what}",
        advice,
        tuple(_item(seen, group) for group in sorted(groups, key=lambda g: (-len(g), g))),
        {"images": images, "groups": len(groups)},
    )


def _item(seen: Sequence[SeenImage], group: tuple[int, ...]) -> Item:
    note = ", ".join(sorted({f"{seen[i].record.split}/{seen[i].record.label}" for i in group}))
    if _one_group(seen, group):
        note = f"group {seen[group[0]].record.group}: {note}"
    return Item(tuple(seen[i].record.path for i in group), note, float(len(group)))


def _equal(
    seen: Sequence[SeenImage], of: Callable[[SeenImage], str | None]
) -> list[tuple[int, ...]]:
    """The images, two or more, of which ``of`` is the same."""
    places: dict[str, list[int]] = defaultdict(list)
    for i, one in enumerate(seen):
        if (key := of(one)) is not None:
            places[key].append(i)
    return [tuple(group) for group in places.values() if len(group) > 1]


def _pairs(groups: Sequence[tuple[int, ...]]) -> list[tuple[int, int]]:
    """Pairs that join what each group holds."""
    return [(group[0], i) for group in groups for i in group[1:]]


def _one_group(seen: Sequence[SeenImage], group: tuple[int, ...]) -> bool:
    names = {seen[i].record.group for i in group}
    return len(names) == 1 and None not in names


def _splits(seen: Sequence[SeenImage], group: tuple[int, ...]) -> set[str]:
    return {seen[i].record.split for i in group}


def _same_file(exact: list[tuple[int, ...]], group: tuple[int, ...]) -> bool:
    """Whether two images of a group are equal to the byte."""
    return any(set(files) <= set(group) for files in exact)


def group_rows(
    joined: Sequence[Sequence[Path]], files: Sequence[Path], *, root: Path
) -> list[tuple[str, str]]:
    """(file, group) of every file for groups.csv, relative to ``root``; "" where it is alone.

    >>> a, b, c = (Path("part/train/good") / name for name in "abc")
    >>> group_rows([(a, c)], [a, b, c], root=Path("part"))
    [('train/good/a', '0001'), ('train/good/b', ''), ('train/good/c', '0001')]
    """
    groups = enumerate(sorted(map(sorted, joined)), start=1)
    name = {file: f"{number:04d}" for number, group in groups for file in group}
    return [(file.relative_to(root).as_posix(), name.get(file, "")) for file in sorted(files)]
