"""Image metrics: the numbers of `pixel.py` on one score per image."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from anomaly_u2net.metrics.checks import check_scores
from anomaly_u2net.metrics.curves import BestF1, RankCurve, count_ranks


def image_curve(scores: ArrayLike, labels: ArrayLike) -> RankCurve:
    """Count once, from N scores and labels, all that the image metrics need.

    scores: (N,) finite numbers, higher = more defective; float32 is compared as float32, anything
    else as float64. labels: (N,), bool or 0 (good) and 1 (defective).

    Raises InputError for other shapes, types, labels or NaN; NotComputable for no images.

    >>> curve = image_curve([0.9, 0.2, 0.5, 0.2], [1, 1, 0, 0])
    >>> curve.auroc(), round(curve.ap(), 4), round(curve.f1_max(), 4)
    (0.625, 0.75, 0.6667)
    """
    values, defective = check_scores(scores, labels)
    distinct, counts = np.unique(values[defective], return_counts=True)
    return RankCurve(*count_ranks(values[~defective], distinct, np.cumsum(counts[::-1])))


def image_auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Area under the ROC curve of the image scores; see `RankCurve.auroc` and `image_curve`.

    >>> image_auroc([0.9, 0.2, 0.5, 0.2], [1, 1, 0, 0])
    0.625
    """
    return image_curve(scores, labels).auroc()


def image_ap(scores: ArrayLike, labels: ArrayLike) -> float:
    """Average precision of the image scores; see `RankCurve.ap` and `image_curve`.

    >>> image_ap([0.9, 0.2, 0.5, 0.2], [1, 1, 0, 0])
    0.75
    """
    return image_curve(scores, labels).ap()


def image_f1_max(scores: ArrayLike, labels: ArrayLike) -> float:
    """The highest F1 of the image scores; see `RankCurve.best_f1` and `image_curve`.

    >>> image_f1_max([0.9, 0.6, 0.5, 0.2], [1, 1, 0, 0])
    1.0
    """
    return image_curve(scores, labels).f1_max()


def image_best_f1(scores: ArrayLike, labels: ArrayLike) -> BestF1:
    """`image_f1_max` with the threshold that reaches it (defective is ``score > threshold``).

    >>> best = image_best_f1([0.9, 0.6, 0.5, 0.2], [1, 1, 0, 0])
    >>> best.value, 0.5 < best.threshold < 0.6
    (1.0, True)
    """
    return image_curve(scores, labels).best_f1()
