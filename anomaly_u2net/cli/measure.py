"""``anomaly-u2net evaluate``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anomaly_u2net.cli import numbers, show
from anomaly_u2net.cli.options import Backend, Json, Memory, MovedTo, Run
from anomaly_u2net.errors import InputError
from anomaly_u2net.files import sha256_json

if TYPE_CHECKING:
    from anomaly_u2net.types import ImageRecord

Intervals = Annotated[
    bool, typer.Option(" /--no-intervals", help="Leave the 95 % intervals out.", show_default=False)
]


def evaluate(
    run: Run,
    data_root: Annotated[
        Path | None, typer.Option(help="Other images (MVTec layout) that training never saw.")
    ] = None,
    category: Annotated[
        str | None, typer.Option(help="With --data-root: whose thresholds to use.")
    ] = None,
    split: Annotated[
        str, typer.Option(help="test, or calibration/validation to look at those.")
    ] = "test",
    moved_to: MovedTo = None,
    out: Annotated[
        Path | None, typer.Option(help="Where to write.", show_default="RUN/evaluation/<split>")
    ] = None,
    memory: Memory = None,
    intervals: Intervals = True,
    against: Annotated[
        Path | None, typer.Option(help="Another run: is RUN better on the same images?")
    ] = None,
    backend: Backend = "auto",
    as_json: Json = False,
) -> None:
    """Numbers per category and their mean, with 95 % intervals, at the original image size."""
    from anomaly_u2net.evaluation import evaluate as measure
    from anomaly_u2net.evaluation.memory import parse_bytes

    allowed = None if memory is None else parse_bytes(memory)
    place = _Place(split, data_root, category, moved_to)
    records = place.records(run)
    folder = run / "evaluation" / place.name if out is None else out
    if against is not None:
        if not intervals:
            raise InputError("--against is about intervals: leave --no-intervals out")
        _compare(
            run,
            against,
            place=place,
            records=records,
            memory=allowed,
            backend=backend,
            folder=folder,
            as_json=as_json,
        )
        return
    segmenter = _load(run, backend)
    with show.progress() as bar:
        task = bar.add_task("evaluating", total=len(records), note="")
        result = measure(
            segmenter,
            records,
            split=split,
            intervals=intervals,
            memory=allowed,
            on_image=lambda _: bar.advance(task),
        )
    if as_json:
        show.print_json(result.to_dict())
    else:
        numbers.print_evaluation(result, calibrated=segmenter.categories)
    result.save(folder)  # after printing: a full disk does not cost the numbers
    if not as_json:
        print(f"written: {folder / 'evaluation.json'}, {folder / 'evaluation.csv'}")


@dataclass(frozen=True)
class _Place:
    """Which images: of a split of the run itself, or of another folder."""

    split: str
    data_root: Path | None
    category: str | None
    moved_to: Path | None

    def __post_init__(self) -> None:
        if self.split not in ("test", "validation", "calibration"):
            raise InputError(f"--split {self.split!r}: expected test, validation or calibration")
        if self.data_root is None and self.category is not None:
            raise InputError("--category goes with --data-root")
        if self.data_root is not None and self.moved_to is not None:
            raise InputError("--data-root takes other images, --moved-to the run's own: give one")
        if self.data_root is not None and self.split != "test":
            raise InputError("--data-root takes the test images of that folder: leave --split out")

    @property
    def name(self) -> str:
        """Of the folder that the numbers are written to."""
        if self.data_root is None:
            return self.split
        place = self.data_root.resolve()
        return f"test-{place.name}-{sha256_json(str(place))[:6]}"

    def records(self, run: Path) -> list[ImageRecord]:
        """The images, checked against what ``run`` was trained on."""
        from anomaly_u2net.evaluation.runs import other_records, run_records

        if self.data_root is None:
            return run_records(run, self.split, data_root=self.moved_to)  # type: ignore[arg-type]
        return other_records(run, self.data_root, category=self.category)


def _compare(
    run: Path,
    against: Path,
    *,
    place: _Place,
    records: list[ImageRecord],
    memory: int | None,
    backend: str,
    folder: Path,
    as_json: bool,
) -> None:
    """Is ``run`` better than ``against`` on ``records``?"""
    from anomaly_u2net.evaluation.compare import compare, same_images

    same_images(records, place.records(against))
    a, b = _load(run, backend), _load(against, backend)
    with show.progress() as bar:
        task = bar.add_task("comparing", total=2 * len(records), note="")
        result = compare(
            a,
            b,
            records,
            split=place.split,
            memory=memory,
            on_image=lambda _: bar.advance(task),
        )
    if as_json:
        show.print_json(result.to_dict())
    else:
        numbers.print_comparison(result, names=(str(run), str(against)))
    result.save(folder)
    if not as_json:
        print(f"written: {folder / 'comparison.json'}")


def _load(run: Path, backend: str, *, calibrated: bool = True) -> Any:
    from anomaly_u2net.inference.segmenter import Segmenter

    return Segmenter.load(run, backend=backend, calibrated=calibrated)  # type: ignore[arg-type]
