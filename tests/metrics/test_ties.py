"""What is known of the scores in a bin: nothing yet, one score, or several."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_u2net.metrics.ties import Ties, narrow

NOTES = st.lists(st.tuples(st.integers(0, 5), st.sampled_from([-0.0, 0.0, 0.5, 0.7])), max_size=12)


def noted(pairs: list[tuple[int, float]]) -> Ties:
    ties = Ties(6)
    bins = np.array([place for place, _ in pairs], np.intp)
    ties.note(bins, np.array([score for _, score in pairs], np.float32))
    return ties


@settings(max_examples=60, deadline=None)
@given(first=NOTES, second=NOTES)
def test_against_sets_at_once_and_summed(
    first: list[tuple[int, float]], second: list[tuple[int, float]]
) -> None:
    seen: dict[int, set[float]] = {}
    for place, score in first + second:
        seen.setdefault(place, set()).add(score)  # 0.0 and -0.0 are equal
    summed, other = noted(first), noted(second)
    summed += other
    for ties in (noted(first + second), summed):
        assert ties.occupied().tolist() == sorted(seen)
        assert ties.tied().tolist() == [len(seen.get(place, ())) == 1 for place in range(6)]


def test_what_was_mixed_stays_mixed() -> None:
    ties, other = noted([(0, 0.5), (1, 0.5)]), noted([(0, 0.5), (1, 0.5)])
    ties.mix(np.array([0]))
    other += ties
    ties.note(np.array([0]), np.array([0.5], np.float32))
    for each in (ties, other):
        assert each.tied().tolist() == [False, True, *[False] * 4]
        assert each.occupied().tolist() == [0, 1]


def test_narrow_rounds_once_and_keeps_the_range() -> None:
    scores = np.array([0.25, 0.1, -1e300, 1e300])
    largest = np.finfo(np.float32).max
    assert narrow(scores).tolist() == [0.25, float(np.float32(0.1)), -largest, largest]
    single = scores[:2].astype(np.float32)
    assert narrow(single) is single
    assert narrow(single.astype(single.dtype.newbyteorder())).tolist() == single.tolist()
