from __future__ import annotations

import math
import re
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_u2net.calibration import (
    conformal_rank,
    false_reject,
    false_reject_pac,
    false_reject_upper,
    needed_images,
    needed_images_pac,
    pac_rank,
    rate_upper,
    smallest_false_reject,
    smallest_false_reject_pac,
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
    threshold = false_reject(scores, alpha=alpha)
    assert threshold in scores
    # Leave-one-out reading of the promise: of n + 1 images, one of which is infinitely bad.
    above = sum(score > threshold for score in scores)
    assert (above + 1) / (n + 1) <= alpha * (1 + 1e-9)


def test_threshold_known_by_hand() -> None:
    scores = np.random.default_rng(3).permutation(np.arange(1, 20)) / 100
    assert false_reject(scores, alpha=0.05) == 0.19
    assert false_reject(scores, alpha=0.5) == 0.1
    assert false_reject(np.float32([0.1, 0.7]), alpha=0.4) == float(np.float32(0.7))
    assert false_reject([3, 1, 2], alpha=0.25) == 3.0


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
    rejected = [row[0] > false_reject(row[1:], alpha=alpha) for row in scores]
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
        false_reject(np.arange(12.0), alpha=0.05)


def test_no_images() -> None:
    with pytest.raises(CalibrationError, match="at least one held-out good image, got 0"):
        false_reject([], alpha=0.05)
    with pytest.raises(CalibrationError, match="got 0"):
        smallest_false_reject(0)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, 5.0, math.nan, math.inf])
def test_impossible_rates(alpha: float) -> None:
    with pytest.raises(InputError, match="rate between 0 and 1"):
        false_reject([0.1, 0.2], alpha=alpha)
    with pytest.raises(InputError, match="rate between 0 and 1"):
        needed_images(alpha)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_scores_must_be_finite(bad: float) -> None:
    with pytest.raises(InputError, match=r"1 of 3 good scores are NaN or infinite, .* index 1"):
        false_reject([0.1, bad, 0.3], alpha=0.5)


@pytest.mark.parametrize("bad", [[[0.1, 0.2]], ["a", "b"], [True, False], 0.5])
def test_scores_must_be_a_row_of_numbers(bad: object) -> None:
    with pytest.raises(InputError, match=r"real numbers of shape \(n,\)"):
        false_reject(bad, alpha=0.5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("alpha", "delta", "needed"),
    [(0.05, 0.1, 45), (0.01, 0.05, 299), (0.5, 0.5, 1), (0.1, 0.05, 29), (0.05, 0.05, 59)],
)
def test_the_contract_needs_known_numbers(alpha: float, delta: float, needed: int) -> None:
    assert needed_images_pac(alpha, delta=delta) == needed
    assert (1 - alpha) ** needed <= delta * (1 + 1e-12)
    assert needed == 1 or (1 - alpha) ** (needed - 1) > delta
    assert pac_rank(needed, alpha=alpha, delta=delta) == needed
    if needed > 1:
        with pytest.raises(CalibrationError, match=f"at least {needed} held-out good images, got"):
            pac_rank(needed - 1, alpha=alpha, delta=delta)


def exact_pac_rank(n: int, alpha: Fraction, delta: Fraction) -> int:
    """The definition, in fractions: the smallest k with P(Bin(n, alpha) ≤ n − k) ≤ delta."""
    chance, best = Fraction(0), n + 1
    for errors in range(n):
        chance += math.comb(n, errors) * alpha**errors * (1 - alpha) ** (n - errors)
        if chance <= delta:
            best = n - errors
    return best


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 150), alpha=st.integers(1, 60), delta=st.integers(1, 60))
def test_pac_rank_is_the_definition(n: int, alpha: int, delta: int) -> None:
    exact = exact_pac_rank(n, Fraction(alpha, 100), Fraction(delta, 100))
    if exact > n:
        with pytest.raises(CalibrationError):
            pac_rank(n, alpha=alpha / 100, delta=delta / 100)
    else:
        assert pac_rank(n, alpha=alpha / 100, delta=delta / 100) == exact
        assert needed_images_pac(alpha / 100, delta=delta / 100) <= n


def test_the_rank_and_clopper_pearson_say_the_same() -> None:
    for n in (45, 60, 93, 200, 1000):
        rank = pac_rank(n, alpha=0.05, delta=0.1)
        assert rate_upper(n - rank, n, delta=0.1) <= 0.05 < rate_upper(n - rank + 1, n, delta=0.1)


def test_pac_threshold_known_by_hand() -> None:
    scores = np.random.default_rng(3).permutation(100).astype(float)
    # P(Bin(100, 0.05) ≤ 1) = 0.0371, ≤ 2: 0.1183, so one score may be above.
    assert false_reject_pac(scores, alpha=0.05, delta=0.1) == 98.0
    assert smallest_false_reject_pac(45, delta=0.1) == pytest.approx(1 - 0.1 ** (1 / 45))
    assert (
        smallest_false_reject_pac(45, delta=0.1) < 0.05 < smallest_false_reject_pac(44, delta=0.1)
    )


def test_too_few_for_the_contract_says_what_to_do() -> None:
    text = (
        r"rate of 0\.05 with confidence 0\.9 needs at least 45 held-out good images, got 30; "
        r".*30 can promise with that confidence is 0\.07389.*--allow-weaker"
    )
    with pytest.raises(CalibrationError, match=text):
        false_reject_pac(np.arange(30.0), alpha=0.05, delta=0.1)
    with pytest.raises(CalibrationError, match="got 0"):
        false_reject_pac([], alpha=0.05, delta=0.1)
    with pytest.raises(InputError, match=r"delta .* between 0 and 1"):
        false_reject_pac([0.1], alpha=0.05, delta=0)


def test_groups_count_once_by_their_highest() -> None:
    scores = np.arange(40.0)
    parts = [f"part {i // 2}" for i in range(40)]
    assert false_reject(scores, alpha=0.05, groups=parts) == 39  # 20 parts, k = 20
    assert false_reject(scores, alpha=0.1, groups=parts) == 37  # k = 19
    assert false_reject(scores, alpha=0.05, groups=[None] * 40) == false_reject(scores, alpha=0.05)
    with pytest.raises(CalibrationError, match="at least 99 held-out good images, got 20"):
        false_reject(scores, alpha=0.01, groups=parts)
    with pytest.raises(InputError, match="39 groups for 40 images"):
        false_reject(scores, alpha=0.05, groups=parts[1:])


def test_groups_keep_a_promise_that_pretended_independence_breaks() -> None:
    random = np.random.default_rng(11)
    alpha, parts, each = 0.1, 12, 8
    names = np.repeat(np.arange(parts), each)
    grouped, pretended = [], []
    for _ in range(400):
        # One part's images differ far less than parts do.
        scores = random.normal(size=(parts + 1, 1)) + 0.05 * random.normal(size=(parts + 1, each))
        held, new = scores[:-1].ravel(), scores[-1]
        grouped.append(bool((new > false_reject(held, alpha=alpha, groups=names)).any()))
        pretended.append(bool((new > false_reject_pac(held, alpha=alpha, delta=0.1)).any()))
    margin = 3 * math.sqrt(alpha * (1 - alpha) / 400)
    assert np.mean(grouped) <= alpha + margin
    # 96 images would be enough for the contract if they were independent; they are 12 parts.
    with pytest.raises(CalibrationError, match="at least 22"):
        false_reject_pac(held, alpha=alpha, delta=0.1, groups=names)
    assert np.mean(pretended) < 1


def test_the_bound_at_any_threshold() -> None:
    good = np.arange(100.0)
    fixed = false_reject_upper(good, threshold=94, chosen_on_these=False)
    assert fixed == rate_upper(5, 100) == pytest.approx(0.10225, abs=1e-5)
    assert false_reject_upper(good, threshold=94) == pytest.approx(
        0.05 + math.sqrt(-math.log(0.05) / 200)
    )
    parts = [i // 10 for i in range(100)]
    assert false_reject_upper(good, threshold=94, chosen_on_these=False, groups=parts) == (
        rate_upper(1, 10)
    )
    with pytest.raises(InputError, match="threshold is NaN"):
        false_reject_upper(good, threshold=math.nan)
    with pytest.raises(CalibrationError, match="got 0"):
        false_reject_upper([], threshold=0.5)


def test_refusals_name_every_way_out() -> None:
    for refused in (
        lambda: false_reject(np.arange(12), alpha=0.05),
        lambda: false_reject_pac(np.arange(12), alpha=0.05, delta=0.1),
    ):
        with pytest.raises(CalibrationError) as caught:
            refused()
        text = str(caught.value)
        assert "--allow-weaker" in text
        assert "--scores FILE.csv --rule cross_conformal --out FILE.json'" in text
        assert "2 alpha + up to 2 (K - 1) / (n + K), where n images held out promise" in text
    for refused in (
        lambda: conformal_rank(12, alpha=0.05, level="pixel"),
        lambda: pac_rank(12, alpha=0.05, delta=0.1, level="pixel"),
    ):
        with pytest.raises(CalibrationError, match="--allow-weaker") as caught:
            refused()
        assert "cross_conformal" not in str(caught.value)  # of image scores only


def test_the_rate_that_a_refusal_offers_is_granted() -> None:
    for n in range(1, 60):
        for delta in (None, 0.1):
            rank = (
                partial(conformal_rank, n) if delta is None else partial(pac_rank, n, delta=delta)
            )
            with pytest.raises(CalibrationError) as caught:
                rank(alpha=0.001)
            offered = re.search(r"ask for a rate of (\S+) or more", str(caught.value))
            assert offered is not None
            if float(offered[1]) < 1:
                assert rank(alpha=float(offered[1])) == n
