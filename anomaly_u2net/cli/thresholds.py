"""How thresholds, and the table to choose a rate by, are shown on screen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from anomaly_u2net.cli import show
from anomaly_u2net.errors import CalibrationError

if TYPE_CHECKING:
    from anomaly_u2net.calibration import Calibration, ImageScores, Threshold, WhatIf

#: An image threshold this close to the highest possible score lets everything pass.
SATURATED = 0.9999


def print_calibration(result: Calibration) -> None:
    """Thresholds on screen, each with its promise."""
    from anomaly_u2net.calibration.words import upwards

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
                *(
                    "n/a" if limit is None else upwards(limit, ".4f")
                    for limit in (image.attained, image.false_reject_upper)
                ),
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
            _print_bound(name, "review", thresholds.review, "reviewed or rejected")
        if thresholds.pixel:
            print(f"{name}: pixel: {thresholds.pixel.promise}")
            _print_bound(name, "pixel", thresholds.pixel, "marked anywhere")
        if result.image_score != "given" and thresholds.image.value >= SATURATED:
            print(
                f"{name}: warning: a good image scores {thresholds.image.value:.6f}, so nearly "
                "nothing can be NG: look at the held-out good images, or train longer"
            )
    by_hand = [name for name, one in result.categories.items() if one.image.rule == "given"]
    if len(by_hand) > 1:
        print(
            f"note: --threshold is one number, {_score(result.categories[by_hand[0]].image.value)}, "
            f"for all {len(by_hand)} categories, {', '.join(by_hand)}, whose scores may differ"
        )


def _print_bound(name: str, level: str, threshold: Threshold, event: str) -> None:
    from anomaly_u2net.calibration.words import percent_up

    if threshold.false_reject_upper is not None:
        noun = "images" if threshold.false_reject_unit == "image" else "parts"
        share = percent_up(threshold.false_reject_upper)
        print(f"{name}: {level}: 95 % sure: at most {share} of new good {noun} are {event}.")


def show_what_if(held: Mapping[str, ImageScores], *, delta: float | None, as_json: bool) -> None:
    """A table per category: what each false-reject rate needs, and what it would cost.

    A category without good images has a note instead; CalibrationError where no category has any.
    """
    from anomaly_u2net.calibration import what_if
    from anomaly_u2net.calibration.words import confidence

    tables, without = {}, {}
    for name, one in held.items():
        one.need_one_model()
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
    how = "on average" if delta is None else f"with confidence {confidence(delta)}"
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
