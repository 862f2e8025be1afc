"""``anomaly-u2net calibrate``: thresholds with a promise, from a run's images or any scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from anomaly_u2net.cli import show
from anomaly_u2net.errors import CalibrationError, InputError, LeakError

if TYPE_CHECKING:
    from anomaly_u2net.calibration import Calibration, ImageScores, WhatIf
    from anomaly_u2net.inference.segmenter import Segmenter
    from anomaly_u2net.types import ImageRecord

Run = Annotated[Path | None, typer.Argument(help="The folder of a training run.")]
ImageRule = Annotated[
    str | None,
    typer.Option(
        help="Of image scores: false_reject, missed_defects, both, cost, best_f1, mean_sigma.",
        show_default="false_reject",
    ),
]
PixelRule = Annotated[
    str | None,
    typer.Option(
        help="Of pixels: false_reject (share of good images with any pixel marked), "
        "pixel_false_share, missed_defects, any_missed, best_f1, mean_sigma.",
        show_default="false_reject",
    ),
]
FalseReject = Annotated[
    float | None,
    typer.Option(help="α: at most this share of good parts may be called NG.", show_default="0.05"),
]
Missed = Annotated[
    float | None,
    typer.Option(help="β: at most this share of defects may be missed.", show_default="0.05"),
]
Delta = Annotated[
    float | None,
    typer.Option(help="δ: the promise holds with confidence 1 − δ, not only on average."),
]
Overkill = Annotated[float | None, typer.Option(help="cost: of one good part called NG.")]
Escape = Annotated[float | None, typer.Option(help="cost: of one defective part called OK.")]
DefectRate = Annotated[
    float | None, typer.Option(help="cost: the share of the line's parts that are defective.")
]
Sigmas = Annotated[float | None, typer.Option(help="mean_sigma: how many.", show_default="3")]
AllowWeaker = Annotated[
    bool, typer.Option("--allow-weaker", help="Take what few images can promise.")
]
Scores = Annotated[
    Path | None,
    typer.Option(
        help="Instead of RUN: a CSV of any tool's scores, category,label,score[,group].",
        metavar="FILE.csv",
    ),
]
WhatIfTable = Annotated[
    bool, typer.Option("--what-if", help="Show what each rate would cost; write nothing.")
]
Out = Annotated[
    Path | None,
    typer.Option(help="The file to write.", show_default="RUN/calibration.json"),
]
MovedTo = Annotated[
    Path | None, typer.Option(help="Where the run's own data lie now, if they moved.")
]
Split = Annotated[str, typer.Option(help="Only calibration: a test split is refused.")]
Backend = Annotated[str | None, typer.Option(help="auto, onnx or torch.", show_default="auto")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

_RATE = ("delta", "allow_weaker")
#: The options that belong to each rule, for images or pixels.
OPTIONS = {
    "false_reject": ("false_reject", *_RATE),
    "pixel_false_share": ("false_reject", "allow_weaker"),
    "missed_defects": ("missed", *_RATE),
    "any_missed": ("missed", *_RATE),
    "both": ("false_reject", "missed", *_RATE),
    "cost": ("overkill", "escape", "defect_rate"),
    "best_f1": (),
    "mean_sigma": ("sigmas",),
}

#: An image threshold this close to the highest possible score lets everything pass.
SATURATED = 0.9999


@dataclass(frozen=True, slots=True)
class Source:
    """Where the held-out scores come from: a run with its images, or a file of scores."""

    run: Path | None
    scores: Path | None
    moved_to: Path | None
    backend: str | None

    def check(self, pixel_rule: str | None) -> None:
        """Raise InputError unless there is one source, with options that belong to it."""
        if self.run is None and self.scores is None:
            raise InputError(
                "nothing to calibrate: name RUN, the folder of a training run, or give --scores "
                "FILE.csv with the scores of any tool"
            )
        if self.run is not None and self.scores is not None:
            raise InputError(f"RUN ({self.run}) and --scores were both given: give one")
        if self.scores is not None:
            of_run = {"pixel_rule": pixel_rule, "moved_to": self.moved_to, "backend": self.backend}
            _refuse(of_run, why="--scores brings image scores only, no images and no model")

    def load(self) -> tuple[Segmenter, list[ImageRecord]]:
        """The run's model and its calibration images."""
        from anomaly_u2net.evaluation.runs import run_records
        from anomaly_u2net.inference.segmenter import Segmenter

        run = cast(Path, self.run)
        records = run_records(run, "calibration", data_root=self.moved_to)
        backend = cast(Any, self.backend or "auto")
        return Segmenter.load(run, backend=backend, calibrated=False), records


def calibrate(
    run: Run = None,
    rule: ImageRule = None,
    pixel_rule: PixelRule = None,
    false_reject: FalseReject = None,
    missed: Missed = None,
    delta: Delta = None,
    overkill: Overkill = None,
    escape: Escape = None,
    defect_rate: DefectRate = None,
    sigmas: Sigmas = None,
    allow_weaker: AllowWeaker = False,
    scores: Scores = None,
    what_if: WhatIfTable = False,
    out: Out = None,
    moved_to: MovedTo = None,
    split: Split = "calibration",
    backend: Backend = None,
    as_json: Json = False,
) -> None:
    """Thresholds per category from held-out images, with what they promise."""
    if split != "calibration":
        raise LeakError(
            f"--split {split}: thresholds come from held-out calibration images only; "
            "a threshold chosen on test images makes the test meaningless"
        )
    given = {
        "false_reject": false_reject, "missed": missed, "delta": delta, "overkill": overkill,
        "escape": escape, "defect_rate": defect_rate, "sigmas": sigmas,
        "allow_weaker": allow_weaker or None,
    }  # fmt: skip
    source = Source(run, scores, moved_to, backend)
    source.check(pixel_rule)
    if what_if:
        refused = given | {"rule": rule, "pixel_rule": pixel_rule, "out": out, "delta": None}
        _refuse(refused, why="--what-if shows many rates and writes nothing")
        show_what_if(_held_scores(source), delta=delta, as_json=as_json)
        return
    asked = _asked(rule or "false_reject", pixel_rule, given, pixels=scores is None)
    result = _calibration(source, asked)
    path = out or (run or Path()) / "calibration.json"
    result.save(path)
    if as_json:
        show.print_json(result.to_dict())
    else:
        print_calibration(result)
        print(f"written: {path}")


def print_calibration(result: Calibration) -> None:
    """Thresholds on screen, each with its promise."""
    rows: list[list[str]] = []
    for name, thresholds in result.categories.items():
        count, image, pixel = result.images[name], thresholds.image, thresholds.pixel
        rows.append(
            [
                name,
                str(count["good"]),
                str(count["defective"]),
                image.rule,
                _score(image.value),
                _score(thresholds.review.value if thresholds.review else None),
                show.number(image.attained),
                show.number(image.false_reject_upper),
                pixel.rule if pixel else "n/a",
                _score(pixel.value if pixel else None),
            ]
        )
    headers = ["category", "good", "defective", "rule", "NG above", "REVIEW above", "promised"]
    columns = [*headers, "false reject ≤\n(95 % sure)", "pixel rule", "pixel threshold"]
    show.print_table("calibration", columns, rows)
    for name, thresholds in result.categories.items():
        print(f"{name}: image: {thresholds.image.promise}")
        if thresholds.review:
            print(f"{name}: review: {thresholds.review.promise}")
        if thresholds.pixel:
            print(f"{name}: pixel: {thresholds.pixel.promise}")
        if result.image_score != "given" and thresholds.image.value >= SATURATED:
            print(
                f"{name}: warning: a good image scores {thresholds.image.value:.6f}, so nearly "
                "nothing can be NG: look at the held-out good images, or train longer"
            )


def show_what_if(held: Mapping[str, ImageScores], *, delta: float | None, as_json: bool) -> None:
    """A table per category: what each false-reject rate needs, and what it would cost.

    A category without good images has a note instead; CalibrationError where no category has any.
    """
    from anomaly_u2net.calibration import what_if

    tables, without = {}, {}
    for name, one in held.items():
        try:
            tables[name] = what_if(
                one.good,
                one.defective,
                delta=delta,
                good_groups=one.good_groups,
                defect_groups=one.defect_groups,
            )
        except CalibrationError as error:
            without[name] = str(error)
    if not tables:
        raise CalibrationError("; ".join(f"{name}: {text}" for name, text in without.items()))
    if as_json:
        categories = {name: [asdict(row) for row in rows] for name, rows in tables.items()}
        show.print_json({"delta": delta, "categories": categories, "without": without})
        return
    columns = ["false reject ≤", "needs", "attainable", "NG above"]
    columns += ["overkill\nexpected", "95 %", "escape\nof held out", "95 %"]
    for name, rows in tables.items():
        one = held[name]
        counted = f"{one.good.size} good, {one.defective.size} defective images held out"
        show.print_table(f"{name}: {counted}", columns, [_what_if_row(row) for row in rows])
    for name, text in without.items():
        print(f"{name}: no table: {text}")
    how = "on average" if delta is None else f"with confidence {1 - delta:g}"
    print(
        f"promised {how}; images with a group count once a group. A row chosen for its escape "
        "looks better than it is: choose the rate first"
    )


def _what_if_row(row: WhatIf) -> list[str]:
    return [
        f"{row.alpha:g}",
        str(row.needed),
        "yes" if row.attainable else "no",
        _score(row.threshold),
        show.number(row.overkill),
        _span(row.overkill_interval),
        show.number(row.escape),
        _span(row.escape_interval),
    ]


def _score(value: float | None) -> str:
    """Scores of other tools may have any scale."""
    return "n/a" if value is None else f"{value:.6g}"


def _span(interval: tuple[float, float] | None) -> str:
    return "n/a" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"


def _refuse(given: dict[str, Any], *, why: str) -> None:
    """Raise InputError for the first option that is given."""
    for name, value in given.items():
        if value is not None:
            raise InputError(f"{why}: leave {_flag(name)} out")


def _asked(
    rule: str, pixel_rule: str | None, given: dict[str, Any], *, pixels: bool
) -> dict[str, Any]:
    """The arguments for the library; InputError for options that belong to no chosen rule."""
    from anomaly_u2net.calibration import IMAGE_RULES, PIXEL_RULES, Costs
    from anomaly_u2net.calibration.category import check_rule

    check_rule(rule, IMAGE_RULES, what="rule")
    taken, said = OPTIONS[rule], f"--rule {rule}"
    asked: dict[str, Any] = {"rule": rule}
    if pixels:
        pixel_rule = pixel_rule or "false_reject"
        check_rule(pixel_rule, PIXEL_RULES, what="pixel rule")
        taken, said = taken + OPTIONS[pixel_rule], f"{said} and --pixel-rule {pixel_rule}"
        asked["pixel_rule"] = pixel_rule
    flags = ", ".join(_flag(name) for name in dict.fromkeys(taken)) or "none"
    chosen = {name: value for name, value in given.items() if value is not None}
    foreign = {name: value for name, value in chosen.items() if name not in taken}
    _refuse(foreign, why=f"the options of {said} are {flags}")
    if rule == "cost":
        lacking = [_flag(name) for name in OPTIONS["cost"] if name not in chosen]
        if lacking:
            raise InputError(
                f"--rule cost needs {', '.join(lacking)} too: what one good part called NG "
                "(--overkill) and one defective part called OK (--escape) cost, in one currency, "
                "and the share of the line's parts that are defective (--defect-rate)"
            )
        chosen["costs"] = Costs(**{name: chosen.pop(name) for name in OPTIONS["cost"]})
    return asked | chosen


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _calibration(source: Source, asked: dict[str, Any]) -> Calibration:
    from anomaly_u2net.calibration import calibrate_scores, read_scores
    from anomaly_u2net.evaluation import calibrate as calibrate_run

    if source.scores is not None:
        return calibrate_scores(read_scores(source.scores), **asked)
    segmenter, records = source.load()
    with show.progress() as bar:
        task = bar.add_task("calibrating", total=len(records), note="")
        return calibrate_run(segmenter, records, on_image=lambda _: bar.advance(task), **asked)


def _held_scores(source: Source) -> Mapping[str, ImageScores]:
    from anomaly_u2net.calibration import read_scores
    from anomaly_u2net.evaluation import held_out_scores

    if source.scores is not None:
        return read_scores(source.scores)
    segmenter, records = source.load()
    with show.progress() as bar:
        task = bar.add_task("scoring", total=len(records), note="")
        return held_out_scores(segmenter, records, on_image=lambda _: bar.advance(task))
