from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_u2net.calibration import (
    conformal_rank,
    false_reject_threshold,
    needed_images,
    smallest_false_reject,
)
from anomaly_u2net.errors import CalibrationError, InputError


@pytest.mark.parametrize(
    ("n", "alpha", "rank"),
    [
        (19, 0.05, 19),  # (20)(0.95) = 19 exactly; in floats it is 18.999… or 19.000…
        (20, 0.05, 20),
        (39, 0.05, 38),
        (9, 0.1, 9),
        (99, 0.01, 99),
        (999, 0.001, 999),
        (100, 0.05, 96),
        (4, 0.4, 3),
        (2, 1 / 3, 2),
        (1, 0.5, 1),
        (1, 0.99, 1),
    ],
)
def test_rank_known_by_hand(n: int, alpha: float, rank: int) -> None:
    assert conformal_rank(n, alpha=alpha) == rank


@settings(max_examples=200, deadline=None)
@given(n=st.integers(1, 3000), thousandths=st.integers(1, 999))
def test_rank_is_the_exact_ceiling(n: int, thousandths: int) -> None:
    exact = math.ceil((n + 1) * (1 - Fraction(thousandths, 1000)))
    alpha = thousandths / 1000
    if exact > n:
        assert n < needed_images(alpha)
        with pytest.raises(CalibrationError):
            conformal_rank(n, alpha=alpha)
    else:
        assert n >= needed_images(alpha)
        assert conformal_rank(n, alpha=alpha) == exact


@settings(max_examples=200, deadline=None)
@given(n=st.integers(1, 10**6))
def test_the_smallest_rate_is_attainable_and_needs_exactly_n(n: int) -> None:
    rate = smallest_false_reject(n)
    assert conformal_rank(n, alpha=rate) == n
    assert needed_images(rate) == n


@settings(max_examples=60, deadline=None)
@given(
    scores=st.lists(st.integers(0, 6), min_size=1, max_size=60),
    alpha=st.floats(0.02, 0.9),
)
def test_threshold_is_a_score_that_enough_others_do_not_exceed(
    scores: list[int], alpha: float
) -> None:
    n = len(scores)
    if n < needed_images(alpha):
        return
    threshold = false_reject_threshold(scores, alpha=alpha)
    assert threshold in scores
    # Leave-one-out reading of the promise: of n + 1 images, one of which is infinitely bad.
    above = sum(score > threshold for score in scores)
    assert (above + 1) / (n + 1) <= alpha * (1 + 1e-9)


def test_threshold_known_by_hand() -> None:
    scores = np.random.default_rng(3).permutation(np.arange(1, 20)) / 100
    assert false_reject_threshold(scores, alpha=0.05) == 0.19
    assert false_reject_threshold(scores, alpha=0.5) == 0.1
    assert false_reject_threshold(np.float32([0.1, 0.7]), alpha=0.4) == float(np.float32(0.7))
    assert false_reject_threshold([3, 1, 2], alpha=0.25) == 3.0


@pytest.mark.parametrize("draw", ["continuous", "ties", "constant"])
@pytest.mark.parametrize(("n", "alpha"), [(19, 0.05), (45, 0.1), (7, 0.3)])
def test_mean_false_reject_over_redraws_keeps_the_promise(draw: str, n: int, alpha: float) -> None:
    random = np.random.default_rng([n, len(draw)])
    redraws = 4000
    shape = (redraws, n + 1)
    scores = {
        "continuous": random.beta(1, 9, shape),
        "ties": np.round(random.beta(1, 9, shape), 1),
        "constant": np.full(shape, 0.25),
    }[draw]
    rejected = [row[0] > false_reject_threshold(row[1:], alpha=alpha) for row in scores]
    rate, margin = np.mean(rejected), 4 * math.sqrt(alpha * (1 - alpha) / redraws)
    assert rate <= alpha + margin
    if draw == "continuous":  # tight: (n + 1 − k) / (n + 1) without ties
        exact = (n + 1 - conformal_rank(n, alpha=alpha)) / (n + 1)
        assert abs(rate - exact) <= margin


def test_too_few_images_says_what_to_do() -> None:
    text = (
        r"rate of 0\.05 needs at least 19 held-out good images, got 12; .*"
        r"1/13 = 0\.07692.*more good images.*--allow-weaker"
    )
    with pytest.raises(CalibrationError, match=text):
        false_reject_threshold(np.arange(12.0), alpha=0.05)


def test_no_images() -> None:
    with pytest.raises(CalibrationError, match="at least one held-out good image, got 0"):
        false_reject_threshold([], alpha=0.05)
    with pytest.raises(CalibrationError, match="got 0"):
        smallest_false_reject(0)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, 5.0, math.nan, math.inf])
def test_impossible_rates(alpha: float) -> None:
    with pytest.raises(InputError, match="rate between 0 and 1"):
        false_reject_threshold([0.1, 0.2], alpha=alpha)
    with pytest.raises(InputError, match="rate between 0 and 1"):
        needed_images(alpha)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_scores_must_be_finite(bad: float) -> None:
    with pytest.raises(InputError, match=r"1 of 3 good scores are NaN or infinite, .* index 1"):
        false_reject_threshold([0.1, bad, 0.3], alpha=0.5)


@pytest.mark.parametrize("bad", [[[0.1, 0.2]], ["a", "b"], [True, False], 0.5])
def test_scores_must_be_a_row_of_numbers(bad: object) -> None:
    with pytest.raises(InputError, match=r"real numbers of shape \(n,\)"):
        false_reject_threshold(bad, alpha=0.5)  # type: ignore[arg-type]
