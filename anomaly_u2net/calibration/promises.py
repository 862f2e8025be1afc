"""Rules put to work: from held-out scores to a `Threshold` that says what it promises."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from anomaly_u2net.calibration.bounds import rate_upper, rate_upper_anywhere
from anomaly_u2net.calibration.checks import (
    SLACK,
    Floats,
    group_extremes,
    group_index,
    just_below,
    percent,
)
from anomaly_u2net.calibration.cost import Costs, least_cost
from anomaly_u2net.calibration.habits import mean_sigma
from anomaly_u2net.calibration.miss import (
    Peaks,
    any_missed,
    any_missed_pac,
    missed_defects,
    missed_defects_pac,
)
from anomaly_u2net.calibration.reject import (
    conformal_rank,
    needed_images,
    needed_images_pac,
    pac_rank,
    smallest_false_reject,
    smallest_false_reject_pac,
)
from anomaly_u2net.calibration.review import Both
from anomaly_u2net.calibration.thresholds import Threshold
from anomaly_u2net.errors import CalibrationError
from anomaly_u2net.metrics import BestF1, image_best_f1

Level = Literal["image", "pixel"]
Names = list[str | None] | None


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked of the thresholds; see `calibrate_category`."""

    alpha: float
    beta: float
    delta: float | None
    costs: Costs | None
    sigmas: float
    allow_weaker: bool


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """What a rule looks at: the good images' scores, the defective images' peaks, and groups.

    On the level "image" the peaks are image scores (m,); on "pixel" the good scores are the highest
    pixel of each image, and the peaks those of each defect region.
    """

    level: Level
    good: Floats
    peaks: Peaks
    good_groups: Names
    defect_groups: Names

    @property
    def unit(self) -> Literal["image", "group"]:
        return "image" if self.good_groups is None and self.defect_groups is None else "group"


def false_reject_threshold(held: Held, ask: Ask) -> Threshold:
    """The rule `false_reject`, on average or with confidence."""
    _need_good(held)
    values = np.sort(group_extremes(held.good, held.good_groups))
    n, delta = int(values.size), ask.delta
    needed = (
        needed_images(ask.alpha) if delta is None else needed_images_pac(ask.alpha, delta=delta)
    )
    weaker = ask.allow_weaker and n < needed
    if delta is None:
        alpha = smallest_false_reject(n) if weaker else ask.alpha
        rank = conformal_rank(n, alpha=alpha)
        attained = (n + 1 - rank) / (n + 1)
    else:
        alpha = smallest_false_reject_pac(n, delta=delta) if weaker else ask.alpha
        rank = pac_rank(n, alpha=alpha, delta=delta)
        attained = rate_upper(n - rank, n, delta=delta)
    noun = "images" if held.good_groups is None else "parts"
    event = {
        ("image", "images"): "be rejected",
        ("image", "parts"): "have any image rejected",
    }.get((held.level, noun), "have any pixel marked")
    text = (
        f"of new good {noun} like the {n} held out, at most {percent(alpha)} are expected to "
        f"{event} ({'split conformal' if delta is None else 'exact binomial'})."
    )
    return Threshold(
        value=float(values[rank - 1]),
        rule="false_reject",
        promise=_sentence(
            text, asked=ask.alpha, needed=needed, weaker=weaker, of="good", ask=ask, counted=True
        ),
        n=n,
        parameters=_parameters(ask, alpha=ask.alpha),
        attained=attained,
        false_reject_upper=rate_upper(n - rank, n),
        unit=held.unit,
    )


def missed_threshold(held: Held, ask: Ask, *, any_defect: bool) -> Threshold:
    """The rules `missed_defects` and `any_missed`, on average or with confidence."""
    _need_defects(held, "any_missed" if any_defect else "missed_defects")
    n = group_index(held.defect_groups, len(held.peaks))[1]
    delta, groups = ask.delta, held.defect_groups
    needed = needed_images(ask.beta) if delta is None else needed_images_pac(ask.beta, delta=delta)
    weaker, beta = ask.allow_weaker and n < needed, ask.beta
    # A loss of 0 or 1 (one score, one image) has the exact p-value, which is never the weaker one.
    single = any_defect or (held.level == "image" and groups is None)
    if delta is None:
        beta = smallest_false_reject(n) if weaker else beta
        value = (any_missed if single else missed_defects)(held.peaks, beta=beta, groups=groups)
        attained = math.floor((n + 1) * beta * (1 + SLACK)) / (n + 1) if single else beta
    else:
        beta = smallest_false_reject_pac(n, delta=delta) if weaker else beta
        rule = any_missed_pac if single else missed_defects_pac
        value = rule(held.peaks, beta=beta, delta=delta, groups=groups)
        attained = beta
    how = "conformal risk control" if delta is None else "learn then test"
    text = f"{_missed_event(held, n, percent(beta), any_defect)} ({how})."
    return Threshold(
        value=value,
        rule="any_missed" if any_defect else "missed_defects",
        promise=_sentence(
            text,
            asked=ask.beta,
            needed=needed,
            weaker=weaker,
            of="defective",
            ask=ask,
            counted=single,
        ),
        n=n,
        parameters=_parameters(ask, beta=ask.beta),
        attained=attained,
        false_reject_upper=_upper(held, value, looked=_shared_parts(held)),
        unit=held.unit,
    )


def both_thresholds(held: Held, ask: Ask) -> tuple[Threshold, Threshold | None]:
    """The rule `both`: the image threshold, and the review threshold unless one keeps both."""
    reject = false_reject_threshold(held, ask)
    missed = missed_threshold(held, ask, any_defect=False)
    found = Both.of(
        held.good,
        held.peaks,
        lower=missed.value,
        upper=reject.value,
        good_groups=held.good_groups,
        defect_groups=held.defect_groups,
    )
    said = found.describe()
    if not found.one:
        return (
            replace(reject, promise=f"{reject.promise} {said}"),
            replace(missed, promise=f"{missed.promise} {said}"),
        )
    of_rejects, of_misses = cast(float, reject.attained), cast(float, missed.attained)
    one = Threshold(
        value=found.upper,
        rule="both",
        promise=f"{reject.promise} {missed.promise} {said}",
        n=min(reject.n, missed.n),
        parameters={
            **reject.parameters,
            **missed.parameters,
            "attained_alpha": of_rejects,
            "attained_beta": of_misses,
        },
        attained=max(of_rejects, of_misses),
        false_reject_upper=reject.false_reject_upper,
        unit=held.unit,
    )
    return one, None


def cost_threshold(held: Held, ask: Ask) -> Threshold:
    """The rule `cost`; only on image scores."""
    _need_good(held)
    _need_defects(held, "cost")
    if ask.costs is None:
        raise CalibrationError(
            "the rule cost needs what an overkill and an escape cost and the line's defect rate: "
            "give costs=Costs(overkill, escape, defect_rate)"
        )
    found = least_cost(
        held.good,
        held.peaks,  # type: ignore[arg-type]
        costs=ask.costs,
        good_groups=held.good_groups,
        defect_groups=held.defect_groups,
    )
    low, high = found.cost_interval
    t_low, t_high = found.threshold_interval
    n = held.good.size + len(held.peaks)
    return Threshold(
        value=found.threshold,
        rule="cost",
        promise=(
            f"No guaranteed rate: the least expected cost per part is {found.cost:.4g} "
            f"(95 % by bootstrap {low:.4g} to {high:.4g}; threshold {t_low:.6g} to {t_high:.6g}) "
            f"when {percent(ask.costs.defect_rate)} of the parts are defective."
        ),
        n=n,
        parameters={
            "overkill": float(ask.costs.overkill),
            "escape": float(ask.costs.escape),
            "defect_rate": float(ask.costs.defect_rate),
        },
        false_reject_upper=_upper(held, found.threshold, looked=True),
    )


def mean_sigma_threshold(held: Held, ask: Ask, *, value: float | None = None) -> Threshold:
    """The rule `mean_sigma`; ``value`` when it was measured on pixels already."""
    _need_good(held)
    value = mean_sigma(held.good, sigmas=ask.sigmas) if value is None else value
    return Threshold(
        value=value,
        rule="mean_sigma",
        promise=(
            f"No guarantee: mean + {ask.sigmas:g} standard deviations of the {held.level} scores "
            f"of {held.good.size} good images."
        ),
        n=int(held.good.size),
        parameters={"sigmas": float(ask.sigmas)},
        false_reject_upper=_upper(held, value, looked=True),
    )


def best_f1_threshold(held: Held, *, best: BestF1 | None = None) -> Threshold:
    """The rule `best_f1`; ``best`` when it was measured on pixels already."""
    _need_defects(held, "best_f1")
    good, defective = held.good.size, len(held.peaks)
    if best is None:
        scores = np.concatenate([held.good, np.asarray(held.peaks, np.float64)])
        best = image_best_f1(scores, np.arange(good + defective) >= good)
        lowest = float(scores[scores > best.threshold].min())
        best = BestF1(best.value, just_below(lowest))
    return Threshold(
        value=best.threshold,
        rule="best_f1",
        promise=(
            f"No guarantee: the highest {held.level} F1 ({best.value:.4f}) on the "
            f"{good + defective} held-out images, {defective} of them defective; "
            "expect less on new images."
        ),
        n=int(good + defective),
        false_reject_upper=_upper(held, best.threshold, looked=True) if good else None,
    )


def image_thresholds(held: Held, rule: str, ask: Ask) -> tuple[Threshold, Threshold | None]:
    """The image threshold by the named rule, and the review threshold when there are two."""
    if rule == "both":
        return both_thresholds(held, ask)
    if rule == "missed_defects":
        return missed_threshold(held, ask, any_defect=False), None
    if rule == "cost":
        return cost_threshold(held, ask), None
    if rule == "best_f1":
        return best_f1_threshold(held), None
    if rule == "mean_sigma":
        return mean_sigma_threshold(held, ask), None
    return false_reject_threshold(held, ask), None


def _sentence(
    text: str, *, asked: float, needed: int, weaker: bool, of: str, ask: Ask, counted: bool
) -> str:
    """The promise in words; ``counted``: the loss is 0 or 1, so its mean is a rate of new units.

    The mean of a share is only what is expected of a new unit, with any confidence.
    """
    if ask.delta is not None:
        text = f"with confidence {percent(1 - ask.delta)}, {text}"
        text = text.replace("are expected to", "will") if counted else text
    if weaker:
        text = (
            f"weaker than the {percent(asked)} asked for, which needs {needed} {of} images: {text}"
        )
    return text[0].upper() + text[1:]


def _missed_event(held: Held, n: int, rate: str, any_defect: bool) -> str:
    noun = "image" if held.defect_groups is None else "part"
    if any_defect:
        return (
            f"of new defective {noun}s like the {n} held out, at most {rate} are expected to have "
            "any defect region missed"
        )
    if held.level == "pixel":
        return (
            f"of the defect regions of a new defective {noun} like the {n} held out, "
            f"at most {rate} are expected to be missed"
        )
    if noun == "image":
        return (
            f"of new defective images like the {n} held out, at most {rate} are expected to be "
            "called OK"
        )
    return (
        f"of the defective images of a new part like the {n} held out, at most {rate} are "
        "expected to be called OK"
    )


def _upper(held: Held, value: float, *, looked: bool) -> float | None:
    """The 95 % upper bound of the false-reject rate; ``looked``: the rule saw the good scores."""
    if held.good.size == 0:
        return None
    units = group_extremes(held.good, held.good_groups)
    errors = int(np.count_nonzero(units > value))
    return (rate_upper_anywhere if looked else rate_upper)(errors, units.size)


def _shared_parts(held: Held) -> bool:
    """Whether a part is among the good and the defective images, which then are not independent."""
    return bool(set(held.good_groups or ()) & set(held.defect_groups or ()) - {None})


def _parameters(ask: Ask, **rates: float) -> dict[str, float]:
    delta = {} if ask.delta is None else {"delta": float(ask.delta)}
    return {**{name: float(rate) for name, rate in rates.items()}, **delta}


def _need_good(held: Held) -> None:
    if held.good.size == 0:
        raise CalibrationError(
            f"none of the {len(held.peaks)} held-out images is good (has an empty mask, or the "
            "label good); a false-reject rate is measured on good images: hold some out"
        )


def _need_defects(held: Held, rule: str) -> None:
    if len(held.peaks) == 0:
        raise CalibrationError(
            f"the rule {rule} needs defects, but all {held.good.size} held-out images are good; "
            "hold out defective images with masks, or use the rule false_reject"
        )


def known_groups(groups: Any, chosen: NDArray[np.bool_]) -> Names:
    """The groups of the chosen images; None when none of them has one."""
    if groups is None:
        return None
    names = [
        None if name is None or name == "" else str(name)
        for name, kept in zip(groups, chosen, strict=True)
        if kept
    ]
    return names if any(names) else None
