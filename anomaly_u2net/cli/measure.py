"""``anomaly-u2net evaluate`` and ``calibrate``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anomaly_u2net.cli import show
from anomaly_u2net.errors import InputError, LeakError
from anomaly_u2net.files import sha256_json

if TYPE_CHECKING:
    from anomaly_u2net.calibration import Calibration
    from anomaly_u2net.evaluation import Evaluation

Run = Annotated[Path, typer.Argument(help="The folder of a training run.")]
Backend = Annotated[str, typer.Option(help="auto, onnx or torch.")]
MovedTo = Annotated[
    Path | None, typer.Option(help="Where the run's own data lie now, if they moved.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

#: The short names of the table on screen; the files carry the full ones.
COLUMNS = {
    "image_auroc": "image\nAUROC",
    "image_ap": "image\nAP",
    "pixel_auroc": "pixel\nAUROC",
    "pixel_ap": "pixel\nAP",
    "aupro_0.30": "AUPRO\n@0.30",
    "aupro_0.05": "AUPRO\n@0.05",
    "pixel_f1_max": "F1\nbest",
    "pixel_f1": "F1 at\nthreshold",
    "pixel_iou": "IoU at\nthreshold",
    "pixel_iou_best_f1": "IoU at\nF1 threshold",
    "false_reject": "false\nreject",
    "missed": "missed",
}

#: An image threshold this close to the highest possible score lets everything pass.
SATURATED = 0.9999


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
    backend: Backend = "auto",
    as_json: Json = False,
) -> None:
    """Exact numbers per category and their mean, over all test images at their original size."""
    from anomaly_u2net.evaluation import evaluate as measure
    from anomaly_u2net.evaluation.runs import other_records, run_records

    if split not in ("test", "validation", "calibration"):
        raise InputError(f"--split {split!r}: expected test, validation or calibration")
    if data_root is None:
        if category is not None:
            raise InputError("--category goes with --data-root")
        records = run_records(run, split, data_root=moved_to)  # type: ignore[arg-type]
        name = split
    elif moved_to is not None:
        raise InputError("--data-root takes other images, --moved-to the run's own: give one")
    elif split != "test":
        raise InputError("--data-root takes the test images of that folder: leave --split out")
    else:
        records = other_records(run, data_root, category=category)
        place = data_root.resolve()
        name = f"test-{place.name}-{sha256_json(str(place))[:6]}"
    segmenter = _load(run, backend)
    with show.progress() as bar:
        task = bar.add_task("evaluating", total=len(records), note="")
        result = measure(segmenter, bar.track(records, task_id=task), split=split)
    folder = run / "evaluation" / name if out is None else out
    if as_json:
        show.print_json(result.to_dict())
    else:
        print_evaluation(result, calibrated=segmenter.categories)
    result.save(folder)  # after printing: a full disk does not cost the numbers
    if not as_json:
        print(f"written: {folder / 'evaluation.json'}, {folder / 'evaluation.csv'}")


def calibrate(
    run: Run,
    false_reject: Annotated[
        float, typer.Option(help="At most this share of good parts may be called NG.")
    ] = 0.05,
    pixel_rule: Annotated[
        str, typer.Option(help="false_reject, or best_f1 (no guarantee) for the pixel threshold.")
    ] = "false_reject",
    allow_weaker: Annotated[
        bool, typer.Option("--allow-weaker", help="Take what few images can promise.")
    ] = False,
    moved_to: MovedTo = None,
    split: Annotated[str, typer.Option(help="Only calibration: a test split is refused.")] = (
        "calibration"
    ),
    backend: Backend = "auto",
    as_json: Json = False,
) -> None:
    """Thresholds per category from held-out images, with what they promise."""
    from anomaly_u2net.evaluation import calibrate as measure
    from anomaly_u2net.evaluation.runs import run_records
    from anomaly_u2net.inference.segmenter import CALIBRATION_NAME

    if split != "calibration":
        raise LeakError(
            f"--split {split}: thresholds come from held-out calibration images only; "
            "a threshold chosen on test images makes the test meaningless"
        )
    records = run_records(run, "calibration", data_root=moved_to)
    segmenter = _load(run, backend, calibrated=False)
    with show.progress() as bar:
        task = bar.add_task("calibrating", total=len(records), note="")
        result = measure(
            segmenter,
            bar.track(records, task_id=task),
            false_reject=false_reject,
            allow_weaker=allow_weaker,
            pixel_rule=pixel_rule,
        )
    result.save(run / CALIBRATION_NAME)
    if as_json:
        show.print_json(result.to_dict())
    else:
        print_calibration(result)
        print(f"written: {run / CALIBRATION_NAME}")


def print_evaluation(result: Evaluation, *, calibrated: Sequence[str]) -> None:
    """The table on screen: categories, their mean, and the defect types below."""
    rows = [
        [row.category, str(row.good), str(row.defective)]
        + [show.number(row.metrics[name]) for name in COLUMNS]
        for row in result.categories
    ]
    if len(rows) > 1:
        rows.append(["mean", "", "", *(show.number(result.mean[name]) for name in COLUMNS)])
    headers = ["category", "good", "defective", *COLUMNS.values()]
    show.print_table(f"{result.split} images, original size", headers, rows)
    labels = [
        [
            f"{row.category}/{label}",
            f"{n['images']:.0f}",
            show.number(n["found"]),
            show.number(n["iou"]),
        ]
        for row in result.categories
        for label, n in row.labels.items()
    ]
    if labels:
        show.print_table("by defect", ["defect", "images", "called NG", "IoU"], labels)
    if unknown := [row.category for row in result.categories if row.category not in calibrated]:
        known = ", ".join(calibrated) or "nothing: there is no calibration.json"
        print(
            f"no thresholds for {', '.join(unknown)} (calibrated: {known}): columns that need one "
            "are n/a; --category says whose to use for other data"
        )


def print_calibration(result: Calibration) -> None:
    """Thresholds on screen, each with its promise."""
    rows: list[list[Any]] = []
    for name, thresholds in result.categories.items():
        count = result.images[name]
        rows.append(
            [
                name,
                str(count["good"]),
                str(count["defective"]),
                show.number(thresholds.image.value, 6),
                show.number(thresholds.review.value if thresholds.review else None, 6),
                show.number(thresholds.pixel.value if thresholds.pixel else None, 6),
                thresholds.pixel.rule if thresholds.pixel else "",
                show.number(thresholds.image.attained),
                show.number(thresholds.image.false_reject_upper),
            ]
        )
    headers = ["category", "good", "defective", "NG above", "review above", "pixel threshold"]
    columns = [*headers, "pixel rule", "promised", "false reject ≤\n(95 % sure)"]
    show.print_table("calibration", columns, rows)
    for name, thresholds in result.categories.items():
        print(f"{name}: image: {thresholds.image.promise}")
        if thresholds.review:
            print(f"{name}: review: {thresholds.review.promise}")
        if thresholds.pixel:
            print(f"{name}: pixel: {thresholds.pixel.promise}")
        if thresholds.image.value >= SATURATED:
            print(
                f"{name}: warning: a good image scores {thresholds.image.value:.6f}, so nearly "
                "nothing can be NG: look at the held-out good images, or train longer"
            )


def _load(run: Path, backend: str, *, calibrated: bool = True) -> Any:
    from anomaly_u2net.inference.segmenter import Segmenter

    return Segmenter.load(run, backend=backend, calibrated=calibrated)  # type: ignore[arg-type]
