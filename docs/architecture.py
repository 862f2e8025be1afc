"""The tables of docs/reference/architecture.md, counted on the networks and written into the page.

usage: python docs/architecture.py

A table lies between ``<!-- NAME -->`` and ``<!-- end of NAME -->``; tests/test_architecture_page.py
counts again and compares. The diagram is made by docs/figures.py.
"""

from __future__ import annotations

import re
from pathlib import Path

from anomaly_u2net.models import U2Net, u2net, u2netp
from anomaly_u2net.models.cost import Cost, measure_cost, stage_costs

PAGE = Path(__file__).parent / "reference" / "architecture.md"
NETWORKS = {"u2net": u2net, "u2netp": u2netp}
HEAD = (
    "stage", "block", "channels: in, mid, out", "map at 320²", "parameters", "GMAC",
    "activations, MB", "receptive field, pixels",
)  # fmt: skip


def main() -> None:
    for name, make in NETWORKS.items():
        write_table(PAGE, name, table=stage_table(make()))


def stage_table(model: U2Net) -> str:
    """A line per stage, then the outputs and the whole."""
    stages, whole = stage_costs(model), measure_cost(model)
    rows = [
        [
            stage.name,
            stage.block,
            f"{stage.channels_in}, {stage.channels_mid or '–'}, {stage.channels_out}",
            f"{stage.height} × {stage.width}",
            *numbers(stage),
            f"{stage.receptive_field:,}",
        ]
        for stage in stages
    ]
    rows.append(["whole", "", "", "", *numbers(whole), rows[-1][-1]])
    return markdown(HEAD, rows, right=4)


def numbers(cost: Cost) -> list[str]:
    """Parameters, GMAC and megabytes, as the tables write them."""
    return [f"{cost.parameters:,}", f"{cost.gmac:.2f}", f"{cost.activation_bytes / 1e6:.1f}"]


def markdown(head: tuple[str, ...], rows: list[list[str]], *, right: int) -> str:
    """A table whose last ``right`` columns are set to the right."""
    rules = ["---"] * (len(head) - right) + ["---:"] * right
    lines = [list(head), rules, *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def write_table(page: Path, name: str, *, table: str) -> None:
    """Put ``table`` between the page's two marks of this name."""
    text = page.read_text(encoding="utf-8")
    begin, end = _marks(name)
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    assert len(pattern.findall(text)) == 1, f"{page}: expected the marks {begin} and {end} once"
    page.write_text(pattern.sub(lambda _: f"{begin}\n\n{table}\n\n{end}", text), encoding="utf-8")


def read_table(page: Path, name: str) -> str:
    """What `write_table` wrote."""
    begin, end = _marks(name)
    return page.read_text(encoding="utf-8").split(begin)[1].split(end)[0].strip()


def _marks(name: str) -> tuple[str, str]:
    return f"<!-- {name} -->", f"<!-- end of {name} -->"


if __name__ == "__main__":
    main()
