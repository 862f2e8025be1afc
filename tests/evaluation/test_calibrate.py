"""Thresholds come from held-out images and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from anomaly_u2net.errors import CalibrationError, InputError, LeakError
from anomaly_u2net.evaluation import calibrate
from anomaly_u2net.evaluation.predictions import predict_records
from anomaly_u2net.evaluation.runs import run_records
from anomaly_u2net.inference.segmenter import Segmenter
from anomaly_u2net.types import ImageRecord


@pytest.fixture(scope="module")
def segmenter(tiny_run: Path) -> Segmenter:
    return Segmenter.load(tiny_run, threads=1)


@pytest.fixture(scope="module")
def held_out(tiny_run: Path) -> list[ImageRecord]:
    return run_records(tiny_run, "calibration")


def test_each_category_has_thresholds_of_its_own(
    segmenter: Segmenter, held_out: list[ImageRecord]
) -> None:
    found = calibrate(segmenter, held_out, false_reject=0.2)
    assert list(found.categories) == ["plate", "sheet"]
    predictions = dict(predict_records(segmenter, held_out))
    for name, thresholds in found.categories.items():
        own = predictions[name]
        good = [s for s, ng in zip(own.scores, own.defective, strict=True) if not ng]
        # 4 good images promise 1 in 5 with the highest of their scores.
        assert (len(good), thresholds.image.n) == (4, 4)
        assert thresholds.image.value == max(good)
        assert thresholds.image_best_f1 is not None
    assert found.images["plate"] == {"good": 4, "defective": 1}
    assert (found.model_hash, found.recipe_hash) == (segmenter.model_hash, segmenter.recipe_hash)
    assert found.split == "calibration"


def test_best_f1_for_pixels(segmenter: Segmenter, held_out: list[ImageRecord]) -> None:
    found = calibrate(segmenter, held_out, false_reject=0.2, pixel_rule="best_f1")
    assert {t.pixel.rule for t in found.categories.values()} == {"best_f1"}
    assert {t.image.rule for t in found.categories.values()} == {"false_reject"}


@pytest.mark.parametrize("split", ["test", "train", "validation"])
def test_any_other_split_is_a_leak(
    segmenter: Segmenter, held_out: list[ImageRecord], split: str
) -> None:
    one = replace(held_out[-1], split=split)  # type: ignore[arg-type]
    text = rf"is of the split '{split}': thresholds come from held-out images only"
    with pytest.raises(LeakError, match=text):
        calibrate(segmenter, [*held_out[:-1], one], false_reject=0.2)


def test_no_images(segmenter: Segmenter) -> None:
    text = r"no held-out images: set data.calibration_fraction above 0, or add a validation/"
    with pytest.raises(CalibrationError, match=text):
        calibrate(segmenter, [])


def test_too_few_images(segmenter: Segmenter, held_out: list[ImageRecord]) -> None:
    with pytest.raises(CalibrationError, match=r"19"):
        calibrate(segmenter, held_out)
    weaker = calibrate(segmenter, held_out, allow_weaker=True)
    assert weaker.categories["plate"].image.promise.startswith("Weaker than the 5 % asked for")


def test_an_unknown_rule(segmenter: Segmenter, held_out: list[ImageRecord]) -> None:
    with pytest.raises(InputError, match=r"expected a pixel rule, one of false_reject, best_f1"):
        calibrate(segmenter, held_out, pixel_rule="youden")  # type: ignore[arg-type]
