"""Is A better than B? The stub networks answer with what is drawn, B less surely."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from anomaly_u2net.calibration import Calibration, CategoryThresholds, Threshold
from anomaly_u2net.data.geometry import MEAN, STD
from anomaly_u2net.errors import DatasetError
from anomaly_u2net.evaluation import METRICS, evaluate, memory
from anomaly_u2net.evaluation.compare import Comparison, compare, same_images, verdict
from anomaly_u2net.evaluation.table import mean_limits
from anomaly_u2net.inference.bundle import ModelSpec
from anomaly_u2net.inference.segmenter import Segmenter
from anomaly_u2net.metrics import Difference, paired_difference, resampled, scores_by_image
from anomaly_u2net.recipe import Recipe
from anomaly_u2net.types import ImageRecord

SIZE = (20, 30)


def model(noise: float, *, calibrated: bool = True, scale: float = 1.0) -> Segmenter:
    """The probability of a pixel is its red value / 255, moved by noise that is its own.

    scale: of the logits; a small one leaves all probabilities near 0.5.
    """
    recipe = Recipe.from_dict(
        {"name": f"n{noise}", "input": {"fit": "native"}, "augment": {"crop": 32}}
    )
    spec = ModelSpec(
        name=f"n{noise}", model=recipe.model, input=recipe.input, score=recipe.score,
        recipe_hash=recipe.digest, files={},
    )  # fmt: skip
    limit = Threshold(0.5, "false_reject", "At most 5 %.", 19, {"alpha": 0.05}, attained=0.05)
    calibration = Calibration(
        categories={"tile": CategoryThresholds(limit, limit)},
        model_hash=spec.digest,
        recipe_hash=spec.recipe_hash,
        split="calibration",
        images={"tile": {"good": 19, "defective": 0}},
    )

    def answer(batch: np.ndarray) -> np.ndarray:
        red = np.clip(batch[:, :1] * STD[0] + MEAN[0], 1e-3, 1 - 1e-3)
        logits = np.log(red / (1 - red))
        rng = np.random.default_rng(abs(hash(float(red.sum()))))
        return (scale * (logits + noise * rng.normal(size=logits.shape))).astype(np.float32)

    return Segmenter(answer, spec, calibration=calibration if calibrated else None)


@pytest.fixture
def records(tmp_path: Path, write_png: Callable[..., None]) -> list[ImageRecord]:
    """12 good images and 12 with a defect of another gray each."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(24):
        pixels = np.full(SIZE, 51 + number % 12, np.uint8)
        image, mask = tmp_path / f"{number}.png", None
        if number >= 12:
            top, left = rng.integers(0, 10, 2)
            pixels[top : top + 8, left : left + 8] = rng.integers(110, 180)
            truth = np.zeros(SIZE, np.uint8)
            truth[top : top + 8, left : left + 8] = 255
            mask = tmp_path / f"{number}_mask.png"
            write_png(truth, mask)
        write_png(pixels, image)
        made.append(ImageRecord(image, "tile", "test", "cut" if mask else "good", mask))
    return made


def test_the_better_model_is_found(records: list[ImageRecord]) -> None:
    a, b = model(0.1), model(1.5)
    found = compare(a, b, records).categories["tile"]
    assert list(found) == list(METRICS)
    of_a, of_b = (evaluate(m, records).categories[0].metrics for m in (a, b))
    for name, difference in found.items():
        if difference is not None:
            assert difference.value == pytest.approx(of_a[name] - of_b[name], abs=1e-12)
            assert difference.low <= difference.value <= difference.high
    for name in ("pixel_auroc", "pixel_ap", "aupro_0.30", "false_reject"):
        difference = found[name]
        assert difference is not None
        assert verdict(name, difference) == "A"
        assert difference.p < 0.05
    back = compare(b, a, records).categories["tile"]["pixel_ap"]
    assert back is not None
    assert (back.value, verdict("pixel_ap", back)) == (-found["pixel_ap"].value, "B")


def test_a_model_is_no_better_than_itself(records: list[ImageRecord]) -> None:
    for difference in compare(model(1.0), model(1.0), records).categories["tile"].values():
        if difference is not None:
            assert (difference.value, difference.low, difference.high) == (0.0, 0.0, 0.0)
            assert difference.p == 1.0
            assert verdict("pixel_ap", difference) == ""


def test_what_one_model_lacks_is_not_compared(records: list[ImageRecord], tmp_path: Path) -> None:
    result = compare(model(0.1), model(1.5, calibrated=False), records, split="validation")
    row = result.categories["tile"]
    assert row["missed"] is None
    assert row["image_auroc"] is not None
    few = compare(model(0.1), model(1.5), records[9:16]).categories["tile"]
    assert set(few.values()) == {None}  # 3 good images and 4 defects
    result.save(tmp_path)
    saved = json.loads((tmp_path / "comparison.json").read_text())
    assert saved == result.to_dict()
    assert saved["format"] == "anomaly_u2net.comparison/1"
    assert saved["split"] == "validation"
    assert saved["categories"]["tile"]["missed"] is None
    assert saved["categories"]["tile"]["pixel_ap"]["level"] == 0.95


def test_progress_counts_both_models(records: list[ImageRecord]) -> None:
    seen: list[ImageRecord] = []
    compare(model(0.1), model(1.5), records, on_image=seen.append)
    assert len(seen) == 2 * len(records)


def test_other_images_are_refused(records: list[ImageRecord]) -> None:
    same_images(records, records[::-1])
    with pytest.raises(DatasetError, match=r"these runs have others in this split \(24 and 23\)"):
        same_images(records, records[1:])


def test_nothing_to_compare_on() -> None:
    with pytest.raises(DatasetError, match=r"no images in split 'test': nothing to compare on"):
        compare(model(0.1), model(1.5), [])


def test_too_little_memory(records: list[ImageRecord]) -> None:
    with pytest.raises(DatasetError, match=r"may use 9.8 KiB: allow more memory, or compare on fe"):
        compare(model(0.1), model(1.5), records, memory=10_000)


# --- the mean over categories


def test_the_mean_over_categories(records: list[ImageRecord], tmp_path: Path) -> None:
    both = [*records, *(replace(record, category="brick") for record in records)]
    result = compare(model(0.1), model(1.5), both)
    name = "pixel_ap"
    one, other = (result.categories[category][name] for category in ("brick", "tile"))
    mean = result.mean[name]
    assert one is not None
    assert mean is not None
    assert one == other  # the same images under two names
    assert mean.value == pytest.approx(one.value)
    # Two equal and independent differences: the spread of their mean is smaller by the root of 2.
    assert mean.value - mean.low == pytest.approx((one.value - one.low) / 2**0.5)
    assert mean.high - mean.value == pytest.approx((one.high - one.value) / 2**0.5)
    assert verdict(name, mean) == "A"
    assert result.mean["missed"] is None  # only tiles are calibrated
    result.save(tmp_path)
    saved = json.loads((tmp_path / "comparison.json").read_text())
    assert saved["mean"][name] == {"value": mean.value, "low": mean.low, "high": mean.high}
    assert list(saved["mean"]) == list(METRICS)


def test_the_limits_of_a_mean_are_about_those_of_resampling_all_categories() -> None:
    """The oracle: each category resampled by itself, the mean taken in every resample."""
    rng, labels = np.random.default_rng(1), np.arange(60) % 2
    differences, means = [], np.zeros(4000)
    for seed in range(3):
        part = rng.normal(size=60)
        a, b = (labels * step + part + 0.5 * rng.normal(size=60) for step in (1.2, 0.6))
        numbers = scores_by_image(a, labels).auroc(), scores_by_image(b, labels).auroc()
        differences.append(paired_difference(*numbers, resamples=4000))
        of_a, of_b = (resampled(n, resamples=4000, seed=seed).samples for n in numbers)
        means += (of_a - of_b) / 3
    low, high = mean_limits([(d.value, d.low, d.high) for d in differences])
    assert (low, high) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.01)
    assert 0 < low < high


# --- streaming


def test_a_streamed_difference_must_be_wider_than_its_certificate() -> None:
    narrow = Difference(0.02, 0.001, 0.04, 0.01, 0.95, 1000, 0)
    assert verdict("pixel_ap", narrow, within=0.0005) == "A"
    assert verdict("pixel_ap", narrow, within=0.002) == ""
    result = Comparison({}, "test", "", ("", ""), "streaming", 0.002)
    assert [result.within(name) for name in ("pixel_ap", "image_ap")] == [0.002, 0.0]


def test_streamed_models_are_compared_too(
    records: list[ImageRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "STREAM_STATE", 0)  # else only images of gigabytes need streaming
    a, b = model(0.1), model(1.5)
    streamed = compare(a, b, records, memory=memory.plan_memory(records, models=2).streamed)
    exact = compare(a, b, records, memory=1 << 40)
    assert (exact.engine, exact.certified_within) == ("exact", 0.0)
    assert streamed.engine == "streaming"
    assert 0 < streamed.certified_within < 0.01
    assert streamed.to_dict()["certified_within"] == streamed.certified_within
    for name, sure in exact.categories["tile"].items():
        found = streamed.categories["tile"][name]
        if name == "aupimo" or sure is None:
            assert found is None
            continue
        assert found.value == pytest.approx(sure.value, abs=streamed.certified_within)
        assert (found.low, found.high) == pytest.approx((sure.low, sure.high), abs=2e-3), name
        assert verdict(name, found, within=streamed.within(name)) in (verdict(name, sure), "")


def test_what_one_model_has_too_close_together_is_not_compared(
    records: list[ImageRecord], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(memory, "STREAM_STATE", 0)
    allowed = memory.plan_memory(records, models=2).streamed
    sure, close = model(0.1), model(1.5, scale=0.001)
    for a, b in ((sure, close), (close, sure)):
        result = compare(a, b, records, memory=allowed)
        row = result.categories["tile"]
        assert "pixel_ap" in result.too_close
        assert {row[name] for name in result.too_close} == {None}
        assert result.mean["pixel_ap"] is None
        assert row["image_auroc"] is not None  # needs no bins
        # The certificates of what is not compared do not widen the others.
        assert result.certified_within < 2e-3
        result.save(tmp_path)
        saved = json.loads((tmp_path / "comparison.json").read_text())
        assert saved["too_close"] == list(result.too_close)
    assert compare(sure, close, records, memory=1 << 40).too_close == ()
