"""Numbers per category and their mean, at the original image size, each with its interval."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from anomaly_u2net.calibration import CategoryThresholds
from anomaly_u2net.errors import DatasetError, NotComputable
from anomaly_u2net.evaluation.facts import (
    ImageFacts,
    fact_numbers,
    image_facts,
    label_numbers,
    or_none,
    size_numbers,
)
from anomaly_u2net.evaluation.memory import Engine, plan_memory
from anomaly_u2net.evaluation.pixels import (
    Found,
    PixelNumbers,
    Streamed,
    StreamedPixels,
    exact_pixels,
)
from anomaly_u2net.evaluation.predictions import (
    Prediction,
    Predictions,
    Predictor,
    by_category,
    predict_record,
    predict_records,
)
from anomaly_u2net.evaluation.table import (
    LABEL_METRICS,
    LEVEL,
    METRICS,
    RESAMPLES,
    SIZE_METRICS,
    CategoryScores,
    Evaluation,
    Measured,
    Number,
    Numbers,
    Part,
)
from anomaly_u2net.files import sha256_file, sha256_json
from anomaly_u2net.metrics import ByImage, bootstrap_interval, image_auroc, pixel_curve
from anomaly_u2net.types import GOOD, ImageRecord

#: Called after every image, to show progress.
OnImage = Callable[[ImageRecord], object]


def evaluate(
    predictor: Predictor,
    records: Iterable[ImageRecord],
    *,
    split: str = "test",
    intervals: bool = True,
    memory: int | None = None,
    on_image: OnImage | None = None,
) -> Evaluation:
    """Measure ``predictor`` on labelled images, each at its original size.

    intervals: give each number its 95 % interval, from 1000 resamples of the images or, where
    records have groups, of whole groups. memory: bytes that may be used, half of what is available
    when not given; where the maps of the largest category do not fit, all pixel numbers are
    streamed: each then has a certificate that holds the exact number, and an interval too if what
    it takes fits (`Memory.pixel_intervals`) and the scores do not lie too close together for its
    bins (`Evaluation.too_close`); AUPIMO is ``None``.

    Metrics that need a threshold use the predictor's calibration of that category and are ``None``
    without one. Raises `DatasetError` for no records, `ImageError` or `MaskError` for a file that
    cannot be read: an evaluation without all of its images would be another number.
    """
    records = list(records)
    if not records:
        raise DatasetError(f"no images in split {split!r}: nothing to evaluate")
    plan = plan_memory(records, allowed=memory, intervals=intervals)
    calibration = predictor.calibration
    rows = []
    for name, own in by_category(records):
        thresholds = calibration.categories.get(name) if calibration else None
        facts, pixels = measure_category(
            predictor,
            own,
            thresholds,
            engine=plan.engine,
            intervals=intervals and plan.pixel_intervals,
            on_image=on_image,
        )
        rows.append(category_scores(name, facts, pixels, intervals=intervals))
    return Evaluation(
        tuple(rows),
        split,
        plan.engine,
        images_hash(records),
        predictor.model_hash,
        predictor.recipe_hash,
        predictor.calibration_hash,
        resamples=RESAMPLES if intervals else 0,
        memory=plan,
    )


def score_records(predictor: Predictor, records: Iterable[ImageRecord]) -> dict[str, Number]:
    """Four numbers over all categories pooled, for choosing weights while training, and map_range:
    the highest minus the lowest score of an image, of the image where that is most.
    """
    predictions = predict_records(predictor, records)
    if not predictions.records:
        return {}
    curve = pixel_curve(predictions.maps, predictions.masks)
    return {
        "pixel_auroc": or_none(curve.auroc),
        "pixel_ap": or_none(curve.ap),
        "aupro": or_none(curve.aupro),
        "image_auroc": or_none(lambda: image_auroc(predictions.scores, predictions.defective)),
        "map_range": max(float(np.ptp(one)) for one in predictions.maps),
    }


def images_hash(records: Iterable[ImageRecord]) -> str:
    """One hash for a set of images, whatever their order and names."""
    return sha256_json(sorted(sha256_file(record.path) for record in records))


def measure_category(
    predictor: Predictor,
    records: Sequence[ImageRecord],
    thresholds: CategoryThresholds | None,
    *,
    engine: Engine = "exact",
    intervals: bool = True,
    on_image: OnImage | None = None,
) -> tuple[list[ImageFacts], PixelNumbers]:
    """Predict one category: good images first, then one defect type after another.

    intervals: whether its pixel numbers are to have one.
    """

    def predicted() -> Iterator[Prediction]:
        for record in sorted(records, key=lambda one: (one.defective, one.label)):
            yield predict_record(predictor, record)
            if on_image is not None:
                on_image(record)

    return measure_predictions(predicted(), thresholds, engine=engine, intervals=intervals)


def measure_predictions(
    predictions: Iterable[Prediction],
    thresholds: CategoryThresholds | None,
    *,
    engine: Engine = "exact",
    intervals: bool = True,
) -> tuple[list[ImageFacts], PixelNumbers]:
    """The same of images that are predicted already, in the order of `measure_category`."""
    kept = Predictions()
    stream = StreamedPixels(intervals=intervals) if engine == "streaming" else None
    facts = []
    for one in predictions:
        facts.append(image_facts(one, thresholds))
        if stream is None:
            kept.add(one)
        else:
            stream.update(one.score_map, one.mask, label=one.record.label)
    return facts, exact_pixels(kept, intervals=intervals) if stream is None else stream.finish()


def category_scores(
    name: str, facts: Sequence[ImageFacts], pixels: PixelNumbers, *, intervals: bool
) -> CategoryScores:
    """One category's row from what was measured of its images; facts as `measure_category`'s."""
    labels = []
    for label, of_label in pixels.labels.items():
        own = [one for one in facts if one.record.label in (label, GOOD)]
        found = dict(of_label) | label_numbers(own, label)
        count = sum(one.record.defective for one in own)
        labels.append(Part(label, count, _numbers(LABEL_METRICS, found, own, intervals)))
    sizes = [
        Part(bucket, regions, _numbers(SIZE_METRICS, found, facts, intervals))
        for bucket, regions, found in size_numbers(facts)
    ]
    defective = sum(one.record.defective for one in facts)
    numbers = _numbers(METRICS, dict(pixels.numbers) | fact_numbers(facts), facts, intervals)
    miou = _numbers(["miou"], pixels.numbers, facts, intervals)["miou"]
    return CategoryScores(
        name, len(facts) - defective, defective, numbers, tuple(labels), tuple(sizes), miou
    )


def _numbers(
    names: Iterable[str], found: Mapping[str, Found], facts: Sequence[ImageFacts], intervals: bool
) -> Numbers:
    """The numbers of ``names`` with their intervals; ``None`` for those not found."""
    groups = [one.record.group for one in facts]
    return {name: measured(found.get(name), groups, intervals=intervals) for name in names}


def measured(number: Found, groups: Sequence[str | None], *, intervals: bool) -> Measured | None:
    """A number as the table has it; without limits where too few images are left to resample."""
    if number is None or isinstance(number, float):
        return None if number is None else Measured(number)
    if isinstance(number, Streamed):
        sure, by_image = number.certified, number.by_image
        plain = measured(by_image or sure.value, groups, intervals=intervals)
        ends = sure.low, sure.high
        return plain and replace(plain, certified=ends, too_close=number.too_close)
    return _with_interval(number, groups) if intervals else Measured(number.value)


def _with_interval(number: ByImage, groups: Sequence[str | None]) -> Measured:
    try:
        found = bootstrap_interval(number, groups=groups, resamples=RESAMPLES, level=LEVEL)
    except NotComputable:
        return Measured(number.value)
    return Measured(found.value, found.low, found.high)
