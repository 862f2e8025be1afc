"""From the cells of a benchmark to one row per protocol and method: means, intervals, differences.

C categories, S seeds. A number of a row is the mean over categories, then over seeds and, where the row
has them, over five folds alike. Under ``hard-each-K`` a category's is the mean over its types.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import Any

from anomaly_u2net.benchmark.means import Mean, difference, over_seeds
from anomaly_u2net.benchmark.methods import BenchmarkFile
from anomaly_u2net.benchmark.outcome import Outcome
from anomaly_u2net.benchmark.rows import RowSplits
from anomaly_u2net.benchmark.scores import TESTED
from anomaly_u2net.evaluation.table import Number
from anomaly_u2net.files import sha256_json, write_json, write_text
from anomaly_u2net.metrics.intervals import MIN_GROUPS
from anomaly_u2net.recipe.protocol import parse_protocol

#: The numbers of a row and their titles; those of ``SMALL`` again at 256².
NUMBERS = {
    "image_auroc": "image AUROC",
    "pixel_ap": "pixel AP",
    "aupro_0.30": "AUPRO@0.30",
    "aupro_0.05": "AUPRO@0.05",
    "pixel_auroc": "pixel AUROC",
    "pixel_f1_max": "pixel F1-max",
}
SMALL = {
    "pixel_ap": "pixel AP at 256²",
    "aupro_0.30": "AUPRO@0.30 at 256²",
    "pixel_auroc": "pixel AUROC at 256²",
}
#: Cost → its title and how it is written. Memory and time per image: the largest of all cells.
COSTS = {
    "minutes": ("training minutes", ".1f"),
    "steps": ("steps", ".0f"),
    "milliseconds": ("ms per image", ".0f"),
    "gib": ("GiB", ".1f"),
    "gpu_gib": ("GPU GiB", ".1f"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """A method under a protocol; ``published`` names the source where it was not run here.

    seeds: those with all categories, and all folds. numbers, small, costs: ``None`` where undefined.
    differences: to the best peer, which ``best`` names by number. notes: what failed, is
    n/a, was left out, or was not run yet. over: see `RowSplits`.
    """

    protocol: str
    method: str
    peer: bool
    start: str = ""
    seeds: tuple[int, ...] = ()
    numbers: Mapping[str, Mean | None] = field(default_factory=dict)
    small: Mapping[str, Mean | None] = field(default_factory=dict)
    costs: Mapping[str, Number] = field(default_factory=dict)
    differences: Mapping[str, Mean | None] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    published: str = ""
    over: str = ""

    def to_dict(self) -> dict[str, Any]:
        parts = {
            name: {key: one and _plain(one) for key, one in getattr(self, name).items()}
            for name in ("numbers", "small")
        }
        differences = {n: one and _plain(one) | {"p": one.p} for n, one in self.differences.items()}
        plain = ("protocol", "method", "peer", "start", "over", "costs", "published")
        return {
            **{name: getattr(self, name) for name in plain},
            "seeds": list(self.seeds),
            "notes": list(self.notes),
            **parts,
            "differences": differences,
        }


@dataclass(frozen=True, slots=True)
class BenchmarkTable:
    """What `run_benchmark` found.

    best: protocol → number → the peer that differences are to. hashes: protocol → seed → the hash
    of its split or, with several categories, folds or types, the SHA-256 over their sorted hashes;
    only of seeds that have a finished cell of each, all methods on the same images. More seeds and
    methods do not change it; one that saw other images takes it out. cells: every outcome. splits:
    protocol → which of them are in its rows.
    """

    name: str
    digest: str
    rows: tuple[Row, ...]
    best: Mapping[str, Mapping[str, str]]
    hashes: Mapping[str, Mapping[int, str]]
    cells: tuple[Outcome, ...]
    splits: Mapping[str, RowSplits]

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": "anomaly_u2net.benchmark/2",
            "name": self.name,
            "digest": self.digest,
            "protocols": {
                protocol: {str(seed): one for seed, one in hashes.items()}
                for protocol, hashes in self.hashes.items()
            },
            "best_peer": {protocol: dict(best) for protocol, best in self.best.items()},
            "rows": [row.to_dict() for row in self.rows],
            "cells": [cell.to_dict() for cell in self.cells],
        }

    def save(self, folder: str | Path) -> list[Path]:
        """Write benchmark.md, .csv, .tex and .json, each whole or not at all."""
        from anomaly_u2net.benchmark.latex import to_latex
        from anomaly_u2net.benchmark.writers import to_csv, to_markdown

        kinds = {"md": to_markdown, "csv": to_csv, "tex": to_latex}
        for kind, text in kinds.items():
            write_text(Path(folder) / f"benchmark.{kind}", text(self))
        write_json(Path(folder) / "benchmark.json", self.to_dict())
        return [Path(folder) / f"benchmark.{kind}" for kind in (*kinds, "json")]


def make_table(
    bench: BenchmarkFile, splits: Mapping[str, RowSplits], cells: Sequence[Outcome]
) -> BenchmarkTable:
    """Rows in the order of the file, published ones behind those that were run.

    splits: the cells that each method and seed is to have under a protocol. cells: those there are so far.
    """
    rows, best = [], dict[str, dict[str, str]]()
    hashes = {}
    for protocol in bench.protocols:
        planned = splits[protocol]
        own = [cell for cell in cells if (cell.category, cell.protocol) in planned.cells]
        hashes[protocol] = _hashes(planned, own)
        found = {
            name: _row(
                Row(protocol, name, method.is_peer, over=planned.over),
                [c for c in own if c.method == name],
                planned,
                seeds=len(bench.seeds),
            )
            for name, method in bench.methods.items()
        }
        found = _with_image_notes(found, own)
        best[protocol] = _best(found)
        rows += [_with_differences(row, best[protocol], own) for row in found.values()]
        rows += [
            Row(
                protocol,
                one.method,
                peer=True,
                numbers={name: Mean(value) for name, value in one.numbers.items()},
                published=one.source,
            )
            for one in bench.published
            if one.protocol == protocol
        ]
    return BenchmarkTable(bench.name, bench.digest, tuple(rows), best, hashes, tuple(cells), splits)


def table_without_images(bench: BenchmarkFile, why: str) -> BenchmarkTable:
    """The table of a benchmark whose images are not there: every method says so, none has numbers."""
    table = make_table(bench, dict.fromkeys(bench.protocols, RowSplits(())), ())
    note = f"n/a: needs its images: {why}"
    rows = [row if row.published else replace(row, notes=(note,)) for row in table.rows]
    return replace(table, rows=tuple(rows))


def _hashes(planned: RowSplits, cells: Sequence[Outcome]) -> dict[int, str]:
    """Seed → the hash of its splits, as `BenchmarkTable.hashes` has it."""
    found = defaultdict[int, dict[tuple[str, str], set[str]]](lambda: defaultdict(set))
    for cell in (one for one in cells if one.error is None):
        found[cell.seed][cell.category, cell.protocol].add(cell.split_hash)
    hashes = {}
    for seed, splits in sorted(found.items()):
        own = sorted(one for each in splits.values() for one in each)
        if len(own) == len(splits) == len(planned.cells):
            hashes[seed] = own[0] if len(own) == 1 else sha256_json(own)
    return hashes


def _row(row: Row, cells: Sequence[Outcome], planned: RowSplits, *, seeds: int) -> Row:
    """The row with the numbers of its cells, of which ``planned`` are there once a seed; no differences."""
    notes = [f"left out: {'; '.join(planned.left_out)}"] if planned.left_out else []
    notes += dict.fromkeys(cell.reason for cell in cells if cell.error is not None)
    per_seed = len(planned.cells)
    if missing := seeds * per_seed - len(cells):
        notes.append(f"not run yet: {missing} of {seeds * per_seed} cells")
    there = Counter(cell.seed for cell in cells if cell.error is None)
    complete = {seed for seed, count in there.items() if count == per_seed}
    whole = [cell for cell in cells if cell.seed in complete]
    if not whole:
        return replace(row, notes=tuple(notes))
    return replace(
        row,
        start=", ".join(sorted({cell.start for cell in whole})),
        seeds=tuple(sorted(complete)),
        numbers={
            n: over_seeds([(c.repeat, c.category, c.numbers[n]) for c in whole]) for n in NUMBERS
        },
        small={
            n: over_seeds([(c.repeat, c.category, c.small.get(n)) for c in whole]) for n in SMALL
        },
        costs=_costs(whole),
        notes=tuple(notes),
    )


def _with_image_notes(rows: Mapping[str, Row], cells: Sequence[Outcome]) -> dict[str, Row]:
    """The rows, with a note where methods did not see the same images: some changed in between."""
    splits = defaultdict[str, set[str]](set)
    for cell in (one for one in cells if one.error is None):
        parsed = parse_protocol(cell.protocol)
        part = f", fold {parsed.fold}" if parsed.fold else ""
        part += f", {cell.protocol}" if parsed.kind == "hard" else ""
        splits[f"{cell.category}, seed {cell.seed}{part}"].add(cell.split_hash)
    places = [place for place, found in splits.items() if len(found) > 1]
    if not places:
        return dict(rows)
    note = f"not on the same images as other methods: {'; '.join(places)}: make these cells anew"
    return {name: replace(row, notes=(*row.notes, note)) for name, row in rows.items()}


def _costs(cells: Sequence[Outcome]) -> dict[str, Number]:
    found: dict[str, Number] = {}
    for name in COSTS:
        values = [value for cell in cells if (value := cell.costs.get(name)) is not None]
        of = max if name in ("milliseconds", "gib", "gpu_gib") else mean
        found[name] = of(values) if len(values) == len(cells) else None
    return found


def _best(rows: Mapping[str, Row]) -> dict[str, str]:
    """Of the peers that were run, the one with the highest mean of each number."""
    best = {}
    for name in TESTED:
        peers = {
            row.method: one.value
            for row in rows.values()
            if row.peer and (one := row.numbers.get(name)) is not None
        }
        if peers:
            best[name] = max(peers, key=lambda method: peers[method])
    return best


def _with_differences(row: Row, best: Mapping[str, str], cells: Sequence[Outcome]) -> Row:
    differences = {
        name: difference(name, row.method, best[name], cells, seeds=row.seeds)
        for name in TESTED
        if name in best and best[name] != row.method and row.seeds
    }
    notes = [*row.notes, *_seed_notes(row, differences, best, cells)]
    without = [n for n, one in differences.items() if one is not None and one.low is None]
    if without:
        notes.append(
            f"no interval of Δ {', '.join(NUMBERS[name] for name in without)}: fewer than {MIN_GROUPS} "
            "groups of good or of defective test images in a category, or too little memory to resample"
        )
    return replace(row, differences=differences, notes=tuple(notes))


def _seed_notes(
    row: Row,
    differences: Mapping[str, Mean | None],
    best: Mapping[str, str],
    cells: Sequence[Outcome],
) -> list[str]:
    """Over which seeds a difference is, where these are not all of the row's."""
    own = {c.repeat for c in cells if c.method == row.method and c.seed in row.seeds}
    found = defaultdict[tuple[str, str], list[str]](list)
    for name, one in differences.items():
        if one is not None and set(one.repeats) != own:
            found[best[name], _named(one.repeats, own)].append(NUMBERS[name])
        elif one is None and row.numbers[name] is not None:
            found[best[name], ""].append(NUMBERS[name])
    return [
        f"Δ {', '.join(titles)}: only over seeds that {peer} has on the same images: {seeds}"
        if seeds
        else f"no Δ {', '.join(titles)}: {peer} has none of these seeds on the same images"
        for (peer, seeds), titles in found.items()
    ]


def _named(repeats: Collection[tuple[int, int]], own: Collection[tuple[int, int]]) -> str:
    """The seeds of ``repeats``, and of how many of a row's ``own`` folds where some are missing.

    >>> _named([(0, 1), (0, 2), (1, 1)], [(0, 1), (0, 2), (1, 1), (1, 2), (2, 1), (2, 2)])
    '0, 1 (1 of 2 folds)'
    """
    there, whole = (Counter(seed for seed, _ in one) for one in (repeats, own))
    return ", ".join(
        f"{seed}" + ("" if count == whole[seed] else f" ({count} of {whole[seed]} folds)")
        for seed, count in sorted(there.items())
    )


def _plain(one: Mean) -> dict[str, Number]:
    return {"value": one.value, "std": one.std, "low": one.low, "high": one.high}
