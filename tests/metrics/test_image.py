from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from anomaly_u2net.errors import InputError, NotComputable
from anomaly_u2net.metrics import image_ap, image_auroc, image_best_f1, image_curve, image_f1_max


def test_four_images_by_hand() -> None:
    scores, labels = [0.9, 0.2, 0.5, 0.2], [True, True, False, False]
    assert image_auroc(scores, labels) == (2 + 0.5) / 4
    assert image_ap(scores, labels) == 0.5 * 1 + 0.5 * 2 / 4
    assert image_f1_max(scores, labels) == pytest.approx(2 / 3, rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(2, 40),
    decimals=st.sampled_from([0, 1, 6]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_agrees_with_sklearn(seed: int, count: int, decimals: int, dtype: type) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=count).round(decimals).astype(dtype)
    labels = rng.integers(0, 2, count)
    labels[:2] = 0, 1
    assert image_auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), rel=1e-12)
    ap = average_precision_score(labels, scores)
    assert image_ap(scores, labels) == pytest.approx(ap, rel=1e-12)
    f1 = max(f1_score(labels, scores >= score) for score in scores)
    best = image_best_f1(scores, labels)
    assert best.value == image_f1_max(scores, labels) == pytest.approx(f1, rel=1e-12)
    assert f1_score(labels, scores > best.threshold) == pytest.approx(f1, rel=1e-12)


def test_integer_scores_are_taken() -> None:
    assert image_auroc([3, 1, 2], [1, 0, 0]) == 1.0


def test_undefined_numbers_say_why() -> None:
    with pytest.raises(NotComputable, match="without a defective image: all 2 images are good"):
        image_auroc([0.1, 0.2], [0, 0])
    with pytest.raises(NotComputable, match="without a good image: all 2 images are defective"):
        image_auroc([0.1, 0.2], [1, 1])
    with pytest.raises(NotComputable, match="no images"):
        image_ap([], [])


def test_bad_input() -> None:
    with pytest.raises(InputError, match="2 of 3 scores are NaN or infinite, the first at image 1"):
        image_curve([0.1, np.nan, np.inf], [0, 1, 1])
    with pytest.raises(InputError, match=r"scores \(2,\) and labels \(3,\)"):
        image_curve([0.1, 0.2], [0, 1, 1])
    with pytest.raises(InputError, match=r"labels that are bool or 0 .* \[-1, 1\]"):
        image_curve([0.1, 0.2], [-1, 1])
    with pytest.raises(InputError, match="real numbers as scores"):
        image_curve(["a", "b"], [0, 1])
