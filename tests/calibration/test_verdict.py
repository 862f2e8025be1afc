from __future__ import annotations

import numpy as np
import pytest

from anomaly_u2net.calibration import (
    CategoryThresholds,
    Terms,
    Threshold,
    calibrate_category,
    decide,
    judge,
)
from anomaly_u2net.errors import CalibrationError, InputError, MapError
from anomaly_u2net.metrics import topk_mean


def limits(image: float, pixel: float) -> CategoryThresholds:
    def limit(value: float) -> Threshold:
        return Threshold(value, "false_reject", "At most 5 %.", 19, {"alpha": 0.05}, attained=0.05)

    return CategoryThresholds(limit(image), limit(pixel))


def score_map() -> np.ndarray:
    made = np.full((8, 10), 0.125, np.float32)
    made[1:3, 2:6] = 0.75
    made[6, 9] = 0.625
    return made


def test_known_by_hand() -> None:
    verdict = judge(score_map(), limits(0.5, 0.5))
    assert (verdict.decision, verdict.image_score) == ("NG", 0.75)
    assert (verdict.image_threshold, verdict.pixel_threshold) == (0.5, 0.5)
    assert [region.area for region in verdict.regions] == [8, 1]
    assert verdict.regions[0].box == (2, 1, 4, 2)


def test_a_score_at_the_threshold_is_ok() -> None:
    verdict = judge(score_map(), limits(0.75, 0.75))
    assert (verdict.decision, verdict.regions) == ("OK", ())
    below = float(np.nextafter(np.float32(0.75), np.float32(0)))
    assert judge(score_map(), limits(below, below)).decision == "NG"


def test_small_regions_are_not_listed() -> None:
    assert judge(score_map(), limits(0.5, 0.5), min_area=2).area == 8


def test_the_named_image_score_decides() -> None:
    verdict = judge(score_map(), limits(0.7, 0.5), image_score="topk_mean")
    assert verdict.image_score == topk_mean(score_map())
    assert judge(score_map(), limits(0.7, 0.5), image_score="area_above:0.5").image_score == (
        float((score_map() > 0.5).mean())
    )
    with pytest.raises(InputError, match="one of max, topk_mean, area_above:LEVEL, got 'mean'"):
        judge(score_map(), limits(0.5, 0.5), image_score="mean")


def test_nan_and_bad_shapes_are_errors_and_never_ok() -> None:
    broken = score_map()
    broken[0, 0] = np.nan
    with pytest.raises(MapError, match="1 of 80 pixels are NaN"):
        judge(broken, limits(0.5, 0.5))
    with pytest.raises(MapError, match=r"shape \(H, W\)"):
        judge(score_map()[None], limits(0.5, 0.5))
    with pytest.raises(InputError, match="min_area of 1 pixel or more"):
        judge(score_map(), limits(0.5, 0.5), min_area=0)


def test_held_out_images_meet_their_own_thresholds() -> None:
    random = np.random.default_rng(5)
    maps = list(random.random((40, 4, 4)).astype(np.float32))
    masks = [np.zeros((4, 4), bool)] * 40
    peaks = [float(made.max()) for made in maps]
    thresholds = calibrate_category(peaks, maps, masks, terms=Terms(false_reject=0.1))
    verdicts = [judge(made, thresholds) for made in maps]
    # 41 × 0.1 = 4.1: four images of 41 may be above, one of which is the next one.
    assert sum(verdict.decision == "NG" for verdict in verdicts) == 3
    assert all((verdict.decision == "NG") == (verdict.area > 0) for verdict in verdicts)


def test_between_two_thresholds_is_review() -> None:
    upper, pixel = limits(0.75, 0.5).image, limits(0.75, 0.5).pixel
    lower = Threshold(0.25, "missed_defects", "At most 5 %.", 19, {"beta": 0.05}, attained=0.05)
    thresholds = CategoryThresholds(upper, pixel, review=lower)
    verdict = judge(score_map(), thresholds)
    assert (verdict.decision, verdict.image_threshold) == ("REVIEW", 0.75)
    assert verdict.review_threshold == 0.25
    assert judge(score_map(), limits(0.75, 0.5)).review_threshold is None
    assert [decide(s, thresholds) for s in (0.25, 0.2501, 0.75, 0.7501)] == [
        "OK", "REVIEW", "REVIEW", "NG",
    ]  # fmt: skip
    with pytest.raises(CalibrationError, match=r"review threshold must be below .* 0.75, got 0.75"):
        CategoryThresholds(upper, pixel, review=upper)


def test_a_map_needs_a_pixel_threshold() -> None:
    only_images = CategoryThresholds(limits(0.5, 0.5).image, None)
    with pytest.raises(CalibrationError, match="from image scores alone and have no pixel"):
        judge(score_map(), only_images)
