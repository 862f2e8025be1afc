"""What is kept of one image when its map is gone, and the numbers that need no more than that.

N images of one category. Every number comes with what each image adds to it, so it can be
resampled; see `metrics.by_image`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias, TypeVar

from anomaly_u2net.calibration import CategoryThresholds, decide
from anomaly_u2net.errors import NotComputable
from anomaly_u2net.evaluation.predictions import Prediction
from anomaly_u2net.metrics import (
    ByImage,
    RegionCounts,
    SegmentationCounts,
    f1,
    f1_by_image,
    iou,
    iou_by_image,
    ratio_by_image,
    region_counts,
    scores_by_image,
    segmentation_counts,
    share_by_image,
)
from anomaly_u2net.types import Decision, ImageRecord

T = TypeVar("T")
#: By name; ``None`` where undefined.
NumbersByImage: TypeAlias = dict[str, ByImage | None]


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """One image: its score and, at the thresholds of a calibration, what was decided and found.

    review: whether it was left to a person; ``None`` where the calibration has no such threshold.
    pixels, regions: at the calibrated pixel threshold. pixels_best_f1: at that of highest F1.
    ``None`` without that threshold.
    """

    record: ImageRecord
    score: float
    decision: Decision | None = None
    review: bool | None = None
    pixels: SegmentationCounts | None = None
    pixels_best_f1: SegmentationCounts | None = None
    regions: RegionCounts | None = None


def image_facts(one: Prediction, thresholds: CategoryThresholds | None) -> ImageFacts:
    """Count one predicted image at the thresholds of its category."""
    if thresholds is None:
        return ImageFacts(one.record, one.score)
    count = partial(segmentation_counts, one.score_map, one.mask)
    pixel, best = thresholds.pixel, thresholds.pixel_best_f1
    decision = decide(one.score, thresholds)
    return ImageFacts(
        record=one.record,
        score=one.score,
        decision=decision,
        review=None if thresholds.review is None else decision == "REVIEW",
        pixels=count(threshold=pixel.value) if pixel else None,
        pixels_best_f1=count(threshold=best.value) if best else None,
        regions=region_counts(one.score_map, one.mask, threshold=pixel.value) if pixel else None,
    )


def fact_numbers(facts: Sequence[ImageFacts]) -> NumbersByImage:
    """The numbers of `METRICS` that need no map."""
    scores, labels = [one.score for one in facts], _defective(facts)
    ranks = scores_by_image(scores, labels)
    numbers: NumbersByImage = {
        "image_auroc": or_none(ranks.auroc),
        "image_ap": or_none(ranks.ap),
        "image_f1_max": or_none(ranks.f1_max),
    }
    good = [not label for label in labels]
    decisions = [one.decision for one in facts if one.decision is not None]
    if len(decisions) == len(facts):
        rejected, passed = ([d == name for d in decisions] for name in ("NG", "OK"))
        numbers["false_reject"] = or_none(lambda: share_by_image(rejected, good))
        numbers["missed"] = or_none(lambda: share_by_image(passed, labels))
    review = [one.review for one in facts if one.review is not None]
    if len(review) == len(facts):
        numbers["review_good"] = or_none(lambda: share_by_image(review, good))
        numbers["review_defective"] = or_none(lambda: share_by_image(review, labels))
    counts = [one.pixels for one in facts if one.pixels is not None]
    if len(counts) == len(facts):
        numbers["pixel_f1"] = or_none(lambda: f1_by_image(counts))
        numbers["pixel_iou"] = or_none(lambda: iou_by_image(counts))
        numbers["mean_f1"] = or_none(lambda: _mean_over_defects(f1, counts))
        numbers["mean_iou"] = or_none(lambda: _mean_over_defects(iou, counts))
    best = [one.pixels_best_f1 for one in facts if one.pixels_best_f1 is not None]
    if len(best) == len(facts):
        numbers["pixel_iou_best_f1"] = or_none(lambda: iou_by_image(best))
    regions = [one.regions for one in facts if one.regions is not None]
    if len(regions) == len(facts):
        found, there = [sum(r.found) for r in regions], [sum(r.regions) for r in regions]
        numbers["region_recall"] = or_none(lambda: _recall(found, there))
    return numbers


def label_numbers(facts: Sequence[ImageFacts], label: str) -> NumbersByImage:
    """The numbers of `LABEL_METRICS` that need no map, of the good images and those of ``label``.

    facts: of these images and no others.
    """
    scores, labels = [one.score for one in facts], _defective(facts)
    of_label = [one.record.label == label for one in facts]
    numbers: NumbersByImage = {
        "image_auroc": or_none(lambda: scores_by_image(scores, labels).auroc())
    }
    if all(one.decision is not None for one in facts):
        rejected = [one.decision == "NG" for one in facts]
        numbers["found"] = or_none(lambda: share_by_image(rejected, of_label))
    for name, counts in (
        ("iou", [one.pixels for one in facts]),
        ("iou_best_f1", [one.pixels_best_f1 for one in facts]),
    ):
        if (own := _only(of_label, counts)) is not None:
            numbers[name] = or_none(partial(iou_by_image, own))
            numbers[f"mean_{name}"] = or_none(partial(_mean_over_defects, iou, own))
    return numbers


def size_numbers(facts: Sequence[ImageFacts]) -> list[tuple[str, int, NumbersByImage]]:
    """For each bucket of region areas: its name, its regions, and the numbers of `SIZE_METRICS`."""
    counts = [one.regions for one in facts if one.regions is not None]
    if not counts or len(counts) < len(facts):
        return []
    found: list[tuple[str, int, NumbersByImage]] = []
    for bucket in range(len(counts[0].regions)):
        there = [one.regions[bucket] for one in counts]
        hit, overlap = ([getattr(c, name)[bucket] for c in counts] for name in ("found", "overlap"))
        numbers: NumbersByImage = {
            "recall": or_none(partial(_recall, hit, there)),
            "overlap": or_none(partial(ratio_by_image, overlap, there)),
        }
        found.append((counts[0].bucket_name(bucket), sum(there), numbers))
    return found


def or_none(number: Callable[[], T]) -> T | None:
    """The number, or ``None`` where it is undefined for the data."""
    try:
        return number()
    except NotComputable:
        return None


def _only(
    chosen: Sequence[bool], counts: Sequence[SegmentationCounts | None]
) -> list[SegmentationCounts] | None:
    """``counts`` with nothing counted on the images that are not ``chosen``; None if any is None."""
    own = [
        count if mine else SegmentationCounts()
        for count, mine in zip(counts, chosen, strict=True)
        if count is not None
    ]
    return own if len(own) == len(counts) else None


def _defective(facts: Sequence[ImageFacts]) -> list[bool]:
    return [one.record.defective for one in facts]


def _recall(found: Sequence[int], there: Sequence[int]) -> ByImage:
    """Found regions of all; with none or all found, limited as a share of images is."""
    return replace(ratio_by_image(found, there), share=True)


def _mean_over_defects(
    number: Callable[[SegmentationCounts], float], counts: Sequence[SegmentationCounts]
) -> ByImage:
    defective = [c.tp + c.fn > 0 for c in counts]
    values = [number(c) if d else 0.0 for c, d in zip(counts, defective, strict=True)]
    return ratio_by_image(values, defective)
