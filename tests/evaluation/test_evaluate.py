"""Numbers known by hand: the stub network answers with what is drawn into the image."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from anomaly_u2net.calibration import Calibration, CategoryThresholds, Threshold
from anomaly_u2net.data.geometry import MEAN, STD
from anomaly_u2net.errors import CalibrationError, DatasetError, MaskError
from anomaly_u2net.evaluation import METRICS, evaluate, score_records
from anomaly_u2net.inference.bundle import ModelSpec
from anomaly_u2net.inference.segmenter import Segmenter
from anomaly_u2net.metrics import image_auroc, pixel_curve
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


def calibration(spec: ModelSpec, *, value: float = 0.5, f1: float | None = 0.5) -> Calibration:
    limit = Threshold(value, "false_reject", "At most 5 %.", 19, 0.05, 0.05)
    best = None if f1 is None else Threshold(f1, "best_f1", "No guarantee.", 20, None, None)
    return Calibration(
        categories={"tile": CategoryThresholds(limit, limit, best, best)},
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
    negatives = 3 * 600 + 800 - 80
    flat = negatives - 10
    assert row.metrics["pixel_auroc"] == pytest.approx(
        (20 * negatives + 60 * flat / 2) / (80 * negatives)
    )
    assert row.labels == {
        "cut": {"images": 1.0, "found": 1.0, "iou": 0.5},
        "dent": {"images": 1.0, "found": 0.0, "iou": 0.0},
    }
    assert list(row.metrics) == list(METRICS)


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
    metrics = evaluate(segmenter, records).categories[0].metrics
    assert metrics["pixel_auroc"] == curve.auroc()
    assert metrics["pixel_ap"] == curve.ap()
    assert metrics["aupro_0.30"] == curve.aupro(fpr_limit=0.3)
    assert metrics["aupro_0.05"] == curve.aupro(fpr_limit=0.05)
    assert metrics["pixel_f1_max"] == curve.f1_max()
    assert metrics["image_auroc"] == image_auroc([m.max() for m in maps], [False, True, True])


def test_without_a_calibration_nothing_needs_a_threshold(spec: ModelSpec, draw: Draw) -> None:
    records = [draw(), draw("cut", box=box(5, 5, 5, 4), mask=box(5, 5, 5, 8))]
    (row,) = evaluate(Segmenter(answer, spec), records).categories
    empty = {"pixel_f1", "pixel_iou", "pixel_iou_best_f1", "false_reject", "missed"}
    assert {name for name, value in row.metrics.items() if value is None} == empty
    assert row.labels == {}


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
    assert set(row.metrics.values()) == {None}
    result.save(tmp_path / "out")
    saved = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert saved["mean"] == dict.fromkeys(METRICS)
    header, tile, mean = csv.reader((tmp_path / "out/evaluation.csv").read_text().splitlines())
    assert header == ["category", "good", "defective", *METRICS]
    assert tile == ["tile", "2", "0", *["n/a"] * len(METRICS)]
    assert mean == ["mean", "", "", *["n/a"] * len(METRICS)]


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
    assert saved["format"] == "anomaly_u2net.evaluation/1"
    assert saved["split"] == "validation"
    assert (saved["model_hash"], saved["recipe_hash"]) == (spec.digest, spec.recipe_hash)
    assert saved["calibration_hash"] == known.digest


def test_scores_to_choose_by_are_pooled(spec: ModelSpec, draw: Draw) -> None:
    records = [
        draw(box=box(0, 0, 2, 5), gray=204),
        draw("cut", category="brick", box=box(5, 5, 5, 8), gray=153, mask=box(5, 5, 5, 8)),
    ]
    scores = score_records(Segmenter(answer, spec), records)
    assert list(scores) == ["pixel_auroc", "pixel_ap", "aupro", "image_auroc"]
    assert scores["image_auroc"] == 0.0  # across categories: 0.8 good, 0.6 defective
    assert scores["pixel_ap"] == pytest.approx(40 / 50)
    assert score_records(Segmenter(answer, spec), []) == {}
    assert set(score_records(Segmenter(answer, spec), records[:1]).values()) == {None}


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
