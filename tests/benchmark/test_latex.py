"""The LaTeX of a benchmark's table, read back line by line."""

from __future__ import annotations

import re
from dataclasses import replace

from anomaly_u2net.benchmark.latex import BESIDE, QUALITY, latex, to_latex
from anomaly_u2net.benchmark.means import Mean
from anomaly_u2net.benchmark.report import NUMBERS, BenchmarkTable, Row
from anomaly_u2net.benchmark.rows import RowSplits

COSTS = {"minutes": 1.5, "steps": 10.0, "milliseconds": 6.0, "gib": 2.25, "gpu_gib": None}
LOST = "not run yet: 1 of 4 cells"
ROWS = (
    Row(
        "given", "ours_1 & co", peer=False, start="u2netp.onnx", seeds=(0, 1), costs=COSTS,
        numbers=dict.fromkeys(NUMBERS) | {"pixel_ap": Mean(0.75, 0.177, 0.706, 0.794)},
        small={"pixel_ap": Mean(0.375, 0.088), "aupro_0.30": None, "pixel_auroc": Mean(0.99)},
        differences={"pixel_ap": Mean(0.1875, 0.088, 0.1875, 0.1875)}, notes=(LOST,),
    ),
    Row("given", "A", peer=True, notes=("failed: RuntimeError: a | b\nin {x}_y --out", LOST)),
    Row("given", "B", peer=True, notes=("n/a: needs weights",)),
    Row("given", "ours_1 & co", peer=True, numbers={"pixel_ap": Mean(0.75)}, published="table 1"),
    Row("full", "ours_1 & co", peer=False),
)  # fmt: skip
HASHES = {"given": {0: "0123456789ab" + "f" * 52, 1: "ba9876543210" + "f" * 52}, "full": {}}
BEST = {"given": {"pixel_ap": "B"}, "full": {}}
TABLE = BenchmarkTable("mine_2", "d", ROWS, BEST, HASHES, (), dict.fromkeys(HASHES, RowSplits(())))


def tabulars(text: str) -> list[list[list[str]]]:
    """The cells of each tabular, by rows, its titles first."""
    found = re.findall(r"\\begin\{tabular\}\{l(r+)\}\n(.*?)\\end\{tabular\}", text, re.DOTALL)
    made = []
    for columns, body in found:
        rows = [one[:-3] for one in body.splitlines() if one.endswith(r" \\")]
        made.append([re.split(r"(?<!\\)&", row) for row in rows])
        assert {len(row) for row in made[-1]} == {1 + len(columns)}
    return [[[cell.strip() for cell in row] for row in rows] for rows in made]


def test_one_complete_table_a_protocol() -> None:
    text = to_latex(TABLE)
    given, full = text.split("\n\n")
    for one in (given, full):
        assert one.startswith("\\begin{table*}\n")
        assert one.rstrip().endswith("\n\\end{table*}")
        plain = re.sub(r"\\[{}]", "", one)
        assert plain.count("{") == plain.count("}")
        assert len(re.findall(r"\\begin\{tabular\}", one)) == 2
        (caption,) = re.findall(r"^\\caption\[.*?\]\{(.*)\}$", one, re.MULTILINE)
        assert "GiB: the largest process" in caption
        assert r"the 95 \% interval" in caption
    assert (
        r"\caption[mine\_2, protocol given]{mine\_2. Protocol given: splits seed 0: 0123456789ab, "
        "seed 1: ba9876543210, best peer B (pixel AP). Test images" in given
    )
    assert (
        r"\caption[mine\_2, protocol full]{mine\_2. Protocol full: splits n/a. Test images" in full
    )
    assert text.isascii()
    assert not re.search(r"(?<!\\)%", text)  # nothing is a comment that nobody prints


def test_numbers_costs_and_notes() -> None:
    given = to_latex(TABLE).partition("\n\n")[0]
    quality, beside = tabulars(given)
    assert len(quality[0]) == 1 + len(QUALITY)
    assert quality[0][:3] == ["method", r"\shortstack{image\\AUROC}", "pixel AP"]
    ours, published = r"ours\_1 \& co\textsuperscript{1}", r"ours\_1 \& co\textsuperscript{4}"
    numbers = ["n/a", r"0.750 $\pm$ 0.177", "n/a", "n/a", "n/a", r"+0.188 $\pm$ 0.088", "n/a"]
    assert quality[1] == [ours, *numbers]
    small = r"\scriptsize (0.706, 0.794)", r"\scriptsize (+0.188, +0.188)"
    assert quality[2] == ["", "", small[0], "", "", "", small[1], ""]
    assert quality[3] == [r"A\textsuperscript{2,1}", *["n/a"] * 7]
    assert quality[4] == [r"B\textsuperscript{3}", *["n/a"] * 7]
    assert quality[5] == [published, "", "0.750", "", "", "", "", ""]

    titles = [
        r"\shortstack{pixel AP\\at 256\textsuperscript{2}}",
        r"\shortstack{training\\minutes}",
    ]
    assert [beside[0][3], beside[0][6]] == titles
    assert len(beside[0]) == 1 + len(BESIDE) == 11
    costs = ["1.5", "10", "6", "2.2", "n/a"]
    assert beside[1] == [ours, "u2netp.onnx", "2", r"0.375 $\pm$ 0.088", "n/a", "0.990", *costs]
    assert beside[2] == [r"A\textsuperscript{2,1}", "n/a", "0", *["n/a"] * 8]
    assert [row[0] for row in beside] == ["method", ours, quality[3][0], quality[4][0]]

    below = given[given.rindex(r"\end{tabular}") :].splitlines()[1:-1]
    notes = [
        "not run yet: 1 of 4 cells",
        r"failed: RuntimeError: a \textbar{} b in \{x\}\_y -{}-out",
        "n/a: needs weights",
        "not run here: table 1",
    ]
    assert below == [
        rf"\par {{\footnotesize \textsuperscript{{{place + 1}}}{note}}}"
        for place, note in enumerate(notes)
    ]


def test_a_row_that_begins_like_an_argument() -> None:
    """After the end of a row LaTeX would take a star or a bracket as its option."""
    table = replace(TABLE, rows=(Row("given", "*", peer=False), Row("given", "[a]", peer=False)))
    quality, _ = tabulars(to_latex(table).partition("\n\n")[0])
    assert [row[0] for row in quality[1:]] == ["{*}", "{[}a{]}"]


def test_signs() -> None:
    assert latex("50 % {x} #1 ~^\\ $") == (
        r"50 \% \{x\} \#1 \textasciitilde{}\textasciicircum{}\textbackslash{} \$"
    )
    assert latex('<`a`> "b"\n\n…') == (
        r"\textless{}\textasciigrave{}a\textasciigrave{}\textgreater{} ''b'' \dots{}"
    )
