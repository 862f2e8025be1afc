"""Do the thresholds keep their promises? Calibration images are redrawn, and it is counted.

Each law is a population of good parts and defective parts: three synthetic ones, and the scores of a
real model. A draw takes n of each, with replacement, makes every threshold, and measures it on the
WHOLE population, so a rate is exact and not blurred by a small test set. The real parts are cut in
two halves as well, as a user would: thresholds from one, errors on the other.

    python tests/benchmarks/bench_validity.py                     # under a minute
    python tests/benchmarks/bench_validity.py --scores scores.csv --out rows.json --plot rates.png
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats

from anomaly_u2net.calibration import (
    ImageScores,
    any_missed,
    any_missed_pac,
    false_reject,
    false_reject_pac,
    mean_sigma,
    missed_defects,
    missed_defects_pac,
    read_scores,
)
from anomaly_u2net.calibration.checks import group_extremes, group_index
from anomaly_u2net.calibration.reject import pac_rank
from anomaly_u2net.errors import CalibrationError
from anomaly_u2net.metrics import image_best_f1

POPULATION = 50_000
#: U²-Net† on the calibration and test parts of magnetic tile; the README here says how it was made.
REAL_SCORES = Path(__file__).with_name("magnetic_tile_scores.csv")
#: Rates are compared up to this relative error of rounding.
SLACK = 1e-9
#: They promise nothing and are held to the contract for comparison.
HABITS = ("best F1 on test", "mean + 3 sigma")


class Setting(NamedTuple):
    """A promise of rate alpha (also used as beta) with the n that it needs for delta."""

    alpha: float
    delta: float
    n: int


SETTINGS = (Setting(0.05, 0.1, 45), Setting(0.01, 0.05, 299))
#: What is asked of halves: they hold the n that the pool has, and few parts cannot promise 0.01.
HALVES = (Setting(0.05, 0.1, 45), Setting(0.1, 0.1, 22))


class Law(NamedTuple):
    """A population: good (G,), the score of each good part; peaks, those of each defective one."""

    name: str
    good: np.ndarray
    peaks: list[np.ndarray]


class Row(NamedTuple):
    """One line: what a rule promised, and what came of it over the draws.

    value: the mean rate, or the share of draws above the rate; limit: what was promised of it;
    margin: what chance may add over this number of draws (one in a thousand). limit, margin and
    kept are None where nothing was promised, and note says why.
    """

    law: str
    rule: str
    promise: str
    value: float
    limit: float | None
    margin: float | None
    kept: bool | None
    note: str = ""


class Measure:
    """True rates of a law at thresholds (D,)."""

    def __init__(self, law: Law) -> None:
        self.good = np.sort(law.good)
        sizes = np.array([row.size for row in law.peaks])
        flat = np.concatenate(law.peaks)
        order = np.argsort(flat)
        self.peaks = flat[order]
        self.lost = np.concatenate([[0.0], np.cumsum(np.repeat(1 / sizes, sizes)[order])])
        self.weakest = np.sort([row.min() for row in law.peaks])

    def rejected(self, thresholds: np.ndarray) -> np.ndarray:
        passed = np.searchsorted(self.good, thresholds, side="right")
        return np.asarray((self.good.size - passed) / self.good.size)

    def missed(self, thresholds: np.ndarray) -> np.ndarray:
        place = np.searchsorted(self.peaks, thresholds, side="right")
        return np.asarray(self.lost[place] / self.weakest.size)

    def any_missed(self, thresholds: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.weakest, thresholds, side="right") / self.weakest.size


def synthetic_laws(*, size: int = POPULATION, seed: int = 0) -> list[Law]:
    """Continuous, tied (21 values) and heavy-tailed; 1 to 4 regions a part, dependent in a part."""
    rng = np.random.default_rng(seed)
    regions = rng.integers(1, 5, size)
    of_part = np.repeat(rng.normal(size=size), regions)
    noise = of_part + 0.5 * rng.normal(size=of_part.size)
    cuts = np.cumsum(regions)[:-1]

    def parts(values: np.ndarray) -> list[np.ndarray]:
        return np.split(values, cuts)

    good, bad = rng.beta(2, 8, size), 1 / (1 + np.exp(-noise - 1))
    tail = rng.pareto(1.2, size)
    wild = np.repeat(rng.standard_t(1.5, size), regions) + rng.standard_t(1.5, of_part.size)
    return [
        Law("continuous", good, parts(bad)),
        Law("tied", np.round(good * 20) / 20, parts(np.round(bad * 20) / 20)),
        Law("heavy-tailed", tail, parts(6 + wild)),
    ]


def real_law(name: str, scores: ImageScores) -> Law:
    """A part is a group; a good part counts by its highest score, as the rules with groups do."""
    good = group_extremes(scores.good, scores.good_groups)
    index, number = group_index(scores.defect_groups, scores.defective.size)
    return Law(name, good, [scores.defective[index == part] for part in range(number)])


class Rule(NamedTuple):
    """A rule with its promise: "mean" (≤ alpha on average) or "contract" (fails in ≤ delta)."""

    name: str
    kind: str
    make: Callable[[np.ndarray, list[np.ndarray], Setting], float]
    risk: Callable[[Measure, np.ndarray], np.ndarray]


RULES = (
    Rule("false_reject", "mean", lambda g, p, s: false_reject(g, alpha=s.alpha), Measure.rejected),
    Rule(
        "false_reject_pac",
        "contract",
        lambda g, p, s: false_reject_pac(g, alpha=s.alpha, delta=s.delta),
        Measure.rejected,
    ),
    Rule("missed_defects", "mean", lambda g, p, s: missed_defects(p, beta=s.alpha), Measure.missed),
    Rule(
        "missed_defects_pac",
        "contract",
        lambda g, p, s: missed_defects_pac(p, beta=s.alpha, delta=s.delta),
        Measure.missed,
    ),
    Rule("any_missed", "mean", lambda g, p, s: any_missed(p, beta=s.alpha), Measure.any_missed),
    Rule(
        "any_missed_pac",
        "contract",
        lambda g, p, s: any_missed_pac(p, beta=s.alpha, delta=s.delta),
        Measure.any_missed,
    ),
)


def f1_on_test(good: np.ndarray, peaks: list[np.ndarray]) -> tuple[float, float]:
    """The habit: the threshold of highest F1 on the very images it is reported on, and that F1."""
    scores = np.concatenate([good, [row.max() for row in peaks]])
    best = image_best_f1(scores, np.arange(scores.size) >= good.size)
    return best.threshold, best.value


def check(law: Law, setting: Setting, *, draws: int, seed: int = 0) -> tuple[list[Row], dict]:
    """All rules and habits on one law: the rows, and the false-reject rates of each for the plot."""
    rng = np.random.default_rng([seed, setting.n])
    measure = Measure(law)
    made: dict[str, list[float]] = {name: [] for name in (*[r.name for r in RULES], *HABITS)}
    for _ in range(draws):
        good = law.good[rng.integers(law.good.size, size=setting.n)]
        peaks = [law.peaks[i] for i in rng.integers(len(law.peaks), size=setting.n)]
        for rule in RULES:
            made[rule.name].append(rule.make(good, peaks, setting))
        made["best F1 on test"].append(f1_on_test(good, peaks)[0])
        made["mean + 3 sigma"].append(mean_sigma(good))
    rows = []
    for rule in RULES:
        risks = rule.risk(measure, np.array(made[rule.name]))
        limit = setting.alpha if rule.kind == "mean" else setting.delta
        rows.append(_row(law.name, rule, risks, setting, limit=limit))
    rates = {
        name: measure.rejected(np.array(made[name]))
        for name in ("false_reject", "false_reject_pac", *HABITS)
    }
    rows += [
        _habit_row(law.name, name, rates[name], setting, measure, made[name]) for name in HABITS
    ]
    return rows, rates


def split_halves(
    law: Law, setting: Setting, *, draws: int, seed: int = 0, kind: str = "mean"
) -> list[Row]:
    """The pool cut in two, ``draws`` times: thresholds from one half, errors on the other.

    kind: which promises, "mean" or "contract". A contract is about the rate on all future parts and
    is not broken by bad luck in a small test half, so the share of draws above the rate is compared
    with `halves_limit`. A rule that a half is too small for is left out, saying so. Good and
    defective parts are cut apart: no rule looks at both.
    """
    rng = np.random.default_rng([seed, 1])
    rows = []
    for rule in RULES:
        if rule.kind != kind:
            continue
        try:
            risks = np.array([_half_risk(law, rule, setting, rng) for _ in range(draws)])
        except CalibrationError as error:
            print(f"{law.name}, halves: {rule.name} is left out: {error}")
            continue
        limit: float | None = setting.alpha
        if kind == "contract":
            size = law.good.size if rule.risk is Measure.rejected else len(law.peaks)
            limit = halves_limit(size // 2, size - size // 2, setting=setting)
            if rule.risk is Measure.missed:  # a mean of shares: no law without the distribution
                limit = None
        rows.append(_row(f"{law.name}, halves", rule, risks, setting, limit=limit))
    return rows


def halves_limit(n: int, m: int, *, setting: Setting) -> float:
    """P(more than alpha · m of m test parts are above the threshold that n others made).

    For `false_reject_pac` and, upside down, `any_missed_pac`: the threshold is the k-th smallest of
    n, k = `pac_rank`. Without ties the rate R above it is Beta(n − k + 1, k) distributed (Wilks,
    Ann. Math. Stat. 12, 1941), and given R the number of test parts above it is Bin(m, R), so it is
    BetaBinomial(m, n − k + 1, k) distributed (Marques, arXiv:2303.02770). Only the order of n + m
    exchangeable scores matters, so this is as exact for a fixed pool that is cut at random. Ties
    can only make the number smaller. As m grows the chance tends to P(R > alpha) ≤ delta; that of a
    small test half comes on top, and steps of 1/m round it.

    Raises CalibrationError when n is too small for the contract.

    >>> round(halves_limit(51, 52, setting=Setting(0.05, 0.1, 45)), 4)
    0.125
    """
    k = pac_rank(n, alpha=setting.alpha, delta=setting.delta)
    allowed = math.floor(m * setting.alpha * (1 + SLACK))
    return float(stats.betabinom.sf(allowed, m, n - k + 1, k))


def _half_risk(law: Law, rule: Rule, setting: Setting, rng: np.random.Generator) -> float:
    good = rng.permutation(law.good)
    peaks = [law.peaks[i] for i in rng.permutation(len(law.peaks))]
    n, m = good.size // 2, len(peaks) // 2
    threshold = rule.make(good[:n], peaks[:m], setting)
    rest = Measure(Law(law.name, good[n:], peaks[m:]))
    return float(rule.risk(rest, np.array([threshold]))[0])


def _row(law: str, rule: Rule, risks: np.ndarray, setting: Setting, *, limit: float | None) -> Row:
    alpha, draws = setting.alpha, risks.size
    if limit is None:
        value, note = float(np.mean(_above(risks, alpha))), "n/a: no exact law"
        return Row(law, rule.name, f"above {alpha:g}", value, None, None, None, note)
    if rule.kind == "mean":
        value, promise = float(risks.mean()), f"mean ≤ {limit:g}"
        margin = float(stats.norm.ppf(0.999) * risks.std() / math.sqrt(draws))
    else:
        value = float(np.mean(_above(risks, alpha)))
        promise = f"above {alpha:g} in ≤ {limit:.3g} of draws"
        margin = float(stats.binom.ppf(0.999, draws, limit) / draws - limit)
    return Row(law, rule.name, promise, value, limit, margin, value <= limit + margin)


def _above(risks: np.ndarray, alpha: float) -> np.ndarray:
    """Above alpha, rounding apart: 2 of 200 is not above 0.01."""
    return np.asarray(risks > alpha * (1 + SLACK))


def _habit_row(
    law: str, name: str, rates: np.ndarray, setting: Setting, measure: Measure, made: list[float]
) -> Row:
    missed = measure.missed(np.array(made)).mean()
    return Row(
        law, name, f"above {setting.alpha:g} in ≤ {setting.delta:g} of draws",
        float(np.mean(_above(rates, setting.alpha))), None, None, None,
        f"false rejects {rates.min():.3f} to {rates.max():.3f}, mean {rates.mean():.3f}; "
        f"defects missed {missed:.3f}",
    )  # fmt: skip


def print_rows(rows: list[Row]) -> None:
    """Promises first, then the habits."""
    for title, chosen in (
        ("The promises", [row for row in rows if row.rule not in HABITS]),
        ("Habits, held to the contract", [row for row in rows if row.rule in HABITS]),
    ):
        print(f"\n{title}\n")
        print("| scores | rule | promise | found | margin | kept |\n|---|---|---|---|---|---|")
        for row in chosen:
            kept = {True: "yes", False: "NO", None: row.note}[row.kept]
            margin = "n/a" if row.margin is None else f"{row.margin:.4f}"
            print(
                f"| {row.law} | {row.rule} | {row.promise} | {row.value:.4f} | {margin} | {kept} |"
            )


def draw_plot(rates: dict[str, dict[str, np.ndarray]], setting: Setting, path: Path) -> None:
    """The false-reject rates of all draws, by law and rule; the upper whisker leaves delta out."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    whiskers = (100 * setting.delta, 100 * (1 - setting.delta))
    dot = {"marker": "o", "markersize": 4, "markerfacecolor": "black", "markeredgecolor": "black"}
    figure, axes = pyplot.subplots(1, len(rates), figsize=(2.9 * len(rates), 4), sharey=True)
    for axis, (law, by_rule) in zip(np.atleast_1d(axes), rates.items(), strict=True):
        axis.axhline(setting.alpha, color="tab:red", linewidth=1)
        axis.boxplot(
            list(by_rule.values()), whis=whiskers, showfliers=False, showmeans=True, meanprops=dot
        )
        axis.set_xticks(range(1, len(by_rule) + 1), list(by_rule), rotation=40, ha="right")
        axis.set_title(law.replace("_", " "))
    np.atleast_1d(axes)[0].set_ylabel("false-reject rate")
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--scores", type=Path, default=REAL_SCORES, help="a CSV: category, label, score, group"
    )
    parser.add_argument("--out", type=Path, help="write the rows as JSON here")
    parser.add_argument("--plot", type=Path, help="draw the false-reject rates here (PNG)")
    options = parser.parse_args()
    laws = synthetic_laws(seed=options.seed)
    real = [real_law(name, one) for name, one in read_scores(options.scores).items()]
    rows, rates = [], {}
    for setting in SETTINGS:
        for law in laws + real:
            found, by_rule = check(law, setting, draws=options.draws, seed=options.seed)
            rows += found
            if setting is SETTINGS[0]:
                rates[law.name] = by_rule
    for setting in HALVES:
        for law in real:
            for kind in ("mean", "contract"):
                rows += split_halves(
                    law, setting, draws=options.draws, seed=options.seed, kind=kind
                )
    print(f"{options.draws} draws; n = " + ", ".join(str(setting.n) for setting in SETTINGS))
    print_rows(rows)
    if options.out:
        options.out.write_text(json.dumps([row._asdict() for row in rows], indent=2) + "\n")
    if options.plot:
        draw_plot(rates, SETTINGS[0], options.plot)
    if any(row.kept is False for row in rows):
        raise SystemExit("a promise was broken")


if __name__ == "__main__":
    main()
