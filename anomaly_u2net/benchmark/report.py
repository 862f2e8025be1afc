"""From the cells of a benchmark to one row per protocol and method: means, intervals, differences.

C categories, S seeds. A number of a row is the mean over categories, then over seeds and, where the row
has them, over five folds alike. Under ``hard-each-K`` a category's is the mean over its types.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from anomaly_u2net.benchmark.methods import BenchmarkFile
from anomaly_u2net.benchmark.outcome import Outcome
from anomaly_u2net.benchmark.rows import RowSplits
from anomaly_u2net.benchmark.scores import TESTED
from anomaly_u2net.evaluation.table import Measured, Number, mean_limits, mean_of
from anomaly_u2net.files import sha256_json, write_json, write_text
from anomaly_u2net.metrics import sampled_difference
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
SMALL = {"pixel_ap": "pixel AP at 256²", "aupro_0.30": "AUPRO@0.30 at 256²"}
#: Cost → its title and how it is written. Memory and time per image: the largest of all cells.
COSTS = {
    "minutes": ("training minutes", ".1f"),
    "steps": ("steps", ".0f"),
    "milliseconds": ("ms per image", ".0f"),
    "gib": ("GiB", ".1f"),
}


@dataclass(frozen=True, slots=True)
class Mean:
    """A number over S seeds, or seeds and folds. std: S - 1 in the denominator, None for one seed.

    low, high: the mean over seeds of the 95 % limits of each: as if the seeds, which share test
    images, all erred together, so rather too wide than too narrow.
    """

    value: float
    std: Number = None
    low: Number = None
    high: Number = None


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
            for name in ("numbers", "small", "differences")
        }
        plain = ("protocol", "method", "peer", "start", "over", "costs", "published")
        return {
            **{name: getattr(self, name) for name in plain},
            "seeds": list(self.seeds),
            "notes": list(self.notes),
            **parts,
        }


@dataclass(frozen=True, slots=True)
class BenchmarkTable:
    """What `run_benchmark` found.

    best: protocol → number → the peer that differences are to. hashes: protocol → SHA-256 over the
    hashes of its splits, empty where no cell is finished. cells: every outcome. splits: protocol →
    which of them are in its rows.
    """

    name: str
    digest: str
    rows: tuple[Row, ...]
    best: Mapping[str, Mapping[str, str]]
    hashes: Mapping[str, str]
    cells: tuple[Outcome, ...]
    splits: Mapping[str, RowSplits]

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": "anomaly_u2net.benchmark/1",
            "name": self.name,
            "digest": self.digest,
            "protocols": dict(self.hashes),
            "best_peer": {protocol: dict(best) for protocol, best in self.best.items()},
            "rows": [row.to_dict() for row in self.rows],
            "cells": [cell.to_dict() for cell in self.cells],
        }

    def save(self, folder: str | Path) -> list[Path]:
        """Write benchmark.md, .csv, .tex and .json, each whole or not at all."""
        from anomaly_u2net.benchmark import writers

        kinds = {"md": writers.to_markdown, "csv": writers.to_csv, "tex": writers.to_latex}
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
        split_hashes = {cell.split_hash for cell in own if cell.error is None}
        hashes[protocol] = sha256_json(sorted(split_hashes)) if split_hashes else ""
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
        numbers={n: _over_seeds(n, whole, "numbers") for n in NUMBERS},
        small={n: _over_seeds(n, whole, "small") for n in SMALL},
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


def _over_seeds(name: str, cells: Sequence[Outcome], part: str) -> Mean | None:
    found = [
        mean_of(
            _by_category((c.category, getattr(c, part)[name]) for c in cells if c.repeat == repeat)
        )
        for repeat in sorted({cell.repeat for cell in cells})
    ]
    return _mean(found)


def _by_category(found: Iterable[tuple[str, Measured | None]]) -> list[Measured | None]:
    """One number a category. Of several types it is their mean, and the mean of their limits: they
    are tested on the same images, as seeds are."""
    numbers = defaultdict[str, list[Measured | None]](list)
    for category, number in found:
        numbers[category].append(number)
    return [own[0] if len(own) == 1 else _measured(_mean(own)) for own in numbers.values()]


def _measured(one: Mean | None) -> Measured | None:
    return None if one is None else Measured(one.value, one.low, one.high)


def _mean(found: Sequence[Measured | None]) -> Mean | None:
    """Over seeds; None when a number is undefined with any of them."""
    known = [one for one in found if one is not None]
    if not known or len(known) < len(found):
        return None
    values = [one.value for one in known]
    lows = [one.low for one in known if one.low is not None]
    highs = [one.high for one in known if one.high is not None]
    limits = (mean(lows), mean(highs)) if len(lows) == len(highs) == len(known) else (None, None)
    return Mean(mean(values), stdev(values) if len(values) > 1 else None, *limits)


def _costs(cells: Sequence[Outcome]) -> dict[str, Number]:
    found: dict[str, Number] = {}
    for name in COSTS:
        values = [value for cell in cells if (value := cell.costs.get(name)) is not None]
        of = max if name in ("milliseconds", "gib") else mean
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
        name: _difference(name, row, best[name], cells)
        for name in TESTED
        if name in best and best[name] != row.method and row.seeds
    }
    without = [n for n, one in differences.items() if one is not None and one.low is None]
    if not without:
        return replace(row, differences=differences)
    note = (
        f"no interval of Δ {', '.join(NUMBERS[name] for name in without)}: fewer than {MIN_GROUPS} groups "
        "of good or of defective test images in a category, or too little memory to resample"
    )
    return replace(row, differences=differences, notes=(*row.notes, note))


def _difference(name: str, row: Row, peer: str, cells: Sequence[Outcome]) -> Mean | None:
    """The method's number minus the peer's: of the same split and seed, over the same resamples.

    Without limits where a category or a seed has none.
    """
    by_key = {(c.method, c.category, c.protocol, c.seed): c for c in cells if c.error is None}
    found: list[Measured | None] = []
    for repeat in sorted({c.repeat for c in cells if c.seed in row.seeds}):
        splits = sorted({(c.category, c.protocol, c.seed) for c in cells if c.repeat == repeat})
        pairs = _by_category(
            (split[0], _pair(name, by_key.get((row.method, *split)), by_key.get((peer, *split))))
            for split in splits
        )
        known = [d for d in pairs if d is not None]
        if len(known) < len(pairs):
            continue  # the peer lacks this seed, or the number is undefined: nothing to pair
        limits = [
            (d.value, d.low, d.high) for d in known if d.low is not None and d.high is not None
        ]
        low, high = mean_limits(limits) if len(limits) == len(known) else (None, None)
        found.append(Measured(mean(d.value for d in known), low, high))
    return _mean(found)


def _pair(name: str, one: Outcome | None, other: Outcome | None) -> Measured | None:
    """The difference on the same images; its limits where both numbers were resampled."""
    if one is None or other is None or one.split_hash != other.split_hash:
        return None
    a, b = one.samples.get(name), other.samples.get(name)
    if a is not None and b is not None:
        found = sampled_difference(a, b)
        return Measured(found.value, found.low, found.high)
    x, y = one.numbers.get(name), other.numbers.get(name)
    return None if x is None or y is None else Measured(x.value - y.value)


def _plain(one: Mean) -> dict[str, Number]:
    return {"value": one.value, "std": one.std, "low": one.low, "high": one.high}
