"""Cross-conformal thresholds: every good image helps to train and to calibrate, for less promise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from anomaly_u2net.calibration.checks import Floats, Groups, check_row, group_extremes
from anomaly_u2net.calibration.reject import conformal_rank, needed_images, smallest_false_reject
from anomaly_u2net.calibration.thresholds import Threshold
from anomaly_u2net.calibration.words import percent, percent_up, sentence, weaker_than
from anomaly_u2net.errors import CalibrationError, InputError

#: K groups of images, as many names as fold k has images; None for a fold without groups.
FoldGroups = Sequence[Groups | None]


@dataclass(frozen=True, slots=True)
class CrossConformal:
    """A threshold on the LOWEST of the K models' scores of a new image.

    promised: P(a new good image is rejected) is at most this, not alpha. alpha: the rate that its
    rank aims at; asked: the one asked for, below alpha where a weaker one was allowed. n: good
    images (parts, when grouped: ``unit``) of all folds.
    """

    threshold: float
    promised: float
    alpha: float
    asked: float
    n: int
    folds: int
    unit: Literal["image", "group"] = "image"

    def as_threshold(self) -> Threshold:
        """The threshold with its promise in words, for a calibration file."""
        noun, event = "images", "be rejected"
        if self.unit == "group":
            noun, event = "parts", "have any image rejected"
        text = (
            f"of new good {noun} like the {self.n} of {self.folds} folds, at most "
            f"{percent_up(self.promised)} (not the {percent(self.alpha)} aimed at) are expected to "
            f"{event} when NG is what each of the {self.folds} models scores above the threshold, "
            f"so that the lowest of the {self.folds} scores decides (cross-conformal)."
        )
        if self.alpha > self.asked:
            needed = needed_images(self.asked)
            text = weaker_than(text, asked=self.asked, needed=needed, units=f"good {noun}")
        return Threshold(
            value=self.threshold,
            rule="cross_conformal",
            promise=sentence(text),
            n=self.n,
            parameters={
                "alpha": self.asked,
                "aimed_alpha": self.alpha,
                "folds": float(self.folds),
            },
            attained=self.promised,
            unit=self.unit,
        )


def cross_conformal(
    fold_scores: Sequence[ArrayLike],
    *,
    alpha: float,
    groups: FoldGroups | None = None,
    allow_weaker: bool = False,
) -> CrossConformal:
    """The threshold from K folds: fold k's good images, scored by the model trained without them.

    fold_scores: K ≥ 2 arrays (n_k,), n in all. A new image is scored by all K models and rejected
    when the lowest of its K scores is above the threshold, the ⌈(n + 1)(1 − alpha)⌉-th smallest
    of all n. Then its cross-conformal p-value is at most alpha (Vovk, "Cross-conformal predictors",
    Ann. Math. Artif. Intell. 74, 2015), and
    P(reject) ≤ 2 alpha + min(2 (1 − alpha)(K − 1)/(n + K), (1 − K/n)/(K + 1)),
    the second term only for folds of one size (Barber, Candès, Ramdas and Tibshirani, "Predictive
    inference with the jackknife+", Ann. Statist. 49, 2021, theorem 4; Vovk, Nouretdinov, Manokhin
    and Gammerman, 2018). In practice it is often near alpha, but that is not promised.

    groups: K lists (n_k,), which part each image shows. A part counts once, by its highest score; n
    and the sizes of the folds count parts, and the promise is about any image of a new part. All
    images of a part must be in one fold, or a model has seen what it scores.
    allow_weaker: for too few images take alpha = 1 / (n + 1).
    One model trained on all images is NOT covered: for it the threshold is an estimate without a
    guarantee.

    Raises CalibrationError when n is too small for alpha, InputError for fewer than two folds, an
    empty fold, bad scores, or a part in two folds.

    >>> found = cross_conformal([[1, 2, 3, 4, 5], [6, 7, 8, 9]], alpha=0.1)
    >>> found.threshold, round(found.promised, 4)
    (9.0, 0.3636)
    """
    folds = _folds(fold_scores, groups)
    pooled = np.concatenate(folds)
    n, number, needed = pooled.size, len(folds), needed_images(alpha)
    if n < needed and not allow_weaker:
        raise CalibrationError(
            f"a false-reject rate of {alpha:g} needs at least {needed} good images (parts, when "
            f"grouped) in all folds together, got {n}; the smallest rate that {n} can aim at is "
            f"1/{n + 1} = {smallest_false_reject(n):.4g}. Score more good images, ask for a higher "
            "rate, or take the attainable rate with --allow-weaker (allow_weaker=True)"
        )
    asked = float(alpha)
    alpha = max(asked, smallest_false_reject(n)) if n < needed else asked
    rank = conformal_rank(n, alpha=alpha)
    extra = 2 * (1 - alpha) * (number - 1) / (n + number)
    if len({fold.size for fold in folds}) == 1:
        extra = min(extra, (1 - number / n) / (number + 1))
    return CrossConformal(
        threshold=float(np.partition(pooled, rank - 1)[rank - 1]),
        promised=min(1.0, 2 * alpha + extra),
        alpha=alpha,
        asked=asked,
        n=n,
        folds=number,
        unit="image" if groups is None or all(g is None for g in groups) else "group",
    )


def cross_conformal_p(
    fold_scores: Sequence[ArrayLike], new_scores: ArrayLike, *, groups: FoldGroups | None = None
) -> Floats:
    """The cross-conformal p-value of M new images from the scores of each of the K models.

    new_scores: (M, K). It is (1 + Σ_k |{i in fold k: score_i ≥ new score by model k}|) / (n + 1)
    (Vovk 2015). Rejecting when p ≤ alpha promises what `cross_conformal` does and rejects at least
    as much. groups: as in `cross_conformal`; then give of each new part its highest score by each
    model.

    >>> cross_conformal_p([[1, 2], [3, 4]], [[5, 5], [2, 4]])
    array([0.2, 0.6])
    """
    folds, new = _folds(fold_scores, groups), np.asarray(new_scores, np.float64)
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


def _folds(fold_scores: Sequence[ArrayLike], groups: FoldGroups | None) -> list[Floats]:
    """The checked scores of each fold, the highest of each part where groups are known."""
    folds = [check_row(scores, what=f"good (fold {i})") for i, scores in enumerate(fold_scores)]
    if len(folds) < 2 or any(fold.size == 0 for fold in folds):
        raise InputError(
            "expected the good scores of 2 folds or more, none empty, "
            f"got {[fold.size for fold in folds]}"
        )
    if groups is None:
        return folds
    if len(groups) != len(folds):
        raise InputError(f"expected groups for each of {len(folds)} folds, got {len(groups)}")
    _no_part_twice(groups)
    return [group_extremes(fold, names) for fold, names in zip(folds, groups, strict=True)]


def _no_part_twice(groups: FoldGroups) -> None:
    """Raise InputError for a part with images in two folds."""
    home: dict[object, int] = {}
    for place, names in enumerate(groups):
        for name in [] if names is None else list(names):
            if name is not None and name != "" and home.setdefault(name, place) != place:
                raise InputError(
                    f"the part {str(name)!r} is in two folds, so the model that scores it has seen "
                    "it: keep all images of a part in one fold, and train again"
                )
