"""Cross-conformal thresholds: every good image helps to train and to calibrate, for less promise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from anomaly_u2net.calibration.checks import Floats, check_row, percent
from anomaly_u2net.calibration.reject import conformal_rank
from anomaly_u2net.calibration.thresholds import Threshold
from anomaly_u2net.errors import InputError


@dataclass(frozen=True, slots=True)
class CrossConformal:
    """A threshold on the LOWEST of the K models' scores of a new image.

    promised: P(a new good image is rejected) is at most this, not alpha. n: good images in all.
    """

    threshold: float
    promised: float
    alpha: float
    n: int
    folds: int

    def as_threshold(self) -> Threshold:
        """The threshold with its promise in words, for a calibration file."""
        return Threshold(
            value=self.threshold,
            rule="cross_conformal",
            promise=(
                f"Weaker than the {percent(self.alpha)} aimed at: of new good images like the "
                f"{self.n} of {self.folds} folds, at most {percent(self.promised)} are expected to "
                f"be rejected when the score is the lowest of the {self.folds} models' scores "
                "(cross-conformal)."
            ),
            n=self.n,
            parameters={"alpha": self.alpha, "folds": float(self.folds)},
            attained=self.promised,
        )


def cross_conformal(fold_scores: Sequence[ArrayLike], *, alpha: float) -> CrossConformal:
    """The threshold from K folds: fold k's good images, scored by the model trained without them.

    fold_scores: K ≥ 2 arrays (n_k,), n in all. A new image is scored by all K models and rejected
    when the lowest of its K scores is above the threshold, the ⌈(n + 1)(1 − alpha)⌉-th smallest
    of all n. Then its cross-conformal p-value is at most alpha (Vovk, "Cross-conformal predictors",
    Ann. Math. Artif. Intell. 74, 2015), and
    P(reject) ≤ 2 alpha + min(2 (1 − alpha)(K − 1)/(n + K), (1 − K/n)/(K + 1)),
    the second term only for folds of one size (Barber, Candès, Ramdas and Tibshirani, "Predictive
    inference with the jackknife+", Ann. Statist. 49, 2021, theorem 4; Vovk, Nouretdinov, Manokhin
    and Gammerman, 2018). In practice it is often near alpha, but that is not promised.

    With several images of one part: keep a part in one fold and give its highest score only.
    One model trained on all images is NOT covered: for it the threshold is an estimate without a
    guarantee.

    Raises CalibrationError when n is too small for alpha, InputError for fewer than two folds, an
    empty fold, or bad scores.

    >>> found = cross_conformal([[1, 2, 3, 4, 5], [6, 7, 8, 9]], alpha=0.1)
    >>> found.threshold, round(found.promised, 4)
    (9.0, 0.3636)
    """
    folds = _folds(fold_scores)
    pooled = np.concatenate(folds)
    n, number = pooled.size, len(folds)
    rank = conformal_rank(n, alpha=alpha)
    extra = 2 * (1 - alpha) * (number - 1) / (n + number)
    if len({fold.size for fold in folds}) == 1:
        extra = min(extra, (1 - number / n) / (number + 1))
    threshold = float(np.partition(pooled, rank - 1)[rank - 1])
    return CrossConformal(threshold, min(1.0, 2 * alpha + extra), float(alpha), n, number)


def cross_conformal_p(fold_scores: Sequence[ArrayLike], new_scores: ArrayLike) -> Floats:
    """The cross-conformal p-value of M new images from the scores of each of the K models.

    new_scores: (M, K). It is (1 + Σ_k |{i in fold k: score_i ≥ new score by model k}|) / (n + 1)
    (Vovk 2015). Rejecting when p ≤ alpha promises what `cross_conformal` does and rejects at least
    as much.

    >>> cross_conformal_p([[1, 2], [3, 4]], [[5, 5], [2, 4]])
    array([0.2, 0.6])
    """
    folds, new = _folds(fold_scores), np.asarray(new_scores, np.float64)
    if new.ndim != 2 or new.shape[1] != len(folds) or not np.isfinite(new).all():
        raise InputError(
            f"expected finite scores of shape (M, {len(folds)}), one per new image and model, "
            f"got shape {new.shape}"
        )
    n = sum(fold.size for fold in folds)
    counts = np.zeros(new.shape[0])
    for place, fold in enumerate(folds):
        counts += fold.size - np.searchsorted(np.sort(fold), new[:, place], side="left")
    return np.asarray((1 + counts) / (n + 1))


def _folds(fold_scores: Sequence[ArrayLike]) -> list[Floats]:
    folds = [check_row(scores, what=f"good (fold {i})") for i, scores in enumerate(fold_scores)]
    if len(folds) < 2 or any(fold.size == 0 for fold in folds):
        raise InputError(
            "expected the good scores of 2 folds or more, none empty, "
            f"got {[fold.size for fold in folds]}"
        )
    return folds
