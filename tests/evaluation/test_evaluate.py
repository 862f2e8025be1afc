"""Numbers known by hand: the stub network answers with what is drawn into the image."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from anomaly_u2net.calibration import Calibration, CategoryThresholds, Threshold
from anomaly_u2net.data.geometry import MEAN, STD
from anomaly_u2net.errors import CalibrationError, DatasetError, MaskError
from anomaly_u2net.evaluation import (
    AT_THRESHOLDS,
    METRICS,
    RANKING,
    Evaluation,
    evaluate,
    memory,
    score_records,
)
from anomaly_u2net.evaluation.memory import plan_memory
from anomaly_u2net.inference.bundle import ModelSpec
from anomaly_u2net.inference.segmenter import Segmenter
from anomaly_u2net.metrics import (
    aupimo,
    bootstrap_interval,
    image_auroc,
    image_f1_max,
    pixel_curve,
    pixels_by_image,
)
from anomaly_u2net.recipe import Recipe
from anomaly_u2net.types import ImageRecord

Draw = Callable[..., ImageRecord]


def answer(batch: np.ndarray) -> np.ndarray:
    """The probability of a pixel is its red value / 255, whatever its size."""
    red = np.clip(batch[:, :1] * STD[0] + MEAN[0], 1e-6, 1 - 1e-6)
    return np.log(red / (1 - red)).astype(np.float32)


@pytest.fixture
def spec() -> ModelSpec:
    recipe = Recipe.from_dict({"name": "r", "input": {"fit": "native"}, "augment": {"crop": 32}})
    return ModelSpec(
        name="r", model=recipe.model, input=recipe.input, score=recipe.score,
        recipe_hash=recipe.digest, files={},
    )  # fmt: skip


def calibration(
    spec: ModelSpec, *, value: float = 0.5, f1: float | None = 0.5, review: float | None = None
) -> Calibration:
    limit = Threshold(value, "false_reject", "At most 5 %.", 19, {"alpha": 0.05}, attained=0.05)
    best = None if f1 is None else Threshold(f1, "best_f1", "No guarantee.", 20)
    lower = None
    if review is not None:
        lower = Threshold(
            review, "missed_defects", "At most 5 %.", 19, {"beta": 0.05}, attained=0.05
        )
    return Calibration(
        categories={"tile": CategoryThresholds(limit, limit, best, best, lower)},
        model_hash=spec.digest,
        recipe_hash=spec.recipe_hash,
        split="calibration",
        images={"tile": {"good": 19, "defective": 1}},
    )


@pytest.fixture
def draw(tmp_path: Path, write_png: Callable[..., None]) -> Draw:
    """An image of gray 51 (0.2) with a box of another gray, and a mask of another box."""
    made = iter(range(100))

    def make(
        label: str = "good",
        *,
        box: tuple[slice, slice] | None = None,
        gray: int = 204,
        mask: tuple[slice, slice] | None = None,
        size: tuple[int, int] = (20, 30),
        category: str = "tile",
    ) -> ImageRecord:
        number = next(made)
        pixels = np.full(size, 51, np.uint8)
        if box is not None:
            pixels[box] = gray
        image, mask_file = tmp_path / f"{number}.png", None
        write_png(pixels, image)
        if mask is not None:
            mask_file = tmp_path / f"{number}_mask.png"
            truth = np.zeros(size, np.uint8)
            truth[mask] = 255
            write_png(truth, mask_file)
        return ImageRecord(image, category, "test", label, mask_file)

    return make


def box(top: int, left: int, height: int, width: int) -> tuple[slice, slice]:
    return np.s_[top : top + height, left : left + width]


def test_numbers_by_hand(spec: ModelSpec, draw: Draw) -> None:
    """Two defects of 40 pixels; of one half is found, the other not at all; one false alarm."""
    records = [
        draw(),
        draw(box=box(0, 0, 2, 5), gray=153),  # 10 good pixels at 0.6
        draw("cut", box=box(5, 5, 5, 4), mask=box(5, 5, 5, 8)),  # 20 of 40 at 0.8
        draw("dent", mask=box(1, 1, 4, 10), size=(40, 20)),
    ]
    result = evaluate(Segmenter(answer, spec, calibration=calibration(spec)), records)
    (row,) = result.categories
    assert (row.category, row.good, row.defective) == ("tile", 2, 2)
    # Image scores: good 0.2 and 0.6, defects 0.8 and 0.2.
    assert row.metrics["image_auroc"] == (1 + 1 + 0.5 + 0) / 4
    assert row.metrics["false_reject"] == 0.5
    assert row.metrics["missed"] == 0.5
    # Above 0.5: 20 defect pixels and 10 good ones, of 80 defect pixels.
    assert row.metrics["pixel_f1"] == pytest.approx(2 * 20 / (30 + 80))
    assert row.metrics["pixel_iou"] == pytest.approx(20 / 90)
    assert row.metrics["pixel_iou_best_f1"] == row.metrics["pixel_iou"]
    # Or everything is called a defect: precision 80 of all 2600 pixels.
    assert row.metrics["pixel_f1_max"] == pytest.approx(2 * 20 / (20 + 80))
    assert row.miou is not None  # 20 of 80 defect pixels there, and none of the others
    assert row.miou.value == pytest.approx((20 / 80 + 2520 / 2580) / 2)
    assert (result.mean_miou, result.to_dict()["categories"][0]["miou"]) == (
        row.miou,
        row.miou.to_dict(),
    )
    negatives = 3 * 600 + 800 - 80
    flat = negatives - 10
    assert row.metrics["pixel_auroc"] == pytest.approx(
        (20 * negatives + 60 * flat / 2) / (80 * negatives)
    )
    # Per image: F1 of 2 * 20 / 60 and 0, IoU of 20 / 40 and 0; one of two regions is touched.
    assert row.metrics["mean_f1"] == pytest.approx((2 / 3 + 0) / 2)
    assert row.metrics["mean_iou"] == (0.5 + 0) / 2
    assert row.metrics["region_recall"] == 0.5
    assert list(row.metrics) == list(METRICS)
    cut, dent = row.labels
    assert (cut.name, cut.count, dent.name, dent.count) == ("cut", 1, "dent", 1)
    # Against the good images: 0.8 beats 0.2 and 0.6; 0.2 ties with one and loses to the other.
    assert (cut.metrics["image_auroc"], dent.metrics["image_auroc"]) == (1.0, 0.25)
    assert (cut.metrics["found"], dent.metrics["found"]) == (1.0, 0.0)
    assert (cut.metrics["iou"], dent.metrics["iou"]) == (0.5, 0.0)
    # Above 0.7 too: the box of the cut has 0.8.
    other = calibration(spec, value=0.9, f1=0.7)
    (again,) = evaluate(Segmenter(answer, spec, calibration=other), records).categories
    assert (again.labels[0].metrics["iou"], again.labels[0].metrics["iou_best_f1"]) == (0.0, 0.5)
    # A small cut that is found exactly: 30 of 50 pixels pooled, but the images' mean is of 1/2 and 1.
    more = [*records, draw("cut", box=box(5, 5, 5, 2), mask=box(5, 5, 5, 2))]
    (both,) = evaluate(Segmenter(answer, spec, calibration=other), more).categories
    ious = ("iou", "mean_iou", "iou_best_f1", "mean_iou_best_f1")
    assert [both.labels[0].metrics[name] for name in ious] == [0.0, 0.0, 0.6, 0.75]
    others = 3 * 600 - 40  # two good images, and what is good in the image of the cut
    assert cut.metrics["pixel_auroc"] == pytest.approx(
        (20 * others + 20 * (others - 10) / 2) / (40 * others)
    )
    # Both regions have 40 pixels: all are in the bucket below 64.
    small, *larger = row.sizes
    assert (small.name, small.count) == ("< 64 px", 2)
    assert small.metrics == {"recall": 0.5, "overlap": 0.25}
    assert {value for part in larger for value in part.metrics.values()} == {None}
    # Two images of a kind are too few for an interval.
    assert {(n.low, n.high) for n in row.numbers.values() if n} == {(None, None)}


def test_they_are_the_numbers_of_the_metrics(spec: ModelSpec, draw: Draw) -> None:
    records = [
        draw(box=box(0, 0, 3, 3), gray=100),
        draw("cut", box=box(2, 3, 5, 5), mask=box(3, 3, 6, 6)),
        draw("dent", box=box(2, 3, 5, 5), gray=90, mask=box(3, 3, 6, 6), size=(33, 50)),
    ]
    segmenter = Segmenter(answer, spec)
    maps = [segmenter.predict(record.path) for record in records]
    masks = [np.zeros((20, 30), bool), np.zeros((20, 30), bool), np.zeros((33, 50), bool)]
    for mask in masks[1:]:
        mask[box(3, 3, 6, 6)] = True
    curve = pixel_curve(maps, masks)
    (row,) = evaluate(segmenter, records).categories
    metrics = row.metrics
    assert metrics["pixel_auroc"] == curve.auroc()
    assert metrics["pixel_ap"] == curve.ap()
    assert metrics["aupro_0.30"] == curve.aupro(fpr_limit=0.3)
    assert metrics["aupro_0.05"] == curve.aupro(fpr_limit=0.05)
    assert metrics["pixel_f1_max"] == curve.f1_max()
    scores = [float(m.max()) for m in maps]
    assert metrics["image_auroc"] == image_auroc(scores, [False, True, True])
    assert metrics["image_f1_max"] == image_f1_max(scores, [False, True, True])
    assert metrics["aupimo"] == pytest.approx(aupimo(maps, masks), abs=1e-15)
    for label, place in (("cut", 1), ("dent", 2)):
        own = pixel_curve([maps[0], maps[place]], [masks[0], masks[place]])
        found = {part.name: part.metrics for part in row.labels}[label]
        assert found["pixel_auroc"] == own.auroc()
        assert found["pixel_ap"] == own.ap()
        assert found["aupro_0.30"] == own.aupro(fpr_limit=0.3)


def test_images_left_to_a_person_are_shares_of_their_own(spec: ModelSpec, draw: Draw) -> None:
    """Between 0.3 and 0.5 is REVIEW: one of two good images, one of four defective ones."""
    cut = {"box": box(5, 5, 5, 4), "mask": box(5, 5, 5, 4)}
    records = [
        draw(),  # 0.2
        draw(box=box(0, 0, 2, 5), gray=102),  # 0.4
        *(draw("cut", gray=gray, **cut) for gray in (60, 100, 140, 200)),
    ]
    known = calibration(spec, review=0.3)
    (row,) = evaluate(Segmenter(answer, spec, calibration=known), records).categories
    decided = ("review_good", "review_defective", "false_reject", "missed")
    assert [row.metrics[name] for name in decided] == [0.5, 0.25, 0.0, 0.25]
    assert row.to_dict()["metrics"]["review_good"]["value"] == 0.5
    # No image in between is a share of 0; without a second threshold there is no such share.
    (row,) = evaluate(Segmenter(answer, spec, calibration=known), records[:1]).categories
    assert (row.metrics["review_good"], row.metrics["review_defective"]) == (0.0, None)
    plain = calibration(spec)
    (row,) = evaluate(Segmenter(answer, spec, calibration=plain), records).categories
    assert (row.metrics["review_good"], row.metrics["review_defective"]) == (None, None)


def test_without_a_calibration_nothing_needs_a_threshold(spec: ModelSpec, draw: Draw) -> None:
    records = [draw(), draw("cut", box=box(5, 5, 5, 4), mask=box(5, 5, 5, 8))]
    (row,) = evaluate(Segmenter(answer, spec), records).categories
    assert {name for name, value in row.metrics.items() if value is None} == set(AT_THRESHOLDS)
    names = ("found", "iou", "mean_iou", "iou_best_f1", "mean_iou_best_f1")
    at_thresholds = [row.labels[0].metrics[name] for name in names]
    assert at_thresholds == [None] * 5
    assert row.labels[0].metrics["image_auroc"] is not None
    assert row.sizes == ()


def test_a_category_without_thresholds_of_its_own(spec: ModelSpec, draw: Draw) -> None:
    records = [draw(), draw(category="brick")]
    known = calibration(spec, f1=None)
    brick, tile = evaluate(Segmenter(answer, spec, calibration=known), records).categories
    assert (brick.metrics["false_reject"], tile.metrics["false_reject"]) == (None, 0.0)
    assert tile.metrics["pixel_iou_best_f1"] is None


def test_undefined_is_null_and_na_never_a_number(
    spec: ModelSpec, draw: Draw, tmp_path: Path
) -> None:
    result = evaluate(Segmenter(answer, spec), [draw(), draw()])
    (row,) = result.categories
    assert set(row.metrics.values()) == {row.miou} == {result.mean_miou} == {None}
    result.save(tmp_path / "out")
    saved = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert saved["mean"] == dict.fromkeys(METRICS)
    header, tile, mean = csv.reader((tmp_path / "out/evaluation.csv").read_text().splitlines())
    columns = [f"{name}{end}" for name in METRICS for end in ("", "_low", "_high")]
    assert header == ["category", "good", "defective", "engine", *columns]
    assert tile == ["tile", "2", "0", "exact", *["n/a"] * len(columns)]
    assert mean == ["mean", "", "", "exact", *["n/a"] * len(columns)]


def test_the_mean_is_over_categories_and_needs_all(spec: ModelSpec, draw: Draw) -> None:
    found = {"box": box(5, 5, 5, 8), "mask": box(5, 5, 5, 8)}
    lost = {"mask": box(5, 5, 5, 8)}
    records = [
        draw(category="brick"), draw("cut", category="brick", **found),
        *(draw() for _ in range(5)), draw("cut", **lost),
    ]  # fmt: skip
    result = evaluate(Segmenter(answer, spec), records)
    assert [row.metrics["pixel_auroc"] for row in result.categories] == [1.0, 0.5]
    assert result.mean["pixel_auroc"] == 0.75  # each category counts once
    partly = evaluate(Segmenter(answer, spec), [*records, draw(category="wood")])
    assert partly.mean["pixel_auroc"] is None


def test_what_produced_it_is_saved(spec: ModelSpec, draw: Draw, tmp_path: Path) -> None:
    known = calibration(spec)
    result = evaluate(Segmenter(answer, spec, calibration=known), [draw()], split="validation")
    result.save(tmp_path)
    saved = json.loads((tmp_path / "evaluation.json").read_text())
    assert saved == result.to_dict()
    assert saved["format"] == "anomaly_u2net.evaluation/2"
    assert saved["split"] == "validation"
    assert (saved["model_hash"], saved["recipe_hash"]) == (spec.digest, spec.recipe_hash)
    assert saved["calibration_hash"] == known.digest


def test_scores_to_choose_by_are_pooled(spec: ModelSpec, draw: Draw) -> None:
    records = [
        draw(box=box(0, 0, 2, 5), gray=204),
        draw("cut", category="brick", box=box(5, 5, 5, 8), gray=153, mask=box(5, 5, 5, 8)),
    ]
    scores = score_records(Segmenter(answer, spec), records)
    assert list(scores) == ["pixel_auroc", "pixel_ap", "aupro", "image_auroc", "map_range"]
    assert scores["map_range"] == pytest.approx(0.6)  # that of the first: 51 to 204
    assert scores["image_auroc"] == 0.0  # across categories: 0.8 good, 0.6 defective
    assert scores["pixel_ap"] == pytest.approx(40 / 50)
    assert score_records(Segmenter(answer, spec), []) == {}
    alone = score_records(Segmenter(answer, spec), records[:1])
    assert alone.pop("map_range") == pytest.approx(0.6)
    assert set(alone.values()) == {None}


def test_nothing_to_evaluate(spec: ModelSpec) -> None:
    with pytest.raises(DatasetError, match=r"no images in split 'test': nothing to evaluate"):
        evaluate(Segmenter(answer, spec), [])


def test_a_mask_of_another_size(spec: ModelSpec, draw: Draw) -> None:
    large = draw("cut", mask=box(0, 0, 2, 2), size=(40, 40))
    with pytest.raises(MaskError, match=r"_mask.png: expected"):
        evaluate(Segmenter(answer, spec), [replace(draw(), label="cut", mask=large.mask)])


def test_a_calibration_of_another_model_is_refused(spec: ModelSpec) -> None:
    other = spec.model_copy(update={"name": "other"})
    with pytest.raises(CalibrationError, match=r"was made for model .*, not for this one"):
        Segmenter(answer, spec, calibration=calibration(other))


# --- intervals


@pytest.fixture
def many(draw: Draw) -> list[ImageRecord]:
    """8 good images and 6 of each of two defects, more and less easy to find."""
    rng = np.random.default_rng(0)
    records = []
    for number in range(20):
        place = box(*rng.integers(0, 10, 2), 6, 8)
        found = box(*rng.integers(0, 10, 2), 6, 8)
        label = "good" if number < 8 else ("cut", "dent")[number % 2]
        gray = int(rng.integers(60, 160 if label == "good" else 250))
        found = place if label == "cut" else found
        mask = None if label == "good" else place
        records.append(draw(label, box=found, gray=gray, mask=mask))
    return records


def test_every_number_has_its_interval(spec: ModelSpec, many: list[ImageRecord]) -> None:
    segmenter = Segmenter(answer, spec, calibration=calibration(spec, review=0.4))
    (row,) = evaluate(segmenter, many).categories
    parts = [row.numbers, *(part.numbers for part in row.labels), row.sizes[0].numbers]
    for numbers in parts:
        for name, number in numbers.items():
            assert number is not None, name
            assert number.low is not None, name
            assert number.low <= number.value <= number.high, name
            assert number.certified is None
    cut, dent = row.labels
    assert cut.numbers["pixel_auroc"].low > dent.numbers["pixel_auroc"].value
    maps = [segmenter.predict(record.path) for record in many]
    masks = [
        np.zeros((20, 30), bool)
        if record.mask is None
        else np.asarray(Pillow.open(record.mask)) > 0
        for record in many
    ]
    expected = bootstrap_interval(pixels_by_image(maps, masks).auroc())
    found = row.numbers["pixel_auroc"]
    # The images are measured in another order, so the draws are others.
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.02)


def test_images_of_a_group_are_drawn_together(spec: ModelSpec, many: list[ImageRecord]) -> None:
    """Twice the same part is not twice as sure; without the group it would seem so."""
    segmenter = Segmenter(answer, spec, calibration=calibration(spec))
    named = [replace(record, group=record.path.stem) for record in many]

    def width(records: list[ImageRecord]) -> float:
        number = evaluate(segmenter, records).categories[0].numbers["pixel_f1"]
        assert number is not None
        return number.high - number.low

    assert width(named * 2) == pytest.approx(width(many), rel=0.1)
    assert width(many * 2) < 0.8 * width(many)


def test_no_intervals_changes_no_number(spec: ModelSpec, many: list[ImageRecord]) -> None:
    segmenter = Segmenter(answer, spec, calibration=calibration(spec))
    plain, full = (evaluate(segmenter, many, intervals=on).categories[0] for on in (False, True))
    assert plain.metrics == full.metrics
    assert [part.metrics for part in plain.labels] == [part.metrics for part in full.labels]
    assert {n.low for n in plain.numbers.values() if n} == {None}


def test_the_mean_recovers_its_interval_from_the_categories(
    spec: ModelSpec, many: list[ImageRecord]
) -> None:
    records = [*many, *(replace(record, category="brick") for record in many)]
    result = evaluate(Segmenter(answer, spec), records)
    one, mean = result.categories[0].numbers["pixel_ap"], result.mean_numbers["pixel_ap"]
    assert one is not None
    assert mean is not None
    assert mean.value == pytest.approx(one.value)
    # Two equal and independent halves: the spread of the mean is smaller by the root of 2.
    assert mean.value - mean.low == pytest.approx((one.value - one.low) / 2**0.5)
    assert mean.high - mean.value == pytest.approx((one.high - one.value) / 2**0.5)


# --- memory


def numbers(result: Evaluation) -> list[dict]:
    (row,) = result.categories
    return [row.numbers, *(part.numbers for part in row.labels)]


def test_with_little_memory_it_streams_and_its_certificates_hold(
    spec: ModelSpec, many: list[ImageRecord]
) -> None:
    segmenter = Segmenter(answer, spec, calibration=calibration(spec))
    exact, streamed = (evaluate(segmenter, many, memory=m) for m in (1 << 40, 10_000))
    assert (exact.engine, exact.certified_within) == ("exact", 0.0)
    assert streamed.engine == "streaming"
    assert 0 < streamed.certified_within < 1e-3
    certified = set()
    for sure, found in zip(numbers(exact), numbers(streamed), strict=True):
        for name, number in found.items():
            if name == "aupimo" or name.startswith("review"):
                assert number is None
            elif number.certified is None:
                assert number == sure[name]  # needs no map: the same number, the same interval
            else:
                certified.add(name)
                low, high = number.certified
                assert low <= sure[name].value <= high
                assert low <= number.value <= high
                assert number.low is None
    assert certified == {n for n in RANKING if n.startswith(("pixel", "aupro"))}
    saved = streamed.to_dict()
    assert saved["engine"] == "streaming"
    low, high = saved["mean"]["pixel_ap"]["certified"]
    assert low <= exact.mean["pixel_ap"] <= high
    assert [part["regions"] for part in saved["categories"][0]["region_sizes"].values()] == [
        12, 0, 0, 0,
    ]  # fmt: skip


def test_streamed_numbers_have_intervals_where_these_fit(
    spec: ModelSpec, many: list[ImageRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "STREAM_STATE", 0)  # else only images of gigabytes need streaming
    segmenter = Segmenter(answer, spec, calibration=calibration(spec))
    fits = plan_memory(many).streamed
    streamed, bare = (evaluate(segmenter, many, memory=m) for m in (fits, fits - 1))
    assert streamed.memory is not None
    assert bare.memory is not None
    assert (streamed.engine, streamed.memory.pixel_intervals) == ("streaming", True)
    assert (bare.engine, bare.memory.pixel_intervals) == ("streaming", False)
    exact = evaluate(segmenter, many, memory=1 << 40)
    for sure, found, plain in zip(*map(numbers, (exact, streamed, bare)), strict=True):
        for name in found:
            if not name.startswith(("pixel_a", "pixel_f1_max", "aupro")):
                continue
            assert found[name].certified == plain[name].certified
            assert (plain[name].low, plain[name].high) == (None, None)
            ends = found[name].low, found[name].high
            assert ends == pytest.approx((sure[name].low, sure[name].high), abs=1e-3), name
    saved = streamed.to_dict()["categories"][0]["metrics"]["pixel_ap"]
    assert sorted(saved) == ["certified", "high", "low", "value"]
    assert saved["low"] < saved["value"] < saved["high"]
    off = evaluate(segmenter, many, memory=10_000, intervals=False)
    assert {n.low for n in numbers(off)[0].values() if n} == {None}


def test_streamed_scores_that_lie_too_close_have_no_interval(
    spec: ModelSpec, many: list[ImageRecord], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(memory, "STREAM_STATE", 0)
    segmenter = Segmenter(lambda batch: (0.001 * answer(batch)).astype(np.float32), spec)
    streamed = evaluate(segmenter, many, memory=plan_memory(many).streamed)
    assert "pixel_ap" in streamed.too_close
    assert set(streamed.too_close) <= {n for n in RANKING if n.startswith(("pixel", "aupro"))}
    for found in numbers(streamed):
        for name, number in found.items():
            if number is not None and number.too_close:
                assert (number.low, number.high) == (None, None), name
                assert number.certified is not None
    mean = streamed.mean_numbers["pixel_ap"]
    assert (mean.low, mean.too_close) == (None, True)
    streamed.save(tmp_path)
    saved = json.loads((tmp_path / "evaluation.json").read_text())
    assert saved["too_close"] == list(streamed.too_close)
    assert evaluate(segmenter, many, memory=1 << 40).too_close == ()


def test_streaming_without_defects_is_undefined_too(spec: ModelSpec, draw: Draw) -> None:
    (row,) = evaluate(Segmenter(answer, spec), [draw(), draw()], memory=1).categories
    assert set(row.metrics.values()) == {None}
    defects = [draw("cut", mask=box(0, 0, 4, 4)) for _ in range(2)]
    (row,) = evaluate(Segmenter(answer, spec), defects, memory=1).categories
    assert row.metrics["pixel_auroc"] == 0.5
    assert row.metrics["image_auroc"] is None


def test_it_is_exact_from_the_bytes_on_that_it_needs(spec: ModelSpec, draw: Draw) -> None:
    records = [draw() for _ in range(3)] + [draw(category="brick")]
    needed = plan_memory(records).needed
    assert needed > 3 * 20 * 30 * 5  # the largest category
    segmenter = Segmenter(answer, spec)
    assert evaluate(segmenter, records, memory=needed).engine == "exact"
    assert evaluate(segmenter, records, memory=needed - 1).engine == "streaming"
    assert evaluate(segmenter, records, memory=needed - 1, intervals=False).engine == "exact"


def test_progress_is_told_image_by_image(spec: ModelSpec, many: list[ImageRecord]) -> None:
    seen: list[ImageRecord] = []
    evaluate(Segmenter(answer, spec), many, on_image=seen.append, intervals=False)
    assert sorted(seen, key=lambda r: r.path) == sorted(many, key=lambda r: r.path)
