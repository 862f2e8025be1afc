"""The test numbers of a cell: at the original size and, for papers, with maps and masks at 256²."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import torch

from anomaly_u2net.data import geometry
from anomaly_u2net.errors import NotComputable
from anomaly_u2net.evaluation import Evaluation
from anomaly_u2net.evaluation.evaluate import category_scores, images_hash, measure_predictions
from anomaly_u2net.evaluation.facts import ImageFacts, fact_numbers
from anomaly_u2net.evaluation.memory import plan_memory
from anomaly_u2net.evaluation.pixels import PixelNumbers
from anomaly_u2net.evaluation.predictions import Prediction, Predictor, predict_record
from anomaly_u2net.evaluation.table import RANKING, RESAMPLES, Numbers
from anomaly_u2net.metrics import Resampled, resampled
from anomaly_u2net.types import Image, ImageRecord, ScoreMap

TEST = "test"
#: What papers on anomaly detection mostly resize maps and masks to before they measure.
SMALL = (256, 256)
#: The numbers that get a difference to the best peer.
TESTED = ("image_auroc", "pixel_ap", "aupro_0.30")


@dataclass(frozen=True, slots=True)
class Scored:
    """numbers: at the original size. small: at 256², without intervals.

    samples: of the tested numbers. milliseconds: per image, the median.
    """

    numbers: Numbers
    small: Numbers
    samples: dict[str, Resampled]
    milliseconds: float


def score_cell(predictor: Predictor, tests: Sequence[ImageRecord], *, out: Path) -> Scored:
    """Measure a model on the test images of one category; the evaluation is written to ``out``.

    Prediction has one CPU thread, so that the times of different methods compare.
    """
    timed, small = _Timed(predictor), list[Prediction]()

    def predicted() -> Iterator[Prediction]:
        for record in sorted(tests, key=lambda one: (one.defective, one.label)):
            one = predict_record(timed, record)
            small.append(shrink(one))
            yield one

    plan = plan_memory(tests)
    with _one_thread():
        facts, pixels = measure_predictions(
            predicted(), None, engine=plan.engine, intervals=plan.pixel_intervals
        )
    whole = category_scores(tests[0].category, facts, pixels, intervals=True)
    Evaluation(
        (whole,),
        TEST,
        plan.engine,
        images_hash(tests),
        predictor.model_hash,
        predictor.recipe_hash,
        predictor.calibration_hash,
        resamples=RESAMPLES,
    ).save(out / "evaluation" / TEST)
    less = measure_predictions(small, None, intervals=False)
    at_256 = category_scores(tests[0].category, *less, intervals=False)
    return Scored(
        {name: whole.numbers[name] for name in RANKING},
        {name: at_256.numbers[name] for name in RANKING},
        _samples(facts, pixels),
        1000 * median(timed.seconds),
    )


def shrink(one: Prediction) -> Prediction:
    """Map and mask at 256²; a mask pixel is defective when half of it is, no region vanishes."""
    height, width = one.mask.shape
    mask = geometry.plan((height, width), "stretch", size=SMALL).mask(one.mask)
    return replace(one, score_map=geometry.resize(one.score_map, SMALL), mask=mask)


def _samples(facts: Sequence[ImageFacts], pixels: PixelNumbers) -> dict[str, Resampled]:
    """The tested numbers in 1000 resamples of images or groups; those that cannot be are left out."""
    groups = [one.record.group for one in facts]
    by_image = pixels.by_image | fact_numbers(facts)
    found = {}
    for name in TESTED:
        if (number := by_image.get(name)) is not None:
            try:
                found[name] = resampled(number, groups=groups, resamples=RESAMPLES)
            except NotComputable:  # fewer images of a kind than an interval needs
                continue
    return found


@contextmanager
def _one_thread() -> Iterator[None]:
    """torch on one CPU thread, and afterwards as before: the next cell may train here."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Timed:
    """A predictor that notes how long each image takes; reading the file is left out."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self.calibration, self.calibration_hash = None, ""
        self.model_hash, self.recipe_hash = predictor.model_hash, predictor.recipe_hash
        self.seconds: list[float] = []

    def predict_scored(self, image: Image) -> tuple[ScoreMap, float]:
        begun = time.perf_counter()
        found = self._predictor.predict_scored(image)
        self.seconds.append(time.perf_counter() - begun)
        return found
