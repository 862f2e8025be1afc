"""Defect types against all good images: exact, streamed, and with intervals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anomaly_u2net.evaluation.pixels import LABEL_NUMBERS, StreamedPixels, exact_pixels
from anomaly_u2net.evaluation.predictions import Prediction, Predictions
from anomaly_u2net.metrics import (
    ByImage,
    Certified,
    bootstrap_interval,
    paired_difference,
    pixel_curve,
    pixels_by_image,
)
from anomaly_u2net.types import ImageRecord


@pytest.fixture(scope="module")
def found() -> Predictions:
    """12 good images and 8 of each of two defects; more distinct scores than corners are kept."""
    rng = np.random.default_rng(0)
    predictions = Predictions()
    for number in range(28):
        label = "good" if number < 12 else ("cut", "dent")[number // 20]
        size = (64 + number, 80)
        scores, mask = rng.normal(0, 1, size).astype(np.float32), np.zeros(size, bool)
        if label != "good":
            mask[10:40, 10 : 20 + number] = True
            scores[mask] += rng.uniform(0, 3 if label == "cut" else 1)
        record = ImageRecord(Path(f"{number}.png"), "tile", "test", label)
        predictions.add(Prediction(record, scores, mask, float(scores.max())))
    return predictions


def subset(found: Predictions, label: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    places = [i for i, r in enumerate(found.records) if r.label in ("good", label)]
    return [found.maps[i] for i in places], [found.masks[i] for i in places]


@pytest.mark.parametrize("label", ["cut", "dent"])
def test_a_defect_type_is_measured_against_all_good_images(found: Predictions, label: str) -> None:
    curve = pixel_curve(*subset(found, label))
    expected = {
        "pixel_auroc": curve.auroc(),
        "pixel_ap": curve.ap(),
        "aupro_0.30": curve.aupro(fpr_limit=0.3),
    }
    assert exact_pixels(found, intervals=False).labels[label] == expected
    full = exact_pixels(found, intervals=True).labels[label]
    assert {name: number.value for name, number in full.items()} == expected
    assert tuple(full) == LABEL_NUMBERS


@pytest.mark.parametrize("label", ["cut", "dent"])
def test_its_intervals_are_those_of_its_images_alone(found: Predictions, label: str) -> None:
    """Corners of the whole curve serve for a part of the images; they are dense enough."""
    full = exact_pixels(found, intervals=True).labels[label]
    alone = pixels_by_image(*subset(found, label))
    oracles = {
        "pixel_auroc": alone.auroc(),
        "pixel_ap": alone.ap(),
        "aupro_0.30": alone.aupro(fpr_limit=0.3),
    }
    for name, oracle in oracles.items():
        number = full[name]
        assert isinstance(number, ByImage)
        one, other = bootstrap_interval(number), bootstrap_interval(oracle)
        assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=1e-3), name
        assert abs(paired_difference(number, oracle).high) < 1e-3


def test_streamed_numbers_hold_the_exact_ones(found: Predictions) -> None:
    stream = StreamedPixels()
    for record, score_map, mask in zip(found.records, found.maps, found.masks, strict=True):
        stream.update(score_map, mask, label=record.label)
    streamed, exact = stream.finish(), exact_pixels(found, intervals=False)
    assert list(streamed.labels) == ["cut", "dent"]
    for ours, sure in [
        (streamed.numbers, exact.numbers),
        *((streamed.labels[label], exact.labels[label]) for label in ("cut", "dent")),
    ]:
        for name, number in ours.items():
            if name == "aupimo":
                assert number is None
                continue
            assert isinstance(number, Certified)
            assert sure[name] in number
            assert number.width < 2.5e-4


def test_aupimo_does_not_need_a_curve_of_pixels(found: Predictions) -> None:
    number = exact_pixels(found, intervals=False).numbers["aupimo"]
    assert isinstance(number, ByImage)
    assert 0.0 < number.value < 1.0
    assert number.counts[:12].sum() == 0  # the good images have none of their own
