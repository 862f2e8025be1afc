"""Rules put to work: from held-out scores to a `Threshold` that says what it promises."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import cast

import numpy as np

from anomaly_u2net.calibration.bounds import rate_upper
from anomaly_u2net.calibration.checks import (
    SLACK,
    group_extremes,
    group_index,
    just_below,
)
from anomaly_u2net.calibration.cost import Costs, least_cost
from anomaly_u2net.calibration.given import given_threshold
from anomaly_u2net.calibration.habits import mean_sigma
from anomaly_u2net.calibration.held import Held
from anomaly_u2net.calibration.miss import (
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
from anomaly_u2net.calibration.terms import Terms
from anomaly_u2net.calibration.thresholds import Threshold
from anomaly_u2net.calibration.words import (
    confidence,
    percent,
    percent_up,
    sentence,
    weaker_than,
)
from anomaly_u2net.metrics import BestF1, image_best_f1


def false_reject_threshold(held: Held, terms: Terms) -> Threshold:
    """The rule `false_reject`, on average or with confidence."""
    held.need_good()
    values = np.sort(group_extremes(held.good, held.good_groups))
    n, delta = int(values.size), terms.delta
    needed = (
        needed_images(terms.false_reject)
        if delta is None
        else needed_images_pac(terms.false_reject, delta=delta)
    )
    weaker = terms.allow_weaker and n < needed
    if delta is None:
        alpha = smallest_false_reject(n) if weaker else terms.false_reject
        rank = conformal_rank(n, alpha=alpha, level=held.level)
        attained = (n + 1 - rank) / (n + 1)
    else:
        alpha = smallest_false_reject_pac(n, delta=delta) if weaker else terms.false_reject
        rank = pac_rank(n, alpha=alpha, delta=delta, level=held.level)
        attained = rate_upper(n - rank, n, delta=delta)
    noun = "images" if held.good_groups is None else "parts"
    event = {
        ("image", "images"): "be rejected",
        ("image", "parts"): "have any image rejected",
    }.get((held.level, noun), "have any pixel marked")
    text = (
        f"of new good {noun} like the {n} held out, at most {percent_up(alpha)} are expected to "
        f"{event} ({'split conformal' if delta is None else 'exact binomial'})."
    )
    return Threshold(
        value=float(values[rank - 1]),
        rule="false_reject",
        promise=_sentence(
            text,
            asked=terms.false_reject,
            needed=needed,
            weaker=weaker,
            units=f"good {noun}",
            terms=terms,
            counted=True,
        ),
        n=n,
        parameters=_parameters(terms, alpha=terms.false_reject),
        attained=attained,
        false_reject_upper=rate_upper(n - rank, n),
        unit=held.good_unit,
        false_reject_unit=held.good_unit,
    )


def missed_threshold(held: Held, terms: Terms, *, any_defect: bool) -> Threshold:
    """The rules `missed_defects` and `any_missed`, on average or with confidence."""
    held.need_defects("any_missed" if any_defect else "missed_defects")
    n = group_index(held.defect_groups, len(held.peaks))[1]
    delta, groups = terms.delta, held.defect_groups
    needed = (
        needed_images(terms.missed)
        if delta is None
        else needed_images_pac(terms.missed, delta=delta)
    )
    weaker, beta = terms.allow_weaker and n < needed, terms.missed
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
    text = f"{_missed_event(held, n, percent_up(beta), any_defect)} ({how})."
    return Threshold(
        value=value,
        rule="any_missed" if any_defect else "missed_defects",
        promise=_sentence(
            text,
            asked=terms.missed,
            needed=needed,
            weaker=weaker,
            units="defective images" if groups is None else "defective parts",
            terms=terms,
            counted=single,
        ),
        n=n,
        parameters=_parameters(terms, beta=terms.missed),
        attained=attained,
        false_reject_upper=held.upper(value, looked=held.shares_parts),
        unit=held.defect_unit,
        false_reject_unit=held.bound_unit,
    )


def both_thresholds(held: Held, terms: Terms) -> tuple[Threshold, Threshold | None]:
    """The rule `both`: the image threshold, and the review threshold unless one keeps both."""
    reject = false_reject_threshold(held, terms)
    missed = missed_threshold(held, terms, any_defect=False)
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
    fewer = min(reject, missed, key=lambda threshold: threshold.n)
    one = Threshold(
        value=found.upper,
        rule="both",
        promise=f"{reject.promise} {missed.promise} {said}",
        n=fewer.n,
        parameters={
            **reject.parameters,
            **missed.parameters,
            "attained_alpha": of_rejects,
            "attained_beta": of_misses,
        },
        attained=max(of_rejects, of_misses),
        false_reject_upper=reject.false_reject_upper,
        unit=fewer.unit,
        false_reject_unit=reject.false_reject_unit,
    )
    return one, None


def cost_threshold(held: Held, terms: Terms) -> Threshold:
    """The rule `cost`; only on image scores."""
    held.need_good()
    held.need_defects("cost")
    costs = cast(Costs, terms.costs)  # the terms of this rule have them
    found = least_cost(
        held.good,
        held.peaks,  # type: ignore[arg-type]
        costs=costs,
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
            f"when {percent(costs.defect_rate)} of the parts are defective."
        ),
        n=n,
        parameters={
            "overkill": float(costs.overkill),
            "escape": float(costs.escape),
            "defect_rate": float(costs.defect_rate),
        },
        false_reject_upper=held.upper(found.threshold, looked=True),
        false_reject_unit=held.bound_unit,
    )


def mean_sigma_threshold(held: Held, terms: Terms, *, value: float | None = None) -> Threshold:
    """The rule `mean_sigma`; ``value`` when it was measured on pixels already."""
    held.need_good()
    value = mean_sigma(held.good, sigmas=terms.sigmas) if value is None else value
    return Threshold(
        value=value,
        rule="mean_sigma",
        promise=(
            f"No guarantee: mean + {terms.sigmas:g} standard deviations of the {held.level} scores "
            f"of {held.good.size} good images."
        ),
        n=int(held.good.size),
        parameters={"sigmas": float(terms.sigmas)},
        false_reject_upper=held.upper(value, looked=True),
        false_reject_unit=held.bound_unit,
    )


def best_f1_threshold(held: Held, *, best: BestF1 | None = None) -> Threshold:
    """The rule `best_f1`; ``best`` when it was measured on pixels already."""
    held.need_defects("best_f1")
    good, defective = held.good.size, len(held.peaks)
    if best is None:
        scores = np.concatenate([held.good, np.asarray(held.peaks, np.float64)])
        best = image_best_f1(scores, np.arange(good + defective) >= good)
        marked = scores > best.threshold
        below = just_below(float(scores[marked].min()))  # in float32 where that holds the score
        best = BestF1(best.value, max([below, *map(float, scores[~marked])]))
    return Threshold(
        value=best.threshold,
        rule="best_f1",
        promise=(
            f"No guarantee: the highest {held.level} F1 ({best.value:.4f}) on the "
            f"{good + defective} held-out images, {defective} of them defective; "
            "expect less on new images."
        ),
        n=int(good + defective),
        false_reject_upper=held.upper(best.threshold, looked=True),
        false_reject_unit=held.bound_unit,
    )


def image_thresholds(held: Held, terms: Terms) -> tuple[Threshold, Threshold | None]:
    """The image threshold by the rule of the terms, and the review threshold when there are two."""
    if terms.rule == "both":
        return both_thresholds(held, terms)
    if terms.rule == "missed_defects":
        return missed_threshold(held, terms, any_defect=False), None
    if terms.rule == "cost":
        return cost_threshold(held, terms), None
    if terms.rule == "best_f1":
        return best_f1_threshold(held), None
    if terms.rule == "mean_sigma":
        return mean_sigma_threshold(held, terms), None
    if terms.rule == "given":
        return given_threshold(held, terms), None
    return false_reject_threshold(held, terms), None


def _sentence(
    text: str, *, asked: float, needed: int, weaker: bool, units: str, terms: Terms, counted: bool
) -> str:
    """The promise in words; ``counted``: the loss is 0 or 1, so its mean is a rate of new units.

    The mean of a share is only what is expected of a new unit, with any confidence.
    """
    if terms.delta is not None:
        text = f"with confidence {confidence(terms.delta)}, {text}"
        text = text.replace("are expected to", "will") if counted else text
    if weaker:
        text = weaker_than(text, asked=asked, needed=needed, units=units)
    return sentence(text)


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


def _parameters(terms: Terms, **rates: float) -> dict[str, float]:
    delta = {} if terms.delta is None else {"delta": float(terms.delta)}
    return {**{name: float(rate) for name, rate in rates.items()}, **delta}
