"""``anomaly-u2net calibrate``: thresholds with a promise, from a run's images or any scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from anomaly_u2net.cli import show
from anomaly_u2net.cli.options import Json, MaybeBackend, MaybeRun, Memory, MovedTo
from anomaly_u2net.cli.thresholds import print_calibration, show_what_if
from anomaly_u2net.errors import InputError, LeakError

if TYPE_CHECKING:
    from anomaly_u2net.calibration import Calibration, ImageScores, Terms
    from anomaly_u2net.inference.segmenter import Segmenter
    from anomaly_u2net.types import ImageRecord

ImageRule = Annotated[
    str | None,
    typer.Option(
        help="Of image scores: false_reject, missed_defects, both, cost, best_f1, mean_sigma; given "
        "(with --threshold); cross_conformal (with --scores and a column fold).",
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
OwnThreshold = Annotated[
    float | None,
    typer.Option("--threshold", help="given: your own, on image scores; says what it does."),
]
AllowWeaker = Annotated[
    bool, typer.Option("--allow-weaker", help="Take what few images can promise.")
]
Scores = Annotated[
    Path | None,
    typer.Option(
        help="Instead of RUN: a CSV of any tool's scores, category,label,score[,group][,fold].",
        metavar="FILE.csv",
    ),
]
WhatIfTable = Annotated[
    bool, typer.Option("--what-if", help="Show what each rate would cost; write nothing.")
]
Out = Annotated[
    Path | None,
    typer.Option(
        help="The file to write; to be given with --scores.", show_default="RUN/calibration.json"
    ),
]
Split = Annotated[str, typer.Option(help="Only calibration: a test split is refused.")]

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
    "given": ("threshold", "delta"),
    "cross_conformal": ("false_reject", "allow_weaker"),
}


@dataclass(frozen=True, slots=True)
class Source:
    """Where the held-out scores come from: a run with its images, or a file of scores."""

    run: Path | None
    scores: Path | None
    moved_to: Path | None
    backend: str | None
    memory: str | None

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
            of_run = {name: getattr(self, name) for name in ("moved_to", "backend", "memory")}
            _refuse(
                {"pixel_rule": pixel_rule, **of_run},
                why="--scores brings image scores only, no images and no model",
            )

    def target(self, out: Path | None) -> Path:
        """The file to write; InputError for a file of scores, which has no place of its own."""
        if out is not None:
            return out
        if self.run is None:
            raise InputError(
                "--scores needs --out FILE.json, the file to write: a file of scores has no run "
                "folder to put calibration.json in"
            )
        return self.run / "calibration.json"

    def load(self) -> tuple[Segmenter, list[ImageRecord]]:
        """The run's model and its calibration images."""
        from anomaly_u2net.evaluation.runs import run_records
        from anomaly_u2net.inference.segmenter import Segmenter

        run = cast(Path, self.run)
        records = run_records(run, "calibration", data_root=self.moved_to)
        backend = cast(Any, self.backend or "auto")
        return Segmenter.load(run, backend=backend, calibrated=False), records


def calibrate(
    run: MaybeRun = None,
    rule: ImageRule = None,
    pixel_rule: PixelRule = None,
    false_reject: FalseReject = None,
    missed: Missed = None,
    delta: Delta = None,
    overkill: Overkill = None,
    escape: Escape = None,
    defect_rate: DefectRate = None,
    sigmas: Sigmas = None,
    threshold: OwnThreshold = None,
    allow_weaker: AllowWeaker = False,
    scores: Scores = None,
    what_if: WhatIfTable = False,
    out: Out = None,
    moved_to: MovedTo = None,
    split: Split = "calibration",
    backend: MaybeBackend = None,
    memory: Memory = None,
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
        "escape": escape, "defect_rate": defect_rate, "sigmas": sigmas, "threshold": threshold,
        "allow_weaker": allow_weaker or None,
    }  # fmt: skip
    source = Source(run, scores, moved_to, backend, memory)
    source.check(pixel_rule)
    if what_if:
        refused = given | {"rule": rule, "pixel_rule": pixel_rule, "out": out, "memory": memory}
        refused["delta"] = None
        _refuse(refused, why="--what-if shows many rates and writes nothing")
        show_what_if(_held_scores(source), delta=delta, as_json=as_json)
        return
    rule = rule or ("false_reject" if threshold is None else "given")
    terms = _terms(rule, pixel_rule, given, pixels=scores is None)
    path = source.target(out)
    result = _calibration(source, terms)
    result.save(path)
    if as_json:
        show.print_json(result.to_dict())
    else:
        print_calibration(result)
        print(f"written: {path}")


def _refuse(given: dict[str, Any], *, why: str) -> None:
    """Raise InputError for the first option that is given."""
    for name, value in given.items():
        if value is not None:
            raise InputError(f"{why}: leave {_flag(name)} out")


def _terms(rule: str, pixel_rule: str | None, given: dict[str, Any], *, pixels: bool) -> Terms:
    """What is asked of the library; InputError for options that belong to no chosen rule."""
    from anomaly_u2net.calibration import IMAGE_RULES, PIXEL_RULES, Costs, Terms
    from anomaly_u2net.calibration.terms import check_rule

    check_rule(rule, IMAGE_RULES, what="rule")
    taken, said = OPTIONS[rule], f"--rule {rule}"
    pixel_rule = pixel_rule or "false_reject"
    if pixels:
        check_rule(pixel_rule, PIXEL_RULES, what="pixel rule")
        taken, said = taken + OPTIONS[pixel_rule], f"{said} and --pixel-rule {pixel_rule}"
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
    return Terms(rule=rule, pixel_rule=pixel_rule, **chosen)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _calibration(source: Source, terms: Terms) -> Calibration:
    from anomaly_u2net.calibration import calibrate_scores, read_scores
    from anomaly_u2net.evaluation import calibrate as calibrate_run
    from anomaly_u2net.evaluation.memory import parse_bytes

    if source.scores is not None:
        return calibrate_scores(read_scores(source.scores), terms=terms)
    memory = None if source.memory is None else parse_bytes(source.memory)
    segmenter, records = source.load()
    with show.progress() as bar:
        task = bar.add_task("calibrating", total=len(records), note="")
        return calibrate_run(
            segmenter,
            records,
            terms=terms,
            memory=memory,
            on_image=lambda _: bar.advance(task),
        )


def _held_scores(source: Source) -> Mapping[str, ImageScores]:
    from anomaly_u2net.calibration import read_scores
    from anomaly_u2net.evaluation import held_out_scores

    if source.scores is not None:
        return read_scores(source.scores)
    segmenter, records = source.load()
    with show.progress() as bar:
        task = bar.add_task("scoring", total=len(records), note="")
        return held_out_scores(segmenter, records, on_image=lambda _: bar.advance(task))
