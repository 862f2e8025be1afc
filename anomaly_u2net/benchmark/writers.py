"""The table of a benchmark as Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from anomaly_u2net.benchmark.means import Mean
from anomaly_u2net.benchmark.outcome import Outcome
from anomaly_u2net.benchmark.report import COSTS, NUMBERS, SMALL, BenchmarkTable, Row
from anomaly_u2net.benchmark.scores import TESTED
from anomaly_u2net.benchmark.table import escape
from anomaly_u2net.evaluation.table import LEVEL, RESAMPLES, Number
from anomaly_u2net.recipe.protocol import parse_protocol

#: What the numbers are and are not.
MEANING = (
    "Test images, each at its original size unless a column says 256² (maps and masks resized "
    "to 256 × 256, as papers mostly do). The last or averaged weights, or those chosen on the "
    "validation part: never by test images. Mean over categories (of one with several types that "
    "train in turn, over these first), then mean ± standard "
    f"deviation over seeds (and folds, alike); in brackets the {100 * LEVEL:.0f} % interval from "
    f"{RESAMPLES} resamples of test images (whole groups where there are some), its limits "
    "averaged over seeds. Δ: minus the best peer in that number, of the same seed, over the same "
    "resamples; an interval that holds 0 decides nothing. The best peer is chosen by these very numbers, "
    "which favours it. F1-max: at the best threshold for these images, an upper bound. "
    "Minutes: of training, on the clock. ms per image: median of the slowest cell, one CPU "
    "thread, with resizing. GiB: the largest process, libraries included; GPU GiB: the most that "
    "torch's tensors held there, n/a on a CPU."
)


def header() -> list[str]:
    """The titles of the columns."""
    return [
        "method",
        "starts from",
        "seeds",
        *NUMBERS.values(),
        *(f"Δ {NUMBERS[name]}" for name in TESTED),
        *SMALL.values(),
        *(title for title, _ in COSTS.values()),
        "note",
    ]


def line(row: Row) -> list[str]:
    """A row as text; undefined is n/a, and what a published row does not have is empty."""
    if row.published:
        known = [_number(row.numbers[n]) if n in row.numbers else "" for n in NUMBERS]
        rest = [""] * (len(TESTED) + len(SMALL) + len(COSTS))
        return [row.method, "", "published", *known, *rest, f"not run here: {row.published}"]
    return [
        row.method,
        row.start or "n/a",
        str(len(row.seeds)) + (f" × {row.over}" if row.over else ""),
        *(_number(row.numbers.get(name)) for name in NUMBERS),
        *(_difference(row, name) for name in TESTED),
        *(_number(row.small.get(name)) for name in SMALL),
        *(_cost(row.costs.get(name), form) for name, (_, form) in COSTS.items()),
        "; ".join(row.notes),
    ]


def caption(table: BenchmarkTable) -> str:
    """What the numbers are and are not, and of which splits."""
    return " ".join([MEANING, *(splits_named(table, protocol) for protocol in table.hashes)])


def splits_named(table: BenchmarkTable, protocol: str) -> str:
    """The hash of a protocol's splits with each seed, and its best peers."""
    best = _best(table, protocol)
    hashes = ", ".join(f"seed {seed}: {one[:12]}" for seed, one in table.hashes[protocol].items())
    found = f"Protocol {protocol}: splits {hashes or 'n/a'}"
    return found + (f", best peer {best}." if best else ".")


def images_of(table: BenchmarkTable, protocol: str) -> str:
    """The images of each split with the first seed (and fold, or type), and the near copies tested."""
    found = {
        cell.category: cell
        for cell in reversed(table.cells)
        if (cell.category, cell.protocol) in table.splits[protocol].cells and cell.images
    }
    return "; ".join(
        category
        + (f", {c.protocol}: " if _is_type(c, protocol) else ": ")
        + ", ".join(
            f"{good} good and {bad} defective in {s}" for s, (good, bad) in c.images.items()
        )
        + (f"; {c.near_copies} tested images look like a training image" if c.near_copies else "")
        for category, c in sorted(found.items())
    )


def to_markdown(table: BenchmarkTable) -> str:
    """A table per protocol, then what the numbers are."""
    parts = [f"# {table.name}"]
    for protocol in table.hashes:
        lines = [header(), ["---", *["---:"] * (len(header()) - 2), "---"]]
        lines += [line(row) for row in table.rows if row.protocol == protocol]
        text = "\n".join(f"| {' | '.join(escape(cell) for cell in cells)} |" for cells in lines)
        parts.append(f"## {protocol}\n\n{images_of(table, protocol)}\n\n{text}")
    return "\n\n".join([*parts, caption(table)]) + "\n"


def to_csv(table: BenchmarkTable) -> str:
    """Numbers in full: a line per cell (``kind`` cell), per row (mean), and per publication.

    split_hash: of a cell its own; of a mean that of each of its seeds (`BenchmarkTable.hashes`), in
    their order, whose first 12 digits the Markdown says.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    ends = ("", "_std", "_low", "_high")
    names = [*NUMBERS, *(f"{name}_difference" for name in TESTED), *(f"{n}_256" for n in SMALL)]
    first = ["kind", "protocol", "method", "category", "seed", "peer", "start"]
    columns = [f"{name}{end}" for name in names for end in ends]
    tests = [f"{name}_difference_p" for name in TESTED]
    writer.writerow([*first, *columns, *tests, *COSTS, "split_hash", "model_hash", "note"])
    for row in table.rows:
        kind = "published" if row.published else "mean"
        differences = [row.differences.get(n) for n in TESTED]
        means = [row.numbers.get(n) for n in NUMBERS] + differences
        means += [row.small.get(n) for n in SMALL]
        note = row.published or "; ".join(row.notes)
        seeds = " ".join(map(str, row.seeds))
        named = [kind, row.protocol, row.method, "", seeds, row.peer, row.start]
        ps = [_full(one.p if one else None) for one in differences]
        costs = [_full(row.costs.get(name)) for name in COSTS]
        hashes = [table.hashes[row.protocol].get(seed, "n/a") for seed in row.seeds] or ["n/a"]
        splits = "" if row.published else " ".join(hashes)
        writer.writerow([*named, *_fields(means), *ps, *costs, splits, "", note])
    peers = {row.method: row.peer for row in table.rows if not row.published}
    for cell in table.cells:
        found = [cell.numbers.get(n) for n in NUMBERS] + [None] * len(TESTED)
        found += [cell.small.get(n) for n in SMALL]
        means = [None if n is None else Mean(n.value, None, n.low, n.high) for n in found]
        named = ["cell", cell.protocol, cell.method, cell.category, cell.seed]
        named += [peers[cell.method], cell.start]
        ps = ["n/a"] * len(TESTED)
        costs = [_full(cell.costs.get(name)) for name in COSTS]
        hashes = [cell.split_hash, cell.model_hash]
        writer.writerow([*named, *_fields(means), *ps, *costs, *hashes, cell.reason])
    return file.getvalue()


def _number(one: Mean | None, form: str = ".3f") -> str:
    if one is None:
        return "n/a"
    text = format(one.value, form)
    if one.std is not None:
        text += f" ± {one.std:.3f}"
    if one.low is not None and one.high is not None:
        text += f" ({one.low:{form}} to {one.high:{form}})"
    return text


def _difference(row: Row, name: str) -> str:
    """To the best peer; a row that has the number, but nothing to be compared with, is that peer."""
    if name not in row.differences and row.numbers.get(name) is not None:
        return "best peer" if row.peer else "n/a"
    return _number(row.differences.get(name), "+.3f")


def _cost(value: Number, form: str) -> str:
    return "n/a" if value is None else format(value, form)


def _best(table: BenchmarkTable, protocol: str) -> str:
    found = table.best[protocol]
    text = ", ".join(f"{found[name]} ({NUMBERS[name]})" for name in TESTED if name in found)
    peers = [r for r in table.rows if r.protocol == protocol and r.peer and not r.published]
    differ = len({row.seeds for row in peers if row.seeds}) > 1
    return f"{text}, chosen among peers with different seeds" if text and differ else text


def _is_type(cell: Outcome, protocol: str) -> bool:
    return cell.protocol != protocol and parse_protocol(cell.protocol).kind == "hard"


def _fields(means: Sequence[Mean | None]) -> list[str]:
    fields: list[Number] = []
    for one in means:
        fields += [None] * 4 if one is None else [one.value, one.std, one.low, one.high]
    return [_full(value) for value in fields]


def _full(value: Number) -> str:
    return "n/a" if value is None else repr(value)
