"""Batch scoring of an inspection line: a folder of images in, one trustworthy row an image out.

    inputs = collect_inputs(["images"], known_categories=segmenter.categories, out="results")
    for row, fresh in score_line(segmenter, inputs, "results"):
        print(row.path, row.verdict)

The rows lie in ``results/ledger.jsonl`` (the journal), ``rows.csv`` and ``rows.parquet``.
"""

from anomaly_u2net.scoring.inputs import ScoreInput, collect_inputs
from anomaly_u2net.scoring.ledger import Ledger
from anomaly_u2net.scoring.line import LineSummary, Scored, exit_code, score_line, summarise
from anomaly_u2net.scoring.row import COLUMNS, ScoreRow
from anomaly_u2net.scoring.tables import parquet_schema, write_csv, write_parquet

__all__ = [
    "COLUMNS",
    "Ledger",
    "LineSummary",
    "ScoreInput",
    "ScoreRow",
    "Scored",
    "collect_inputs",
    "exit_code",
    "parquet_schema",
    "score_line",
    "summarise",
    "write_csv",
    "write_parquet",
]
