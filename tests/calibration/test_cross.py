from __future__ import annotations

import numpy as np
import pytest

from anomaly_u2net.calibration import cross_conformal, cross_conformal_p, false_reject
from anomaly_u2net.errors import CalibrationError, InputError


def test_known_by_hand() -> None:
    folds = [np.arange(5.0), np.arange(5.0, 10.0)]
    found = cross_conformal(folds, alpha=0.1)
    assert found.threshold == false_reject(np.arange(10.0), alpha=0.1) == 9.0
    # K = 2, n = 10: 2 · 0.9 · 1/12 = 0.15 and (1 − 2/10)/3 = 0.267.
    assert found.promised == pytest.approx(0.2 + 0.15)
    assert (found.n, found.folds, found.alpha) == (10, 2, 0.1)


def test_leave_one_out_promises_twice_alpha() -> None:
    assert cross_conformal([[i] for i in range(19)], alpha=0.05).promised == pytest.approx(0.1)
    uneven = cross_conformal([[1.0], *[[i, i] for i in range(9)]], alpha=0.05)
    assert uneven.promised == pytest.approx(0.1 + 2 * 0.95 * 9 / 29)


def test_the_promise_in_words() -> None:
    threshold = cross_conformal([[i] for i in range(19)], alpha=0.05).as_threshold()
    assert (threshold.value, threshold.rule, threshold.n) == (18.0, "cross_conformal", 19)
    assert threshold.attained == pytest.approx(0.1)
    assert threshold.parameters == {"alpha": 0.05, "aimed_alpha": 0.05, "folds": 19.0}
    assert threshold.promise.startswith(
        "Of new good images like the 19 of 19 folds, at most 10 % (not the 5 % aimed at) are "
        "expected to be rejected when NG is what each of the 19 models scores above the threshold"
    )


def test_a_weaker_promise_keeps_the_rate_asked_for() -> None:
    folds = [[i, i + 0.5] for i in range(12)]
    found = cross_conformal(folds, alpha=0.01, allow_weaker=True)
    assert (found.asked, found.alpha) == (0.01, 1 / 25)
    threshold = found.as_threshold()
    assert threshold.parameters == {"alpha": 0.01, "aimed_alpha": 1 / 25, "folds": 12.0}
    # 2/25 + min(2 · 0.96 · 11/36, 0.5/13) = 0.11846
    assert threshold.attained == pytest.approx(0.08 + 0.5 / 13)
    assert threshold.promise.startswith(
        "Weaker than the 1 % asked for, which needs 99 good images: of new good images like the "
        "24 of 12 folds, at most 11.9 % (not the 4 % aimed at) are expected"
    )


@pytest.mark.parametrize(("n", "times"), [(30, 4.8), (500, 2.3)])
def test_how_much_weaker_the_promise_is(n: int, times: float) -> None:
    """Far more than the rate aimed at with few images; what the refusals and the docs say."""
    promised = cross_conformal([list(range(k, n, 5)) for k in range(5)], alpha=0.05).promised
    assert promised / 0.05 == pytest.approx(times, abs=0.05)
    assert 2 * 0.05 < promised <= 2 * 0.05 + 2 * 4 / (n + 5)
    assert promised > 1 / (n + 1)


def test_p_values_against_the_definition() -> None:
    random = np.random.default_rng(0)
    folds = [random.integers(0, 6, 4), random.integers(0, 6, 3), random.integers(0, 6, 5)]
    new = random.integers(0, 6, (20, 3))
    expected = [
        (1 + sum((fold >= score).sum() for fold, score in zip(folds, row, strict=True))) / 13
        for row in new
    ]
    assert cross_conformal_p(folds, new) == pytest.approx(expected)


def test_above_the_threshold_in_all_models_means_a_small_p() -> None:
    random = np.random.default_rng(1)
    for seed in range(50):
        folds = [random.normal(size=8) + seed % 3 * k for k in range(4)]
        new = random.normal(2, 2, (30, 4))
        found = cross_conformal(folds, alpha=0.1)
        rejected = new.min(axis=1) > found.threshold
        assert (cross_conformal_p(folds, new)[rejected] <= 0.1 + 1e-12).all()


def test_the_promise_holds_for_models_that_memorise() -> None:
    random = np.random.default_rng(2)
    n, folds, alpha = 24, 4, 0.1
    rejected = []
    for _ in range(400):
        parts = random.normal(size=(n + 1, 2))
        fold_of = np.arange(n) % folds

        def score(points: np.ndarray, fold: int, parts: np.ndarray = parts) -> np.ndarray:
            train = parts[:n][np.arange(n) % folds != fold]  # nearest neighbour
            return np.linalg.norm(points[:, None] - train[None], axis=2).min(axis=1)

        held = [score(parts[:n][fold_of == k], k) for k in range(folds)]
        new = np.array([[score(parts[n:], k)[0] for k in range(folds)]])
        rejected.append(cross_conformal_p(held, new)[0] <= alpha)
    assert np.mean(rejected) <= cross_conformal(held, alpha=alpha).promised
    assert np.mean(rejected) <= 2 * alpha


def test_bad_inputs() -> None:
    with pytest.raises(InputError, match=r"2 folds or more, none empty, got \[3\]"):
        cross_conformal([[1, 2, 3]], alpha=0.1)
    with pytest.raises(InputError, match=r"got \[1, 0\]"):
        cross_conformal([[1], []], alpha=0.1)
    with pytest.raises(CalibrationError, match=r"needs at least 19 .* got 4; .* is 1/5 = 0\.2"):
        cross_conformal([[1, 2], [3, 4]], alpha=0.05)
    with pytest.raises(InputError, match="the part 'b' is in two folds, so the model"):
        cross_conformal([[1, 2], [3, 4]], alpha=0.3, groups=[["a", "b"], ["b", "c"]])
    with pytest.raises(InputError, match="groups for each of 2 folds, got 1"):
        cross_conformal([[1, 2], [3, 4]], alpha=0.3, groups=[None])
    with pytest.raises(InputError, match="1 groups for 2 images"):
        cross_conformal([[1, 2], [3, 4]], alpha=0.3, groups=[["a"], None])
    with pytest.raises(InputError, match=r"shape \(M, 2\)"):
        cross_conformal_p([[1, 2], [3, 4]], [[1, 2, 3]])


def test_a_part_counts_once_by_its_highest_score() -> None:
    scores = [[1, 2, 9], [4, 5], [7, 6]]
    groups = [["a", "a", "b"], [None, None], ["c", "c"]]
    found = cross_conformal(scores, alpha=0.2, groups=groups)
    plain = cross_conformal([[2, 9], [4, 5], [7]], alpha=0.2)
    assert (found.threshold, found.n, found.promised) == (9.0, 5, plain.promised)
    assert (found.unit, plain.unit) == ("group", "image")
    assert found.as_threshold().unit == "group"
    assert "new good parts like the 5 of 3 folds" in found.as_threshold().promise
    assert "have any image rejected when NG is what each of the 3 models scores above" in (
        found.as_threshold().promise
    )
    new = [[3, 5, 7], [10, 10, 10]]
    assert cross_conformal_p(scores, new, groups=groups) == pytest.approx(
        cross_conformal_p([[2, 9], [4, 5], [7]], new)
    )


def test_the_grouped_promise_holds_for_models_that_memorise() -> None:
    """Two images of one part are nearly the same: counted as parts, the promise still holds."""
    random = np.random.default_rng(3)
    parts, folds, alpha = 20, 4, 0.1
    rejected = []
    for _ in range(300):
        places = np.repeat(random.normal(size=(parts + 1, 2)), 2, axis=0)
        places += 0.01 * random.normal(size=places.shape)
        fold_of = np.arange(parts).repeat(2) % folds
        own, new = places[:-2], places[-2:]

        def score(points: np.ndarray, seen: np.ndarray) -> np.ndarray:
            return np.linalg.norm(points[:, None] - seen[None], axis=2).min(axis=1)

        held = [score(own[fold_of == k], own[fold_of != k]) for k in range(folds)]
        names = [list(np.arange(parts).repeat(2)[fold_of == k]) for k in range(folds)]
        fresh = [[score(new, own[fold_of != k]).max() for k in range(folds)]]
        rejected.append(cross_conformal_p(held, fresh, groups=names)[0] <= alpha)
    found = cross_conformal(held, alpha=alpha, groups=names)
    assert found.n == parts
    assert np.mean(rejected) <= min(found.promised, 2 * alpha)


def test_weaker_takes_the_attainable_alpha() -> None:
    found = cross_conformal([[1, 2], [3, 4]], alpha=0.05, allow_weaker=True)
    assert (found.threshold, found.alpha) == (4.0, 0.2)
    assert found.promised == pytest.approx(0.4 + (1 - 2 / 4) / 3)
    enough = cross_conformal([[1, 2], [3, 4]], alpha=0.3, allow_weaker=True)
    assert enough == cross_conformal([[1, 2], [3, 4]], alpha=0.3)
