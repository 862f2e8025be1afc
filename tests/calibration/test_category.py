from __future__ import annotations

import numpy as np
import pytest

from anomaly_u2net.calibration import (
    Costs,
    HeldOutImages,
    Terms,
    any_missed,
    both,
    calibrate_category,
    false_reject,
    false_reject_pac,
    least_cost,
    mean_sigma,
    missed_defects,
    missed_defects_pac,
    pixel_false_share,
    pixel_mean_sigma,
    rate_upper,
    region_peaks,
)
from anomaly_u2net.errors import CalibrationError, InputError, MapError
from anomaly_u2net.metrics import image_best_f1, pixel_best_f1


def held_out(
    good: int, defective: int, seed: int = 0
) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Image scores (their own, not the maximum), maps of two sizes, masks; defects score high."""
    random = np.random.default_rng(seed)
    maps, masks = [], []
    for index in range(good + defective):
        shape = (6, 5) if index % 2 else (4, 7)
        score_map = (0.4 * random.random(shape)).astype(np.float32)
        mask = np.zeros(shape, bool)
        if index >= good:
            mask[1:3, 1:3] = True
            score_map[mask] += 0.5
        maps.append(score_map)
        masks.append(mask)
    scores = np.array([score_map.mean() for score_map in maps])
    return scores, maps, masks


def test_each_threshold_is_its_rule_on_the_right_images() -> None:
    scores, maps, masks = held_out(39, 6)
    found = calibrate_category(scores, maps, masks)
    peaks = [float(score_map.max()) for score_map in maps[:39]]
    assert found.image.value == false_reject(scores[:39], alpha=0.05)
    assert found.pixel.value == false_reject(peaks, alpha=0.05) == sorted(peaks)[37]
    assert found.image_best_f1 is not None
    assert found.pixel_best_f1 is not None
    labels = np.arange(45) >= 39
    assert found.image_best_f1.value == image_best_f1(scores, labels).threshold
    assert found.pixel_best_f1.value == pixel_best_f1(maps, masks).threshold


def test_provenance() -> None:
    found = calibrate_category(*held_out(39, 6), terms=Terms(false_reject=0.06))
    assert (found.image.rule, found.image.n) == ("false_reject", 39)
    assert (found.image.parameters, found.image.unit) == ({"alpha": 0.06}, "image")
    assert found.image.false_reject_upper == rate_upper(1, 39)
    assert found.image.attained == 2 / 40
    assert found.image.promise == (
        "Of new good images like the 39 held out, at most 6 % are expected to be rejected "
        "(split conformal)."
    )
    assert "have any pixel marked" in found.pixel.promise
    assert found.pixel_best_f1 is not None
    assert (found.pixel_best_f1.rule, found.pixel_best_f1.n) == ("best_f1", 45)
    assert (found.pixel_best_f1.parameters, found.pixel_best_f1.attained) == ({}, None)
    assert "No guarantee: the highest pixel F1 (1.0000) on the 45 held-out images, 6 of them" in (
        found.pixel_best_f1.promise
    )


def test_values_are_plain_numbers() -> None:
    found = calibrate_category(*held_out(39, 6))
    assert found.pixel is not None
    for threshold in (found.image, found.pixel, found.image_best_f1, found.pixel_best_f1):
        assert threshold is not None
        assert type(threshold.value) is float
        assert type(threshold.n) is int


def test_best_f1_pixel_rule() -> None:
    found = calibrate_category(*held_out(39, 6), terms=Terms(pixel_rule="best_f1"))
    assert found.pixel is found.pixel_best_f1
    assert found.image.rule == "false_reject"


def test_without_defects_there_is_no_best_f1() -> None:
    found = calibrate_category(*held_out(19, 0))
    assert found.image_best_f1 is None
    assert found.pixel_best_f1 is None
    with pytest.raises(CalibrationError, match="best_f1 needs defects, but all 19 held-out"):
        calibrate_category(*held_out(19, 0), terms=Terms(pixel_rule="best_f1"))


def test_too_few_good_images() -> None:
    with pytest.raises(CalibrationError, match="needs at least 19 held-out good images, got 12"):
        calibrate_category(*held_out(12, 20))


def test_weaker_takes_the_attainable_rate_and_says_so() -> None:
    scores, maps, masks = held_out(12, 3)
    found = calibrate_category(scores, maps, masks, terms=Terms(allow_weaker=True))
    assert found.image.value == scores[:12].max()
    assert found.pixel.value == max(float(score_map.max()) for score_map in maps[:12])
    assert (found.image.parameters["alpha"], found.image.attained) == (0.05, 1 / 13)
    assert found.image.promise.startswith(
        "Weaker than the 5 % asked for, which needs 19 good images: of new good images like the "
        "12 held out, at most 7.7 %"
    )


def test_weaker_changes_nothing_where_there_are_enough() -> None:
    data = held_out(19, 2)
    assert calibrate_category(*data, terms=Terms(allow_weaker=True)) == calibrate_category(*data)


def test_the_pixel_promise_holds_over_redraws() -> None:
    random = np.random.default_rng(7)
    marked = 0
    for _ in range(600):
        maps = list(random.random((20, 3, 3)).astype(np.float32))
        masks = [np.zeros((3, 3), bool)] * 19
        found = calibrate_category([0.0] * 19, maps[:19], masks, terms=Terms(false_reject=0.1))
        marked += bool((maps[19] > found.pixel.value).any())
    assert marked / 600 <= 0.1 + 4 * np.sqrt(0.1 * 0.9 / 600)


def test_no_good_image() -> None:
    with pytest.raises(CalibrationError, match="none of the 4 held-out images is good"):
        calibrate_category(*held_out(0, 4), terms=Terms(allow_weaker=True))
    with pytest.raises(CalibrationError, match="no held-out images"):
        calibrate_category([], [], [])


def test_bad_inputs() -> None:
    scores, maps, masks = held_out(19, 1)
    with pytest.raises(InputError, match=r"shape \(20,\), 19 maps and 20 masks"):
        calibrate_category(scores, maps[1:], masks)
    with pytest.raises(InputError, match=r"pixel rule, one of false_reject, .* got 'otsu'"):
        calibrate_category(scores, maps, masks, terms=Terms(pixel_rule="otsu"))
    with pytest.raises(InputError, match=r"a rule, one of false_reject, .* got 'any_missed'"):
        calibrate_category(scores, maps, masks, terms=Terms(rule="any_missed"))
    with pytest.raises(InputError, match="19 groups for 20 images"):
        calibrate_category(scores, maps, masks, groups=["a"] * 19)
    with pytest.raises(InputError, match="pixel_false_share holds on average only"):
        calibrate_category(
            scores, maps, masks, terms=Terms(pixel_rule="pixel_false_share", delta=0.1)
        )
    with pytest.raises(InputError, match="rate between 0 and 1"):
        calibrate_category(scores, maps, masks, terms=Terms(false_reject=5))
    with pytest.raises(
        InputError, match=r"image 0: expected a finite number as its score, got .*nan"
    ):
        calibrate_category([np.nan, *scores[1:]], maps, masks)
    with pytest.raises(MapError, match=r"map 0 is \(4, 7\) but mask 0 is \(6, 5\)"):
        calibrate_category(scores, maps, [masks[1], *masks[1:]])
    maps[3] = np.full_like(maps[3], np.nan)
    with pytest.raises(MapError, match="map 3: 30 of 30 pixels are NaN"):
        calibrate_category(scores, maps, masks)


def test_every_rule_is_its_function() -> None:
    scores, maps, masks = held_out(60, 50)
    good, bad = scores[:60], scores[60:]
    peaks = [region_peaks(*pair) for pair in zip(maps[60:], masks[60:], strict=True)]
    tops = [float(plane.max()) for plane in maps[:60]]
    costs = Costs(1, 20, 0.05)

    def image(rule: str, **options: object) -> float:
        return calibrate_category(
            scores, maps, masks, terms=Terms(rule=rule, **options)
        ).image.value  # type: ignore[arg-type]

    def pixel(rule: str, **options: object) -> float:
        found = calibrate_category(
            scores, maps, masks, terms=Terms(pixel_rule=rule, **options)
        ).pixel  # type: ignore[arg-type]
        assert found is not None
        assert found.rule == rule
        return found.value

    assert image("false_reject", delta=0.1) == false_reject_pac(good, alpha=0.05, delta=0.1)
    assert image("missed_defects") == missed_defects(bad, beta=0.05)
    assert image("missed_defects", missed=0.1) == missed_defects(bad, beta=0.1)
    assert image("both") == both(good, bad, alpha=0.05, beta=0.05).upper
    assert image("cost", costs=costs) == least_cost(good, bad, costs=costs).threshold
    assert image("mean_sigma", sigmas=2) == mean_sigma(good, sigmas=2)
    assert image("best_f1") == image_best_f1(scores, np.arange(110) >= 60).threshold
    assert pixel("false_reject", delta=0.1) == false_reject_pac(tops, alpha=0.05, delta=0.1)
    assert pixel("pixel_false_share") == pixel_false_share(maps[:60], alpha=0.05)
    assert pixel("missed_defects") == missed_defects(peaks, beta=0.05)
    assert pixel("missed_defects", delta=0.1) == missed_defects_pac(peaks, beta=0.05, delta=0.1)
    assert pixel("any_missed") == any_missed(peaks, beta=0.05)
    assert pixel("mean_sigma") == pixel_mean_sigma(maps[:60])


def test_promises_in_words() -> None:
    data = held_out(60, 50)
    pac = calibrate_category(*data, terms=Terms(delta=0.1)).image
    assert pac.promise == (
        "With confidence 90 %, of new good images like the 60 held out, at most 5 % will be "
        "rejected (exact binomial)."
    )
    assert pac.parameters == {"alpha": 0.05, "delta": 0.1}
    assert pac.attained == rate_upper(0, 60, delta=0.1)
    missed = calibrate_category(
        *data, terms=Terms(rule="missed_defects", pixel_rule="missed_defects")
    )
    assert missed.image.promise == (
        "Of new defective images like the 50 held out, at most 5 % are expected to be called OK "
        "(conformal risk control)."
    )
    assert (missed.image.n, missed.image.attained) == (50, 2 / 51)
    assert missed.pixel is not None
    assert missed.pixel.promise.startswith("Of the defect regions of a new defective image like")
    found = calibrate_category(*data, terms=Terms(pixel_rule="any_missed", delta=0.1)).pixel
    assert found is not None
    assert "at most 5 % will have any defect region missed (learn then test)" in found.promise
    # The mean of a share bounds what is expected of a new image, with whatever confidence.
    sure = calibrate_category(
        *data, terms=Terms(rule="missed_defects", pixel_rule="missed_defects", delta=0.1)
    )
    assert sure.pixel is not None
    assert sure.pixel.promise == (
        "With confidence 90 %, of the defect regions of a new defective image like the 50 held "
        "out, at most 5 % are expected to be missed (learn then test)."
    )
    assert sure.image.promise == (
        "With confidence 90 %, of new defective images like the 50 held out, at most 5 % will be "
        "called OK (learn then test)."
    )
    parts = [*range(60), *range(100, 150)]
    shares = calibrate_category(
        *data, groups=parts, terms=Terms(rule="missed_defects", delta=0.1)
    ).image
    assert "of a new part like the 50 held out, at most 5 % are expected to be called OK" in (
        shares.promise
    )
    found = calibrate_category(*data, terms=Terms(pixel_rule="pixel_false_share")).pixel
    assert found is not None
    assert found.promise.startswith("Of the pixels of a new good image like the 60 held out, at")
    costs = calibrate_category(*data, terms=Terms(rule="cost", costs=Costs(1, 20, 0.05))).image
    assert costs.promise.startswith("No guaranteed rate: the least expected cost per part is")
    assert costs.parameters == {"overkill": 1.0, "escape": 20.0, "defect_rate": 0.05}
    assert calibrate_category(*data, terms=Terms(rule="mean_sigma")).image.promise == (
        "No guarantee: mean + 3 standard deviations of the image scores of 60 good images."
    )


def test_both_says_whether_one_is_enough() -> None:
    random = np.random.default_rng(0)
    maps = [np.full((2, 2), v, np.float32) for v in random.random(80)]
    masks = [np.full((2, 2), i >= 40) for i in range(80)]
    apart = np.r_[random.random(40), 2 + random.random(40)]
    one = calibrate_category(apart, maps, masks, terms=Terms(rule="both"))
    assert one.review is None
    assert one.image.rule == "both"
    assert one.image.parameters == {
        "alpha": 0.05, "beta": 0.05, "attained_alpha": 2 / 41, "attained_beta": 2 / 41,
    }  # fmt: skip
    assert one.image.promise.endswith("One threshold keeps both promises, so nothing needs review.")
    mixed = np.r_[random.random(40), 0.5 + random.random(40)]
    two = calibrate_category(mixed, maps, masks, terms=Terms(rule="both"))
    assert two.review is not None
    assert (two.review.rule, two.image.rule) == ("missed_defects", "false_reject")
    assert two.review.value < two.image.value
    assert "between them is REVIEW" in two.image.promise


def test_one_threshold_for_both_states_the_weaker_rate() -> None:
    """40 good images promise 5 %, five defective ones 1 in 6: the threshold promises 1 in 6."""
    scores = np.r_[np.linspace(0, 1, 40), np.linspace(2, 3, 5)]
    maps = [np.full((2, 2), v, np.float32) for v in scores]
    masks = [np.full((2, 2), i >= 40) for i in range(45)]
    one = calibrate_category(scores, maps, masks, terms=Terms(rule="both", allow_weaker=True)).image
    assert (one.rule, one.n, one.attained) == ("both", 5, 1 / 6)
    assert one.parameters == {
        "alpha": 0.05, "beta": 0.05, "attained_alpha": 2 / 41, "attained_beta": 1 / 6,
    }  # fmt: skip
    assert "Weaker than the 5 % asked for, which needs 19 defective images" in one.promise


def test_groups_count_parts() -> None:
    scores, maps, masks = held_out(40, 40)
    parts = [f"{i // 40}-{i % 40 // 2}" for i in range(80)]
    found = calibrate_category(
        scores, maps, masks, groups=parts, terms=Terms(pixel_rule="missed_defects")
    )
    assert (found.image.n, found.image.unit) == (20, "group")
    assert found.image.value == false_reject(scores[:40], alpha=0.05, groups=parts[:40])
    assert "new good parts like the 20 held out, at most 5 % are expected to have any image" in (
        found.image.promise
    )
    assert found.pixel is not None
    assert (found.pixel.n, found.pixel.unit) == (20, "group")
    assert "regions of a new defective part like the 20" in found.pixel.promise
    apart = calibrate_category(
        scores, maps, masks, groups=parts, terms=Terms(rule="missed_defects")
    ).image
    tangled = [f"{i % 40 // 2}" for i in range(80)]  # good and defective images of the same parts
    same = calibrate_category(
        scores, maps, masks, groups=tangled, terms=Terms(rule="missed_defects")
    ).image
    assert same.value == apart.value
    assert same.false_reject_upper is not None
    assert apart.false_reject_upper is not None
    assert same.false_reject_upper > apart.false_reject_upper
    unknown = calibrate_category(scores, maps, masks, groups=[None] * 80)
    assert (unknown.image.n, unknown.image.unit) == (40, "image")


def test_weaker_for_every_promise() -> None:
    data = held_out(12, 9)
    pac = calibrate_category(*data, terms=Terms(delta=0.1, allow_weaker=True)).image
    assert pac.promise.startswith("Weaker than the 5 % asked for, which needs 45 good images: with")
    assert pac.attained == pytest.approx(1 - 0.1 ** (1 / 12))
    found = calibrate_category(
        *data, terms=Terms(rule="missed_defects", pixel_rule="missed_defects", allow_weaker=True)
    )
    assert found.image.attained == 0.1
    assert found.image.promise.startswith("Weaker than the 5 % asked for, which needs 19 defective")
    share = calibrate_category(
        *data, terms=Terms(pixel_rule="pixel_false_share", allow_weaker=True)
    ).pixel
    assert share is not None
    assert share.attained == 1 / 13
    with pytest.raises(CalibrationError, match="at least 45 held-out good images, got 12"):
        calibrate_category(*data, terms=Terms(delta=0.1))


def test_rules_that_lack_what_they_need() -> None:
    data = held_out(19, 0)
    with pytest.raises(CalibrationError, match="missed_defects needs defects, but all 19"):
        calibrate_category(*data, terms=Terms(rule="missed_defects"))
    with pytest.raises(CalibrationError, match="K models that did not see it, and a run has one"):
        calibrate_category(*data, terms=Terms(rule="cross_conformal"))
    only_bad = calibrate_category(
        *held_out(0, 30), terms=Terms(rule="missed_defects", pixel_rule="any_missed")
    )
    assert only_bad.image.false_reject_upper is None


def test_a_score_that_is_no_number_is_refused_at_once() -> None:
    held = HeldOutImages(Terms(false_reject=0.5))
    plane, mask = np.zeros((2, 2), np.float32), np.zeros((2, 2), bool)
    for score in (np.nan, np.inf, "0.5", True, None, 1j, [0.5]):
        with pytest.raises(InputError, match="image 0: expected a finite number as its score"):
            held.add(score, plane, mask)  # type: ignore[arg-type]
    held.add(np.float32(0.5), plane, mask)  # type: ignore[arg-type]
    assert held.thresholds().image.n == 1


def test_scores_of_another_shape() -> None:
    plane, mask = np.zeros((2, 2), np.float32), np.zeros((2, 2), bool)
    with pytest.raises(InputError, match=r"scores of shape \(2, 2\), 4 maps and 4 masks"):
        calibrate_category(np.zeros((2, 2)), [plane] * 4, [mask] * 4)


def test_a_buffer_that_is_used_again() -> None:
    terms, mask = Terms(false_reject=0.25, pixel_rule="pixel_false_share"), np.zeros((4, 4), bool)
    maps = list(np.random.default_rng(0).random((8, 4, 4)).astype(np.float32))
    own, shared, buffer = HeldOutImages(terms), HeldOutImages(terms), np.empty((4, 4), np.float32)
    for plane in maps:
        own.add(0.0, plane, mask)
        buffer[:] = plane
        shared.add(0.0, buffer, mask)
    assert shared.thresholds() == own.thresholds()
    assert shared.thresholds().pixel.value == pixel_false_share(maps, alpha=0.25)


def test_each_side_has_its_unit() -> None:
    scores, maps, masks = held_out(40, 40)
    good_only = [*(f"g{i // 2}" for i in range(40)), *[None] * 40]
    terms = Terms(rule="missed_defects", pixel_rule="false_reject")
    found = calibrate_category(scores, maps, masks, groups=good_only, terms=terms)
    assert (found.image.n, found.image.unit, found.image.false_reject_unit) == (
        40,
        "image",
        "group",
    )
    assert (found.pixel.n, found.pixel.unit) == (20, "group")
    best = found.image_best_f1
    assert (best.n, best.unit, best.false_reject_unit) == (80, "image", "group")
    defects_only = [*[None] * 40, *(f"b{i // 2}" for i in range(40))]
    found = calibrate_category(scores, maps, masks, groups=defects_only, terms=terms)
    assert (found.image.n, found.image.unit, found.image.false_reject_unit) == (
        20,
        "group",
        "image",
    )
    assert (found.pixel.n, found.pixel.unit) == (40, "image")
    apart = np.r_[np.linspace(0, 1, 40), np.linspace(2, 3, 40)]
    one = calibrate_category(
        apart, maps, masks, groups=defects_only, terms=Terms(rule="both")
    ).image
    assert (one.rule, one.n, one.unit, one.false_reject_unit) == ("both", 20, "group", "image")
    for rule in (Terms(rule="mean_sigma"), Terms(rule="cost", costs=Costs(1, 20, 0.05))):
        image = calibrate_category(scores, maps, masks, groups=good_only, terms=rule).image
        assert (image.unit, image.false_reject_unit) == ("image", "group")


def test_limits_in_a_promise_are_rounded_up_and_confidence_down() -> None:
    weaker = calibrate_category(*held_out(26, 0), terms=Terms(false_reject=0.03, allow_weaker=True))
    assert weaker.image.attained == 1 / 27  # 0.037037
    assert "at most 3.71 % are expected" in weaker.image.promise
    sure = calibrate_category(*held_out(20, 0), terms=Terms(false_reject=0.5, delta=0.0004))
    assert sure.image.promise.startswith("With confidence 99.96 %, of new good images")


def test_too_few_parts_are_called_parts() -> None:
    scores, maps, masks = held_out(40, 40)
    parts = [f"{i // 40}-{i % 40 // 2}" for i in range(80)]
    for rule, pixel, kind in (
        ("false_reject", "pixel_false_share", "good"),
        ("missed_defects", "any_missed", "defective"),
    ):
        terms = Terms(
            rule=rule, pixel_rule=pixel, false_reject=0.01, missed=0.01, allow_weaker=True
        )
        found = calibrate_category(scores, maps, masks, groups=parts, terms=terms)
        for threshold in (found.image, found.pixel):
            assert threshold is not None
            assert threshold.promise.startswith(
                f"Weaker than the 1 % asked for, which needs 99 {kind} parts: "
            )


@pytest.mark.parametrize("rule", ["false_reject", "pixel_false_share"])
def test_an_error_of_the_pixel_rule_names_it(rule: str) -> None:
    terms = Terms(rule="given", threshold=0.5, pixel_rule=rule)
    with pytest.raises(CalibrationError) as caught:
        calibrate_category(*held_out(4, 2), terms=terms)
    text = str(caught.value)
    assert text.startswith(f"the pixel rule {rule}: a false-reject rate of 0.05 needs at least 19")
    assert "--allow-weaker" in text
    assert "cross_conformal" not in text  # of image scores only
