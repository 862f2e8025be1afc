"""The table of a benchmark as LaTeX: numbers, costs, what failed and what all of it means."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from anomaly_u2net.benchmark.report import COSTS, NUMBERS, SMALL, BenchmarkTable, Row
from anomaly_u2net.benchmark.scores import TESTED
from anomaly_u2net.benchmark.writers import MEANING, header, images_of, line, splits_named

#: Titles of the columns with intervals, and of those that stand below without.
QUALITY = (
    *(NUMBERS[name] for name in ("image_auroc", "pixel_ap", "aupro_0.30", "aupro_0.05")),
    *(f"Δ {NUMBERS[name]}" for name in TESTED),
)
BESIDE = ("starts from", "seeds", *SMALL.values(), *(title for title, _ in COSTS.values()))
#: A longer title stands in two lines.
_TITLE_WIDTH = 10
#: What LaTeX takes for a command, an argument or another sign, and signs that its standard fonts lack.
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "[": "{[}", "]": "{]}", "*": "{*}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "''", "`": r"\textasciigrave{}",
    "²": r"\textsuperscript{2}", "†": r"\dag{}", "±": r"$\pm$", "Δ": r"$\Delta$", "−": r"$-$",
    "≤": r"$\le$", "≥": r"$\ge$", "×": r"$\times$", "→": r"$\to$", "…": r"\dots{}",
}  # fmt: skip


def to_latex(table: BenchmarkTable) -> str:
    """A floating table per protocol, each complete by itself; needs ``\\usepackage{booktabs}``.

    The caption names the splits and says what the numbers are. The first tabular has the numbers, an
    interval in small print below its number; the second starts, seeds, numbers at 256² and costs. Below stand
    the notes of the rows: what failed or is n/a and why, and the sources of what was published.
    """
    return "\n\n".join(_table(table, protocol) for protocol in table.hashes) + "\n"


def latex(text: str) -> str:
    """``text`` as LaTeX prints it, in one line.

    >>> latex("U²-Net†, 5 % of a_b")
    'U\\\\textsuperscript{2}-Net\\\\dag{}, 5 \\\\% of a\\\\_b'
    """
    signs = "".join(_LATEX.get(sign, sign) for sign in " ".join(text.split()))
    return signs.replace("--", "-{}-")  # an option, not a dash


def _table(table: BenchmarkTable, protocol: str) -> str:
    rows = [row for row in table.rows if row.protocol == protocol]
    marks = {note: f"{place + 1}" for place, note in enumerate(_notes(rows))}
    images = images_of(table, protocol)
    said = [f"{table.name}.", splits_named(table, protocol), images and f"{images}.", MEANING]
    caption = " ".join(one for one in said if one)
    parts = [
        r"\begin{table*}",
        r"\centering\footnotesize\setlength{\tabcolsep}{2pt}",
        rf"\caption[{latex(f'{table.name}, protocol {protocol}')}]{{{latex(caption)}}}",
        *_tabular(QUALITY, _quality(rows, marks)),
        r"\par\medskip",
        *_tabular(BESIDE, _beside(rows, marks)),
        *(
            rf"\par {{\footnotesize \textsuperscript{{{mark}}}{latex(note)}}}"
            for note, mark in marks.items()
        ),
        r"\end{table*}",
    ]
    return "\n".join(parts)


def _tabular(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a tabular; rows: cells as LaTeX, the method first."""
    return [
        rf"\begin{{tabular}}{{l{'r' * len(titles)}}}",
        r"\toprule",
        " & ".join(map(_title, ["method", *titles])) + r" \\",
        r"\midrule",
        *(" & ".join(cells) + r" \\" for cells in rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]


def _quality(rows: Sequence[Row], marks: Mapping[str, str]) -> list[list[str]]:
    """Of each row a line of numbers and, where it has intervals, one of those."""
    found = []
    for row in rows:
        texts = dict(zip(header(), line(row), strict=True))
        cells = [texts[title].partition(" (") for title in QUALITY]
        found.append([_named(row, marks), *(latex(number) for number, _, _ in cells)])
        if any(limits for *_, limits in cells):
            small = [limits.replace(" to ", ", ") for *_, limits in cells]
            found.append(["", *(rf"\scriptsize ({latex(one)}" if one else "" for one in small)])
    return found


def _beside(rows: Sequence[Row], marks: Mapping[str, str]) -> list[list[str]]:
    """Of each row that was run here what it started from, its numbers at 256² and its costs."""
    found = []
    for row in (one for one in rows if not one.published):
        texts = dict(zip(header(), line(row), strict=True))
        found.append([_named(row, marks), *(latex(texts[title]) for title in BESIDE)])
    return found


def _notes(rows: Sequence[Row]) -> dict[str, None]:
    """The notes of all rows in their order, each once."""
    return dict.fromkeys(note for row in rows for note in _of(row))


def _of(row: Row) -> tuple[str, ...]:
    return (f"not run here: {row.published}",) if row.published else row.notes


def _named(row: Row, marks: Mapping[str, str]) -> str:
    """The method with the marks of its notes."""
    own = ",".join(marks[note] for note in _of(row))
    return latex(row.method) + (rf"\textsuperscript{{{own}}}" if own else "")


def _title(text: str) -> str:
    lines = r"\\".join(latex(one) for one in textwrap.wrap(text, _TITLE_WIDTH))
    return rf"\shortstack{{{lines}}}" if "\\\\" in lines else lines
