"""The tables of ``anomaly-u2net evaluate`` on screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from anomaly_u2net.cli import show

if TYPE_CHECKING:
    from anomaly_u2net.evaluation import Evaluation, Measured
    from anomaly_u2net.evaluation.compare import Comparison, MeanDifference
    from anomaly_u2net.evaluation.table import Numbers
    from anomaly_u2net.metrics import Difference

    Differences: TypeAlias = Mapping[str, Difference | MeanDifference | None]

#: The short names of the tables on screen; the files carry the full ones.
COLUMNS = {
    "image_auroc": "image\nAUROC",
    "image_ap": "image\nAP",
    "image_f1_max": "image\nF1 best",
    "pixel_auroc": "pixel\nAUROC",
    "pixel_ap": "pixel\nAP",
    "aupro_0.30": "AUPRO\n@0.30",
    "aupro_0.05": "AUPRO\n@0.05",
    "aupimo": "AUPIMO\n1e-5..1e-4",
    "pixel_f1_max": "pixel\nF1 best",
    "pixel_f1": "pixel F1\npooled",
    "pixel_iou": "pixel IoU\npooled",
    "mean_f1": "pixel F1\nper image",
    "mean_iou": "pixel IoU\nper image",
    "pixel_iou_best_f1": "pixel IoU at\nF1 threshold",
    "region_recall": "regions\nfound",
    "false_reject": "false\nreject",
    "missed": "missed",
    "review_good": "good to\nREVIEW",
    "review_defective": "defective\nto REVIEW",
}
LABEL_COLUMNS = {
    "image_auroc": "image\nAUROC",
    "pixel_auroc": "pixel\nAUROC",
    "pixel_ap": "pixel\nAP",
    "aupro_0.30": "AUPRO\n@0.30",
    "found": "called NG",
    "iou": "pixel IoU\npooled",
    "mean_iou": "pixel IoU\nper image",
    "iou_best_f1": "pixel IoU at\nF1 threshold",
    "mean_iou_best_f1": "per image\nat it",
}
SIZE_COLUMNS = {"recall": "found", "overlap": "mean overlap"}
#: Why the streaming engine has none.
NO_AUPIMO = "AUPIMO needs all maps: n/a"


def print_comparison(result: Comparison, *, names: tuple[str, str]) -> None:
    """A table per category on screen: A's number minus B's, and who is better."""
    from anomaly_u2net.calibration.words import upwards
    from anomaly_u2net.evaluation.compare import verdict

    rows: dict[str, Differences] = dict(result.categories)
    if len(rows) > 1:
        rows["mean over categories"] = result.mean
    for title, differences in rows.items():
        columns = ["metric", "A − B", "95 % interval", "p", "better"]
        lines = [
            [
                *_difference_row(name, found),
                "" if found is None else verdict(name, found, within=result.within(name)),
            ]
            for name, found in differences.items()
        ]
        show.print_table(f"{title}, {result.split} images", columns, lines)
    print(f"A is {names[0]}, B is {names[1]}, each at its own thresholds; less of false reject,")
    print("missed and REVIEW is better. An empty last column: these images do not tell.")
    if result.engine == "streaming":
        within = f", pixel differences certified within {upwards(result.certified_within, '.1e')}"
        print(f"engine: streaming{within if result.certified_within else ''}; {NO_AUPIMO}")
    _print_too_close(result.too_close)


def _print_too_close(names: Sequence[str]) -> None:
    """Which streamed numbers have no interval, and why."""
    if names:
        columns = ", ".join(COLUMNS[name].replace("\n", " ") for name in names)
        print(
            f"scores lie too close together for intervals of {columns}: n/a where there is none; "
            "the exact engine has them (more --memory)"
        )


def _difference_row(name: str, found: Difference | MeanDifference | None) -> list[str]:
    """Metric, difference, limits and p, which a mean has not."""
    head = COLUMNS[name].replace("\n", " ")
    if found is None:
        return [head, "n/a", "n/a", "n/a"]
    limits = f"{found.low:+.4f} to {found.high:+.4f}"
    p = getattr(found, "p", None)
    return [head, f"{found.value:+.4f}", limits, show.number(p, 3)]


def print_evaluation(result: Evaluation, *, calibrated: Sequence[str]) -> None:
    """The tables on screen: categories and their mean, defect types, region sizes."""
    from anomaly_u2net.evaluation import AT_THRESHOLDS, RANKING

    rows: list[tuple[list[str], Numbers]] = [
        ([row.category, str(row.good), str(row.defective)], row.numbers)
        for row in result.categories
    ]
    if len(rows) > 1:
        rows.append((["mean", "", ""], result.mean_numbers))
    first = ["category", "good", "defective"]
    titles = {
        f"{result.split} images, original size: how well scores part good from defective": RANKING,
        "at the calibrated thresholds": AT_THRESHOLDS,
    }
    for title, names in titles.items():
        _print_numbers(title, first, rows, {name: COLUMNS[name] for name in names})
    labels = [
        ([f"{row.category}/{part.name}", str(part.count)], part.numbers)
        for row in result.categories
        for part in row.labels
    ]
    if labels:
        title = "by defect: its images against all good ones"
        _print_numbers(title, ["defect", "images"], labels, LABEL_COLUMNS)
    sizes = [
        ([f"{row.category}, {part.name}", str(part.count)], part.numbers)
        for row in result.categories
        for part in row.sizes
        if part.count
    ]
    if sizes:
        title = "by size of a defect region, at the calibrated pixel threshold"
        _print_numbers(title, ["region", "regions"], sizes, SIZE_COLUMNS)
    _print_notes(result, calibrated)


def _print_numbers(
    title: str,
    first: Sequence[str],
    rows: Sequence[tuple[list[str], Numbers]],
    columns: Mapping[str, str],
) -> None:
    """A table of numbers, each over its interval."""
    cells = [[*head, *(_cell(numbers[name]) for name in columns)] for head, numbers in rows]
    show.print_table(title, [*first, *columns.values()], cells)


def _cell(number: Measured | None) -> str:
    """The value, its interval below it, and below that how far the exact number can be."""
    from anomaly_u2net.calibration.words import upwards

    if number is None:
        return "n/a"
    lines = [show.number(number.value)]
    if number.low is not None and number.high is not None:
        lines.append(f"{show.number(number.low, 3)}–{show.number(number.high, 3)}")
    if number.certified is not None:
        low, high = number.certified
        lines.append(f"±{upwards(max(number.value - low, high - number.value), '.0e')}")
    return "\n".join(lines)


def _print_notes(result: Evaluation, calibrated: Sequence[str]) -> None:
    """The engine, what the intervals are, and the columns that lack a calibration."""
    from anomaly_u2net.evaluation.memory import format_bytes

    if result.memory is not None:
        whose = "--memory" if result.memory.stated else "half of what is available"
        needed, allowed = map(format_bytes, (result.memory.needed, result.memory.allowed))
        print(f"engine: {_engine(result)} (exact needs {needed}; allowed {allowed}, {whose})")
        if result.resamples and not result.memory.pixel_intervals:
            streamed = format_bytes(result.memory.streamed)
            print(f"no intervals of streamed numbers: they need {streamed}; allowed {allowed}")
    _print_too_close(result.too_close)
    if result.resamples:
        print(
            f"below a number: its 95 % interval over images like these ({result.resamples} "
            "resamples of images or groups); none with fewer than 5 of a kind; for a perfect curve "
            "a point, which only says that no error was seen"
        )
    if unknown := [row.category for row in result.categories if row.category not in calibrated]:
        known = ", ".join(calibrated) or "nothing: there is no calibration.json"
        print(
            f"no thresholds for {', '.join(unknown)} (calibrated: {known}): columns that need one "
            "are n/a; --category says whose to use for other data"
        )


def _engine(result: Evaluation) -> str:
    from anomaly_u2net.calibration.words import upwards

    if result.engine == "exact":
        return "exact"
    return (
        f"streaming, pixel numbers certified within {upwards(result.certified_within, '.1e')} "
        f"(± below each); {NO_AUPIMO}"
    )
