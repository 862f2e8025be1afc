from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from anomaly_u2net.calibration import (
    hoeffding_bentkus_p,
    rate_interval,
    rate_lower,
    rate_upper,
    rate_upper_anywhere,
)
from anomaly_u2net.calibration.bounds import binomial_p
from anomaly_u2net.errors import InputError


def test_known_by_hand() -> None:
    # No error in n: (1 − p)ⁿ = delta.
    assert rate_upper(0, 20, delta=0.05) == pytest.approx(1 - 0.05 ** (1 / 20))
    assert rate_upper(0, 59) < 0.05 < rate_upper(0, 58)
    assert rate_lower(20, 20, delta=0.05) == pytest.approx(0.05 ** (1 / 20))
    assert (rate_lower(0, 5), rate_upper(5, 5)) == (0.0, 1.0)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 500), share=st.floats(0, 1), delta=st.floats(0.001, 0.5))
def test_upper_solves_its_equation_and_scipy_agrees(n: int, share: float, delta: float) -> None:
    errors = round(share * n)
    upper = rate_upper(errors, n, delta=delta)
    if errors < n:
        assert stats.binom.cdf(errors, n, upper) == pytest.approx(delta, rel=1e-6)
    interval = stats.binomtest(errors, n).proportion_ci(0.95, "exact")
    assert rate_interval(errors, n) == pytest.approx((interval.low, interval.high), abs=1e-9)


def test_the_uniform_bound_is_wider() -> None:
    assert all(rate_upper_anywhere(e, 50) >= rate_upper(e, 50) for e in range(5, 51))
    assert rate_upper_anywhere(0, 50) == pytest.approx(math.sqrt(math.log(20) / 100))
    with pytest.raises(InputError, match="at most 1/2"):
        rate_upper_anywhere(0, 50, delta=0.6)


def test_the_uniform_bound_holds_at_the_worst_threshold() -> None:
    random, n, delta = np.random.default_rng(0), 40, 0.1
    uniform = np.sort(random.random((4000, n)), axis=1)
    above = n - 1 - np.arange(n)  # scores above the i-th smallest; its true rate is 1 − uniform
    gap = (1 - uniform - above / n).max(axis=1)
    broken = np.mean(gap > rate_upper_anywhere(0, n, delta=delta) + 1 / n)
    assert broken <= delta


def test_hoeffding_bentkus_against_its_formula() -> None:
    n, level = 80, 0.1
    for mean in (0.0, 0.01, 0.03, 0.055, 0.1, 0.4, 1.0):
        low = min(mean, level)
        h1 = (0 if low == 0 else low * math.log(low / level)) + (1 - low) * math.log(
            (1 - low) / (1 - level)
        )
        bentkus = math.e * stats.binom.cdf(math.ceil(n * mean - 1e-9), n, level)
        expected = min(1.0, math.exp(-n * h1), bentkus)
        assert hoeffding_bentkus_p(mean, n, level=level) == pytest.approx(expected, rel=1e-9)
    assert hoeffding_bentkus_p(0.0, 45, level=0.05) == pytest.approx(0.95**45)


def test_p_values_grow_with_the_loss() -> None:
    means = np.linspace(0, 1, 500)
    assert (np.diff(hoeffding_bentkus_p(means, 60, level=0.07)) >= 0).all()
    assert binomial_p([0, 1, 60], 60, level=0.07)[[0, 2]] == pytest.approx([0.93**60, 1.0])


def test_p_value_is_valid_for_fractional_losses() -> None:
    random, n, level = np.random.default_rng(1), 50, 0.2
    losses = random.beta(0.4, 1.6, (4000, n))  # mean 0.2: the null is true
    p = hoeffding_bentkus_p(losses.mean(axis=1), n, level=level)
    for delta in (0.05, 0.1, 0.3):
        assert np.mean(p <= delta) <= delta


@pytest.mark.parametrize(("errors", "n"), [(-1, 5), (6, 5), (0, 0)])
def test_bad_counts(errors: int, n: int) -> None:
    with pytest.raises(InputError, match="0 ≤ errors ≤ n"):
        rate_upper(errors, n)
    with pytest.raises(InputError, match="0 ≤ errors ≤ n"):
        rate_upper_anywhere(errors, n)
    with pytest.raises(InputError, match="losses between 0 and 1"):
        hoeffding_bentkus_p(1.5, 5, level=0.1)
