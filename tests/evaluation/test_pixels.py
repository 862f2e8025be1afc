"""Defect types against all good images: exact, streamed, and with intervals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import jaccard_score

from anomaly_u2net.evaluation.pixels import (
    CURVE_NUMBERS,
    LABEL_NUMBERS,
    TOO_CLOSE,
    Found,
    PixelNumbers,
    Streamed,
    StreamedPixels,
    exact_pixels,
)
from anomaly_u2net.evaluation.predictions import Prediction, Predictions
from anomaly_u2net.metrics import (
    ByImage,
    ImageHistograms,
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


def stream(found: Predictions, *, intervals: bool) -> PixelNumbers:
    streamed = StreamedPixels(intervals=intervals)
    for record, score_map, mask in zip(found.records, found.maps, found.masks, strict=True):
        streamed.update(score_map, mask, label=record.label)
    return streamed.finish()


def pairs(ours: PixelNumbers, sure: PixelNumbers) -> Iterator[tuple[str, Found, Found]]:
    """Name, streamed and exact number of all images, then of each defect type."""
    assert list(ours.labels) == ["cut", "dent"]
    tables = [(ours.numbers, sure.numbers)]
    tables += [(ours.labels[label], sure.labels[label]) for label in ours.labels]
    for left, right in tables:
        for name in left:
            if name == "aupimo":
                assert left[name] is None
            else:
                yield name, left[name], right[name]


def test_streamed_numbers_hold_the_exact_ones(found: Predictions) -> None:
    streamed, exact = stream(found, intervals=False), exact_pixels(found, intervals=False)
    for _, number, sure in pairs(streamed, exact):
        assert isinstance(number, Streamed)
        assert sure in number.certified
        assert number.certified.width < 2.5e-4
        assert number.by_image is None
    assert set(streamed.by_image.values()) == {None}


def test_streamed_intervals_are_nearly_the_exact_ones(found: Predictions) -> None:
    streamed, exact = stream(found, intervals=True), exact_pixels(found, intervals=True)
    for name, number, sure in pairs(streamed, exact):
        assert isinstance(number, Streamed)
        assert isinstance(number.by_image, ByImage)
        assert isinstance(sure, ByImage)
        assert number.by_image.value == number.certified.value
        assert sure.value in number.certified
        one, other = bootstrap_interval(number.by_image), bootstrap_interval(sure)
        assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=1e-3), name
        assert one.low < one.value < one.high
    assert streamed.by_image["pixel_ap"] is streamed.numbers["pixel_ap"].by_image


def squeezed(found: Predictions, width: float) -> Predictions:
    """The same pixels in the same order, scores within [0.5, 0.5 + width]."""
    maps = [(0.5 + width / (1 + np.exp(-m.astype(np.float64)))).astype("f4") for m in found.maps]
    return replace(found, maps=maps)


def test_there_is_no_streamed_interval_where_scores_lie_too_close(found: Predictions) -> None:
    """A few 16-bit bins for all scores: the interval that they would give is far too narrow."""
    close = squeezed(found, 0.001)
    images = ImageHistograms()
    for score_map, mask in zip(close.maps, close.masks, strict=True):
        images.update(score_map, mask)
    sure = bootstrap_interval(exact_pixels(close, intervals=True).numbers["pixel_ap"])
    coarse = bootstrap_interval(images.by_image().ap())
    assert coarse.high - coarse.low < 0.75 * (sure.high - sure.low)
    streamed = stream(close, intervals=True)
    assert streamed.too_close == set(CURVE_NUMBERS)
    assert set(streamed.by_image.values()) == {None}
    for _, number, exact in pairs(streamed, exact_pixels(close, intervals=False)):
        assert number.too_close
        assert number.by_image is None
        assert exact in number.certified
    assert stream(close, intervals=False).too_close == set()


@pytest.mark.parametrize("width", [0.003, 0.01, 0.02, 0.05, 0.3])
def test_where_scores_are_close_the_intervals_left_are_right(
    found: Predictions, width: float
) -> None:
    close = squeezed(found, width)
    left = 0
    for name, number, sure in pairs(
        stream(close, intervals=True), exact_pixels(close, intervals=True)
    ):
        if number.too_close:
            assert number.by_image is None
            continue
        left += 1
        assert number.certified.width <= TOO_CLOSE
        one, other = bootstrap_interval(number.by_image), bootstrap_interval(sure)
        assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=1e-3), name
    assert left == {0.003: 0, 0.01: 0, 0.02: 0, 0.05: 4, 0.3: 11}[width]


def test_levels_that_share_a_bin_have_no_interval(found: Predictions) -> None:
    """Their certificates are narrow, each fine bin holding one score; the coarse value tells."""
    maps = [(0.5 + 2e-4 * np.clip(np.round(m), -2, 2)).astype("f4") for m in found.maps]
    streamed = stream(replace(found, maps=maps), intervals=True)
    assert streamed.numbers["pixel_ap"].certified.width < 1e-9
    assert streamed.too_close >= {"pixel_ap", "pixel_auroc", "aupro_0.30"}


def test_streaming_without_a_defect_or_a_good_pixel(found: Predictions) -> None:
    good = StreamedPixels(intervals=True)
    good.update(found.maps[0], found.masks[0], label="good")
    assert set(good.finish().numbers.values()) == {None}
    defect = StreamedPixels(intervals=True)
    defect.update(np.full((2, 2), 0.5, np.float32), np.ones((2, 2), bool), label="cut")
    numbers = defect.finish().labels["cut"]
    assert numbers["pixel_auroc"] is None
    assert numbers["pixel_ap"].by_image.value == 1.0


def test_miou_is_that_of_both_classes_at_the_best_f1_threshold(found: Predictions) -> None:
    """As scikit-learn has it for all pixels in one row, and resampled as it has it for a resample."""
    number = exact_pixels(found, intervals=False).numbers["miou"]
    assert isinstance(number, ByImage)
    threshold = pixel_curve(found.maps, found.masks).best_f1().threshold

    def pooled(places: Iterable[int]) -> float:
        truth = np.concatenate([found.masks[i].ravel() for i in places])
        called = np.concatenate([found.maps[i].ravel() > threshold for i in places])
        return float(jaccard_score(truth, called, average="macro"))

    assert number.value == pytest.approx(pooled(range(28)), rel=1e-12)
    drawn = [3, 3, 11, 13, 20, 27, 27]
    (again,) = number.number(number.counts[drawn].sum(axis=0, keepdims=True))
    assert again == pytest.approx(pooled(drawn), rel=1e-12)
    interval = bootstrap_interval(number)
    assert interval.low < number.value < interval.high
    assert "miou" not in stream(found, intervals=True).numbers


def test_aupimo_does_not_need_a_curve_of_pixels(found: Predictions) -> None:
    number = exact_pixels(found, intervals=False).numbers["aupimo"]
    assert isinstance(number, ByImage)
    assert 0.0 < number.value < 1.0
    assert number.counts[:12].sum() == 0  # the good images have none of their own
