"""Thresholds come from held-out images and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from anomaly_u2net.calibration import Costs, Terms, false_reject, what_if
from anomaly_u2net.errors import CalibrationError, InputError, LeakError
from anomaly_u2net.evaluation import calibrate, held_out_scores
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
    found = calibrate(segmenter, held_out, terms=Terms(false_reject=0.2))
    assert list(found.categories) == ["plate", "sheet"]
    for name, thresholds in found.categories.items():
        own = predict_records(segmenter, [r for r in held_out if r.category == name])
        good = [s for s, ng in zip(own.scores, own.defective, strict=True) if not ng]
        # 4 good images promise 1 in 5 with the highest of their scores.
        assert (len(good), thresholds.image.n) == (4, 4)
        assert thresholds.image.value == max(good)
        assert thresholds.image_best_f1 is not None
    assert found.images["plate"] == {"good": 4, "defective": 1}
    assert (found.model_hash, found.recipe_hash) == (segmenter.model_hash, segmenter.recipe_hash)
    assert found.split == "calibration"


def test_best_f1_for_pixels(segmenter: Segmenter, held_out: list[ImageRecord]) -> None:
    found = calibrate(segmenter, held_out, terms=Terms(false_reject=0.2, pixel_rule="best_f1"))
    assert {t.pixel.rule for t in found.categories.values()} == {"best_f1"}
    assert {t.image.rule for t in found.categories.values()} == {"false_reject"}


@pytest.mark.parametrize("split", ["test", "train", "validation"])
def test_any_other_split_is_a_leak(
    segmenter: Segmenter, held_out: list[ImageRecord], split: str
) -> None:
    one = replace(held_out[-1], split=split)  # type: ignore[arg-type]
    text = rf"is of the split '{split}': thresholds come from held-out images only"
    with pytest.raises(LeakError, match=text):
        calibrate(segmenter, [*held_out[:-1], one], terms=Terms(false_reject=0.2))


def test_no_images(segmenter: Segmenter) -> None:
    text = r"no held-out images: set data.calibration_fraction above 0, or add a validation/"
    with pytest.raises(CalibrationError, match=text):
        calibrate(segmenter, [])


def test_too_few_images(segmenter: Segmenter, held_out: list[ImageRecord]) -> None:
    with pytest.raises(CalibrationError, match=r"plate: a false-reject rate .* at least 19"):
        calibrate(segmenter, held_out)
    weaker = calibrate(segmenter, held_out, terms=Terms(allow_weaker=True))
    assert weaker.categories["plate"].image.promise.startswith("Weaker than the 5 % asked for")


def test_an_unknown_rule(segmenter: Segmenter, held_out: list[ImageRecord]) -> None:
    with pytest.raises(
        InputError, match=r"expected a pixel rule, one of false_reject, pixel_false_share"
    ):
        calibrate(segmenter, held_out, terms=Terms(pixel_rule="youden"))


def test_two_thresholds_and_costs_reach_the_rules(
    segmenter: Segmenter, held_out: list[ImageRecord]
) -> None:
    two = calibrate(segmenter, held_out, terms=Terms(rule="both", false_reject=0.2, missed=0.5))
    assert {t.image.rule for t in two.categories.values()} <= {"false_reject", "both"}
    costs = Costs(overkill=1, escape=20, defect_rate=0.1)
    cheap = calibrate(segmenter, held_out, terms=Terms(rule="cost", costs=costs, false_reject=0.2))
    assert cheap.categories["plate"].image.parameters == {
        "overkill": 1.0, "escape": 20.0, "defect_rate": 0.1,
    }  # fmt: skip
    sure = calibrate(segmenter, held_out, terms=Terms(false_reject=0.5, delta=0.1))
    assert sure.categories["plate"].image.parameters == {"alpha": 0.5, "delta": 0.1}


def test_little_memory_streams_and_says_so(
    segmenter: Segmenter, held_out: list[ImageRecord]
) -> None:
    terms = Terms(false_reject=0.4, pixel_rule="pixel_false_share")
    mixed = [replace(r, group=f"part {i % 3}") for i, r in enumerate(held_out)]
    exact = calibrate(segmenter, mixed, terms=terms).categories
    little = calibrate(segmenter, mixed, terms=terms, memory=1000).categories
    for name, one in exact.items():
        other = little[name]
        assert (other.image, other.image_best_f1) == (one.image, one.image_best_f1)
        assert one.pixel is not None
        assert other.pixel is not None
        assert one.pixel.value <= other.pixel.value <= one.pixel.value + 1e-4
        assert "Streamed: rounded up" in other.pixel.promise
        assert "Streamed" not in one.pixel.promise
    with pytest.raises(InputError, match="1 byte of memory or more, got 0"):
        calibrate(segmenter, held_out, memory=0)


def test_a_threshold_by_hand(segmenter: Segmenter, held_out: list[ImageRecord]) -> None:
    terms = Terms(rule="given", threshold=0.5, false_reject=0.2)
    for thresholds in calibrate(segmenter, held_out, terms=terms).categories.values():
        assert (thresholds.image.rule, thresholds.image.value) == ("given", 0.5)
        assert thresholds.image.promise.startswith("Chosen by hand; ")


def test_one_model_has_no_folds(segmenter: Segmenter, held_out: list[ImageRecord]) -> None:
    with pytest.raises(CalibrationError, match="a run has one model: put the scores in a file"):
        calibrate(segmenter, held_out, terms=Terms(rule="cross_conformal"))


def test_images_of_one_part_count_once(segmenter: Segmenter, held_out: list[ImageRecord]) -> None:
    parts = [replace(record, group=f"part {index // 2}") for index, record in enumerate(held_out)]
    found = calibrate(segmenter, parts, terms=Terms(false_reject=0.4)).categories["plate"].image
    own = predict_records(segmenter, [r for r in parts if r.category == "plate"])
    good = [not ng for ng in own.defective]
    groups = [r.group for r, ok in zip(own.records, good, strict=True) if ok]
    scores = [s for s, ok in zip(own.scores, good, strict=True) if ok]
    assert (found.unit, found.n) == ("group", len(set(groups)))
    assert found.value == false_reject(scores, alpha=0.4, groups=groups)


def test_held_out_scores_are_those_that_are_calibrated(
    segmenter: Segmenter, held_out: list[ImageRecord]
) -> None:
    seen: list[ImageRecord] = []
    scores = held_out_scores(segmenter, held_out, on_image=seen.append)
    assert sorted(seen, key=str) == sorted(held_out, key=str)
    assert {name: (one.good.size, one.defective.size) for name, one in scores.items()} == {
        "plate": (4, 1), "sheet": (4, 1),
    }  # fmt: skip
    limits = calibrate(segmenter, held_out, terms=Terms(false_reject=0.2)).categories
    for name, one in scores.items():
        (row,) = what_if(one.good, one.defective, alphas=[0.2])
        assert row.threshold == limits[name].image.value
    with pytest.raises(LeakError, match="held-out"):
        held_out_scores(segmenter, [replace(held_out[0], split="test")])


def test_near_duplicates_without_groups_are_named(
    segmenter: Segmenter, held_out: list[ImageRecord], caplog: pytest.LogCaptureFixture
) -> None:
    held_out_scores(segmenter, held_out)
    assert not caplog.records
    good = [r for r in held_out if r.category == "plate" and not r.defective]
    calibrate(segmenter, [*held_out, good[0]], terms=Terms(false_reject=0.2))
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("plate: 1 of 6 calibration images without a group look nearly like")
    assert "groups.csv" in said
    caplog.clear()
    partly = [replace(good[1], group="a"), *(r for r in [*held_out, good[0]] if r != good[1])]
    held_out_scores(segmenter, partly)  # the group of one image says nothing of the others
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("plate: 1 of 5 calibration images without a group look nearly like")
    caplog.clear()
    known = [replace(r, group=r.path.name) for r in [*held_out, good[0]]]
    held_out_scores(segmenter, known)
    assert not caplog.records
