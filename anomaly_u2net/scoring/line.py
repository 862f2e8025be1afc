"""Batch scoring of an inspection line: one row for every image, whatever happens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from anomaly_u2net.data.images import read_image
from anomaly_u2net.errors import AnomalyU2NetError, CalibrationError, ImageError, InputError
from anomaly_u2net.files import sha256_file
from anomaly_u2net.scoring.inputs import ScoreInput, inside, resolve
from anomaly_u2net.scoring.ledger import Ledger
from anomaly_u2net.scoring.row import ScoreRow, verdict_columns
from anomaly_u2net.types import Image, ScoreMap, Verdict

if TYPE_CHECKING:
    from anomaly_u2net.inference.segmenter import Segmenter

Overlay: TypeAlias = Callable[[ScoreInput, Image, ScoreMap, Verdict], None]

_MAX_ERROR = 1000


class Scored(NamedTuple):
    """A row, and whether it was made now (``fresh``) or by an earlier run."""

    row: ScoreRow
    fresh: bool


@dataclass(frozen=True, slots=True)
class LineSummary:
    """How many rows have each verdict."""

    ok: int
    ng: int
    review: int
    error: int
    total: int


def score_line(
    segmenter: Segmenter,
    inputs: Sequence[ScoreInput],
    out: str | Path,
    *,
    overlay: Overlay | None = None,
) -> Generator[Scored, None, None]:
    """Score ``inputs`` in order; yield each row once it is in the journal of folder ``out``.

    A row that an earlier run made of the same path, bytes, model, recipe, calibration and
    category is yielded again without scoring; an ERROR row is tried again. Any ``Exception`` of
    one image becomes its ERROR row and the next image follows; ``KeyboardInterrupt`` and other
    non-``Exception`` pass. ``rows.csv`` and ``rows.parquet`` are written at the end, also after an
    interruption, an error, or when the caller stops (``close`` the iterator to make that
    immediate): one row a path, ``inputs`` first.

    A file is hashed before it is decoded and again after; when that differs the row is an ERROR.
    ``overlay(input, image, score_map, verdict)`` is called before the row is written; when it
    raises the row is an ERROR.

    Nothing happens before the first row is asked for. Raises ``InputError`` before anything is
    scored: ``out`` cannot be written or has a damaged journal, a path comes twice, an input lies
    in ``out``; and later when the disk is full. Raises ``BusyError`` when another process holds
    ``out``.

    >>> import tempfile
    >>> from types import SimpleNamespace
    >>> fake = SimpleNamespace(
    ...     categories=("brick",), model_hash="m", recipe_hash="r", calibration_hash="c"
    ... )
    >>> inputs = [ScoreInput(Path("missing.png"), "brick")]
    >>> [(row.verdict, fresh) for row, fresh in score_line(fake, inputs, tempfile.mkdtemp())]
    [('ERROR', True)]
    """
    paths = _checked(inputs, Path(out))
    with Ledger(out) as ledger:
        try:
            for item in inputs:
                made_from = _made_from(segmenter, item)
                row = _earlier(ledger, made_from)
                fresh = row is None
                if row is None:
                    row = _score(segmenter, item, made_from, overlay)
                    ledger.append(row)
                yield Scored(row, fresh)
        finally:
            ledger.write_tables(paths)


def summarise(rows: Iterable[ScoreRow]) -> LineSummary:
    """Count the verdicts of rows.

    >>> summarise([])
    LineSummary(ok=0, ng=0, review=0, error=0, total=0)
    """
    count = Counter(row.verdict for row in rows)
    return LineSummary(count["OK"], count["NG"], count["REVIEW"], count["ERROR"], count.total())


def exit_code(summary: LineSummary) -> int:
    """0: every row is OK; 1: some are NG or REVIEW; 2: some are ERROR, whatever the others.

    >>> exit_code(LineSummary(ok=8, ng=1, review=0, error=1, total=10))
    2
    """
    if summary.error:
        return 2
    return 1 if summary.ng or summary.review else 0


def _checked(inputs: Sequence[ScoreInput], out: Path) -> list[str]:
    """The paths of ``inputs``; ``InputError`` when one comes twice or lies in ``out``."""
    folder = resolve(out)
    twice = [path for path, count in Counter(item.path for item in inputs).items() if count > 1]
    if twice:
        raise InputError(
            f"{twice[0]} comes {sum(item.path == twice[0] for item in inputs)} times: expected "
            "each path once; make the inputs with collect_inputs"
        )
    for item in inputs:
        if inside(item.path, folder):
            raise InputError(
                f"{item.path} lies in the output folder {folder}: expected images outside it; "
                "choose another output folder, or give it to collect_inputs as out"
            )
    return [str(item.path) for item in inputs]


def _made_from(segmenter: Segmenter, item: ScoreInput) -> dict[str, str | None]:
    """The columns that identify a row: while they are the same it need not be made again."""
    return {
        "path": str(item.path),
        "source_sha256": _digest(item.path),
        "category": item.category,
        "model_hash": segmenter.model_hash,
        "recipe_hash": segmenter.recipe_hash,
        "calibration_hash": segmenter.calibration_hash,
    }


def _earlier(ledger: Ledger, made_from: dict[str, str | None]) -> ScoreRow | None:
    """The path's row when it was made from the same and is no ERROR."""
    row = ledger.rows.get(str(made_from["path"]))
    if row is None or row.verdict == "ERROR":
        return None
    same = all(getattr(row, column) == value for column, value in made_from.items())
    return row if same else None


def _score(
    segmenter: Segmenter,
    item: ScoreInput,
    made_from: dict[str, Any],
    overlay: Overlay | None,
) -> ScoreRow:
    times: dict[str, Any] = {}
    try:
        with _timed(times, "decode_ms"):
            image = read_image(item.path)
        if _digest(item.path) != made_from["source_sha256"]:
            raise ImageError(
                f"{item.path}: expected a finished file, it changed while it was read; "
                "run again when it is written"
            )
        if item.category is None:
            raise CalibrationError(_which_category(segmenter.categories))
        with _timed(times, "model_ms"):
            score_map = segmenter.predict(image)
        with _timed(times, "post_ms"):
            verdict = segmenter.judge(score_map, category=item.category)
        if overlay is not None:
            overlay(item, image, score_map, verdict)
        return ScoreRow(**made_from, **times, **verdict_columns(verdict))
    # One image must not end the run, whatever is wrong with it.
    except Exception as error:
        return ScoreRow(**made_from, **times, verdict="ERROR", error=_describe(error))


def _digest(path: Path) -> str | None:
    """The SHA-256 of a regular file that can be read; why it cannot is for ``read_image``."""
    try:
        return sha256_file(path) if path.is_file() else None
    except OSError:
        return None


@contextmanager
def _timed(times: dict[str, float], column: str) -> Iterator[None]:
    """Note the milliseconds of the block, unless it raises."""
    start = perf_counter()
    yield
    times[column] = 1000 * (perf_counter() - start)


def _which_category(known: Sequence[str]) -> str:
    if not known:
        return "no category: the model is calibrated for none; calibrate it first"
    return (
        f"no category: expected one of {', '.join(known)}; give the category, add a column "
        "'category' to the manifest, or put the image below a folder of that name"
    )


def _describe(error: Exception) -> str:
    """One line; errors that are not this package's own are named by their type."""
    kind, text = type(error).__name__, " ".join(str(error).split())
    if not isinstance(error, AnomalyU2NetError) or not text:
        text = f"{kind}: {text}" if text else kind
    return text if len(text) <= _MAX_ERROR else text[: _MAX_ERROR - 1] + "…"
