"""The table of a benchmark, from cells made by hand: means, differences, files."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from anomaly_u2net.benchmark import BenchmarkFile, BenchmarkTable
from anomaly_u2net.benchmark.means import Mean, difference
from anomaly_u2net.benchmark.outcome import Outcome
from anomaly_u2net.benchmark.report import NUMBERS, SMALL, make_table
from anomaly_u2net.benchmark.rows import RowSplits
from anomaly_u2net.benchmark.writers import header, line, to_csv, to_markdown
from anomaly_u2net.evaluation import Measured
from anomaly_u2net.files import sha256_json
from anomaly_u2net.metrics import (
    Resampled,
    paired_difference,
    resampled,
    sampled_difference,
    scores_by_image,
)

BENCH = BenchmarkFile.from_dict(
    {
        "name": "mine",
        "data": {"root": "parts"},
        "protocols": ["given"],
        "seeds": [0, 1],
        "methods": {
            "ours_1 & co": {"recipe": "folder"},
            "A": {"anomalib": "Padim"},
            "B": {"anomalib": "Patchcore"},
        },
        "published": [
            {
                "method": "ours_1 & co",
                "protocol": "given",
                "numbers": {"pixel_ap": 0.75},
                "source": "a paper, table 1",
            }
        ],
    }
)


def cell(method: str, seed: int, category: str, ap: float, **changes: Any) -> Outcome:
    """Pixel AP ap ± 1/16, resampled to ap - 1/16, ap, ap + 1/16; nothing else is known."""
    samples = Resampled(ap, np.repeat([ap - 1 / 16, ap, ap + 1 / 16], 20))
    numbers = dict.fromkeys(NUMBERS) | {"pixel_ap": Measured(ap, ap - 1 / 16, ap + 1 / 16)}
    made = Outcome(
        digest="d",
        category=category,
        protocol="given",
        method=method,
        seed=seed,
        numbers=numbers,
        small=dict.fromkeys(SMALL) | {"pixel_ap": Measured(ap / 2)},
        costs={
            "minutes": 1.0 + seed,
            "steps": 10.0,
            "milliseconds": 5.0 + seed,
            "gib": None,
            "gpu_gib": (1 + seed) / 4,
        },
        split_hash=f"{category}{seed}",
        start="scratch",
        samples={"pixel_ap": samples},
    )
    return replace(made, **changes)


def cells() -> list[Outcome]:
    """Two categories, two seeds. B is the best peer; A has lost a category with seed 1."""
    aps = {
        "ours_1 & co": [(0.5, 0.75), (0.75, 1.0)],
        "A": [(0.25, 0.25), (0.5, 0.5)],
        "B": [(0.5, 0.5), (0.5, 0.75)],
    }
    found = [
        cell(name, seed, category, ap)
        for name, seeds in aps.items()
        for seed, values in enumerate(seeds)
        for category, ap in zip(("x", "y"), values, strict=True)
    ]
    lost = next(c for c in found if (c.method, c.seed, c.category) == ("A", 1, "y"))
    error = Outcome("d", "y", "given", "A", 1, error="weights of a net", lacking=True)
    return [error if c is lost else c for c in found]


def table_of(found: list[Outcome]) -> BenchmarkTable:
    return make_table(BENCH, {"given": RowSplits((("x", "given"), ("y", "given")))}, found)


def test_means_over_categories_then_seeds() -> None:
    ours, a, b, c = table_of(cells()).rows
    found = ours.numbers["pixel_ap"]
    assert found is not None
    assert found.value == 0.75  # of 0.625 and 0.875
    assert found.std == pytest.approx(0.25 / math.sqrt(2))
    # two independent categories: √2 / 2 of the width of one, the same with both seeds
    assert found.low == pytest.approx(0.75 - math.sqrt(2) / 32)
    assert ours.small["pixel_ap"] == Mean(0.375, pytest.approx(0.125 / math.sqrt(2)))
    assert ours.costs == {
        "minutes": 1.5, "steps": 10.0, "milliseconds": 6.0, "gib": None, "gpu_gib": 0.5,
    }  # fmt: skip
    assert ours.numbers["image_auroc"] is None
    assert (a.seeds, b.seeds) == ((0,), (0, 1))
    assert a.numbers["pixel_ap"] == Mean(
        0.25, None, pytest.approx(0.25 - math.sqrt(2) / 32), pytest.approx(0.25 + math.sqrt(2) / 32)
    )
    assert a.notes == ("n/a: needs weights of a net",)
    assert (c.method, c.published) == ("ours_1 & co", "a paper, table 1")


def test_differences_are_to_the_best_peer_of_the_same_seed() -> None:
    table = table_of(cells())
    assert table.best == {"given": {"pixel_ap": "B"}}
    ours, a, b, _ = table.rows
    found = ours.differences["pixel_ap"]
    assert found is not None
    assert found.value == pytest.approx((0.125 + 0.25) / 2)
    assert (found.low, found.high) == (pytest.approx(found.value), pytest.approx(found.value))
    assert a.differences["pixel_ap"].value == pytest.approx(-0.25)  # type: ignore[union-attr]
    assert b.differences == {}
    assert found.p == 2 / 61  # none of 60 resamples is 0 or less
    assert table.to_dict()["rows"][0]["differences"]["pixel_ap"]["p"] == found.p


@pytest.mark.parametrize("lost", [("B", 0, "x"), ("ours_1 & co", 1, "y")])
def test_a_difference_that_cannot_be_resampled_is_a_number_without_interval(lost: Any) -> None:
    """Where a category has too few groups of images, as BSData."""
    made = [
        replace(c, samples={}) if (c.method, c.seed, c.category) == lost else c for c in cells()
    ]
    ours, a, b, _ = table_of(made).rows
    found = ours.differences["pixel_ap"]
    assert found == Mean(pytest.approx((0.125 + 0.25) / 2), pytest.approx(0.125 / math.sqrt(2)))
    note = "no interval of Δ pixel AP: fewer than 5 groups of good or of defective test images"
    assert note in ours.notes[0]
    assert (note in a.notes[-1]) == (lost[0] == "B")  # both of the first seed
    assert not b.notes


def test_other_test_images_have_no_difference() -> None:
    made = [replace(c, split_hash="other") if c.method == "B" else c for c in cells()]
    table = table_of(made)
    assert table.rows[0].differences == {"pixel_ap": None}
    note = "not on the same images as other methods: x, seed 0; y, seed 0; x, seed 1; y, seed 1"
    assert all(any(note in one for one in row.notes) for row in table.rows[:3])


def test_no_cell_has_no_hash() -> None:
    failed = [replace(c, error="no luck", split_hash="") for c in cells()]
    table = table_of(failed)
    assert table.hashes == {"given": {}}
    assert table.to_dict()["protocols"] == {"given": {}}
    assert "Protocol given: splits n/a." in to_markdown(table)
    assert next(csv.DictReader(to_csv(table).splitlines()))["split_hash"] == "n/a"


def test_the_hash_of_a_seed_does_not_change_as_cells_come_in() -> None:
    """So that tables of one protocol can be matched while a seed is open."""
    whole = table_of(cells())
    expected = {seed: sha256_json([f"x{seed}", f"y{seed}"]) for seed in (0, 1)}
    assert whole.hashes == {"given": expected}
    first, second = (one[:12] for one in expected.values())
    assert f"Protocol given: splits seed 0: {first}, seed 1: {second}, best" in to_markdown(whole)
    saved = whole.to_dict()
    assert saved["format"] == "anomaly_u2net.benchmark/2"
    assert saved["protocols"] == {"given": {"0": expected[0], "1": expected[1]}}
    made = [c for c in cells() if (c.seed, c.category) != (1, "y")]
    assert table_of(made).hashes == {"given": {0: expected[0]}}  # seed 1 is open
    alone = [c for c in cells() if c.method == "B"]
    assert table_of(alone).hashes == whole.hashes
    other = [replace(c, split_hash="?") if (c.method, c.seed) == ("B", 1) else c for c in cells()]
    assert table_of(other).hashes == {"given": {0: expected[0]}}  # two sets of images are no split


def test_the_hash_of_one_split_is_its_own() -> None:
    """That of split.csv and of the published splits."""
    made = [c for c in cells() if c.category == "x"]
    table = make_table(BENCH, {"given": RowSplits((("x", "given"),))}, made)
    assert table.hashes == {"given": {0: "x0", 1: "x1"}}
    rows = list(csv.DictReader(to_csv(table).splitlines()))
    assert [row["split_hash"] for row in rows[:3]] == ["x0 x1"] * 3


def test_a_cell_finished_before_a_number_was_added() -> None:
    made = cells()
    new = [replace(c, small={**c.small, "pixel_auroc": Measured(0.9)}) for c in made]
    found = dict(zip(header(), line(table_of(new).rows[0]), strict=True))
    assert found["pixel AUROC at 256²"] == "0.900 ± 0.000"
    old = [replace(c, small={n: c.small[n] for n in c.small if n == "pixel_ap"}) for c in new]
    found = dict(zip(header(), line(table_of(old).rows[0]), strict=True))
    assert found["pixel AUROC at 256²"] == found["AUPRO@0.30 at 256²"] == "n/a"
    assert found["pixel AP at 256²"] == "0.375 ± 0.088"
    rows = list(csv.DictReader(to_csv(table_of(old)).splitlines()))
    assert {row["pixel_auroc_256"] for row in rows} == {"n/a"}


def test_a_row_says_over_which_seeds_its_difference_is() -> None:
    made = [c for c in cells() if (c.method, c.seed) != ("B", 1)]
    ours, a, b, _ = table_of(made).rows
    assert ours.notes == ("Δ pixel AP: only over seeds that B has on the same images: 0",)
    assert ours.differences["pixel_ap"].value == pytest.approx(0.125)  # type: ignore[union-attr]
    assert not any("only over seeds" in note for row in (a, b) for note in row.notes)
    apart = [c for c in made if (c.method, c.seed) != ("ours_1 & co", 0)]
    ours, *_ = table_of(apart).rows
    assert ours.differences == {"pixel_ap": None}
    assert ours.notes[-1] == "no Δ pixel AP: B has none of these seeds on the same images"


def test_the_table_says_that_peers_have_different_seeds() -> None:
    said = "best peer B (pixel AP), chosen among peers with different seeds."
    assert said in to_markdown(table_of(cells()))  # A has lost a category with seed 1
    made = [c for c in cells() if c.seed == 0]
    assert "best peer B (pixel AP)." in to_markdown(table_of(made))


def test_a_seed_that_lacks_a_category_so_far_has_no_part_in_the_numbers() -> None:
    """Else methods would be compared on different categories while the benchmark runs."""
    lost = [("B", 1, "y"), ("A", 0, "y"), ("A", 1, "x"), ("A", 1, "y")]
    made = [c for c in cells() if (c.method, c.seed, c.category) not in lost]
    ours, a, b, _ = table_of(made).rows
    assert (ours.seeds, a.seeds, b.seeds) == ((0, 1), (), (0,))
    assert b.numbers["pixel_ap"].value == 0.5  # type: ignore[union-attr]
    assert ours.differences["pixel_ap"].value == pytest.approx(0.125)  # type: ignore[union-attr]
    assert ours.notes == ("Δ pixel AP: only over seeds that B has on the same images: 0",)
    assert not a.numbers
    assert (a.notes, b.notes) == (
        ("not run yet: 3 of 4 cells",), ("not run yet: 1 of 4 cells",)
    )  # fmt: skip


def test_folds_are_one_row_with_their_mean() -> None:
    """0.25, 0.375 … 0.75 in five folds of one category; the second seed lacks the last fold."""
    bench = BENCH.model_copy(update={"protocols": ["full-folds"], "published": []})
    made = [
        cell(
            *(method, seed, "x", (fold + better) / 8),
            protocol=f"full-fold{fold}of5", split_hash=f"{fold}", images={"test": [fold, 1]},
        )
        for seed in (0, 1)
        for fold in range(1, 6 - seed)
        for method, better in (("ours_1 & co", 1), ("B", 0))
    ]  # fmt: skip
    names = tuple(("x", f"full-fold{fold}of5") for fold in range(1, 6))
    splits = {"full-folds": RowSplits(names, over="5 folds")}
    table = make_table(bench, splits, made)
    ours, a, b = table.rows
    assert ours.numbers["pixel_ap"] == Mean(
        0.5, pytest.approx(math.sqrt(10) / 16), pytest.approx(0.4375), pytest.approx(0.5625)
    )
    assert b.numbers["pixel_ap"].value == 0.375  # type: ignore[union-attr]
    p = 2 / 61  # none of 60 resamples is 0 or less
    assert ours.differences["pixel_ap"] == Mean(0.125, 0.0, pytest.approx(0.125), 0.125, p)
    assert (ours.seeds, a.seeds) == ((0,), ())
    assert ours.notes == ("not run yet: 1 of 10 cells",)
    assert dict(zip(header(), line(ours), strict=True))["seeds"] == "1 × 5 folds"
    assert "## full-folds\n\nx: 1 good and 1 defective in test\n" in to_markdown(table)
    assert table.hashes == {"full-folds": {0: sha256_json(["1", "2", "3", "4", "5"])}}
    longer = cell("ours_1 & co", 1, "x", 0.75, protocol="full-fold5of5", split_hash="5")
    note = "Δ pixel AP: only over seeds that B has on the same images: 0, 1 (4 of 5 folds)"
    assert make_table(bench, splits, [*made, longer]).rows[0].notes == (note,)
    other = [replace(c, split_hash="?") if c is made[3] else c for c in made]
    assert "x, seed 0, fold 2: make" in make_table(bench, splits, other).rows[0].notes[1]


def test_types_count_within_their_category_and_categories_alike() -> None:
    """x: 0.25 and 0.75, so 0.5; y: 1.0. The mean over categories is 0.75, over cells 2 / 3."""
    bench = BENCH.model_copy(update={"protocols": ["hard-each-2"], "published": []})
    values = {("x", "cut"): 0.25, ("x", "dent"): 0.75, ("y", "rust"): 1.0}
    cells_of = tuple((category, f"hard-{label}-2") for category, label in values)
    left_out = ("z, scratch: 1 masks",)
    splits = {"hard-each-2": RowSplits(cells_of, "3 types", left_out)}
    made = [
        cell(
            *(method, seed, category, ap - worse / 8),
            protocol=f"hard-{label}-2", split_hash=f"{label}{seed}",
            images={"test": [3, len(label)]},
        )
        for seed in (0, 1)
        for (category, label), ap in values.items()
        for method, worse in (("ours_1 & co", 0), ("B", 1))
        if (method, seed, label) != ("B", 1, "dent")
    ]  # fmt: skip
    table = make_table(bench, splits, made)
    ours, _, b = table.rows
    # Limits: those of the types of x are averaged (± 1/16), x and y are independent.
    half = math.sqrt(2) / 32
    low, high = pytest.approx(0.75 - half), pytest.approx(0.75 + half)
    assert ours.numbers["pixel_ap"] == Mean(0.75, 0.0, low, high)
    assert b.numbers["pixel_ap"].value == 0.625  # type: ignore[union-attr]
    assert (ours.seeds, b.seeds) == ((0, 1), (0,))
    seeds = "Δ pixel AP: only over seeds that B has on the same images: 0"
    assert ours.notes == ("left out: z, scratch: 1 masks", seeds)
    assert b.notes == ("left out: z, scratch: 1 masks", "not run yet: 1 of 6 cells")
    surest = pytest.approx(2 / 61)  # above in each of the 60 resamples
    assert ours.differences["pixel_ap"] == Mean(0.125, None, pytest.approx(0.125), 0.125, surest)
    assert dict(zip(header(), line(ours), strict=True))["seeds"] == "2 × 3 types"
    text = "x, hard-cut-2: 3 good and 3 defective in test; y, hard-rust-2: 3 good and 4 defective"
    assert f"## hard-each-2\n\n{text} in test\n" in to_markdown(table)
    other = [replace(c, split_hash="?") if c is made[3] else c for c in made]
    note = make_table(bench, splits, other).rows[0].notes[1]
    assert "x, seed 0, hard-dent-2: make" in note


def test_kept_resamples_say_what_the_paired_bootstrap_says() -> None:
    """And what an independent one says: drawn by hand, AUROC by scikit-learn."""
    rng, labels = np.random.default_rng(3), np.arange(80) % 2
    part = rng.normal(size=80)
    a, b = (labels * step + part + rng.normal(size=80) for step in (1.5, 0.7))
    groups = [f"g{i // 2}" for i in range(80)]
    numbers = [scores_by_image(x, labels).auroc() for x in (a, b)]
    for grouping in (None, groups):
        kept = [resampled(n, groups=grouping) for n in numbers]
        expected = paired_difference(*numbers, groups=grouping)
        assert sampled_difference(*kept) == expected
        made = [
            replace(cell(method, 0, "x", 0.5), samples={"image_auroc": one})
            for method, one in zip("AB", kept, strict=True)
        ]
        found = difference("image_auroc", "A", "B", made, seeds=[0])
        assert found == Mean(
            expected.value,
            None,
            pytest.approx(expected.low),
            pytest.approx(expected.high),
            expected.p,
        )
    draws = rng.integers(80, size=(500, 80))
    oracle = [
        roc_auc_score(labels[d], a[d]) - roc_auc_score(labels[d], b[d])
        for d in draws
        if 0 < labels[d].sum() < 80
    ]
    found = sampled_difference(*(resampled(n) for n in numbers))
    assert (found.low, found.high) == pytest.approx(np.quantile(oracle, [0.025, 0.975]), abs=0.03)
    assert found.value == pytest.approx(roc_auc_score(labels, a) - roc_auc_score(labels, b))


def test_markdown() -> None:
    table = table_of(cells())
    ours, a, b, published = (dict(zip(header(), line(r), strict=True)) for r in table.rows)
    assert ours["pixel AP"] == "0.750 ± 0.177 (0.706 to 0.794)"
    assert ours["Δ pixel AP"] == "+0.188 ± 0.088 (+0.188 to +0.188)"
    assert ours["pixel AP at 256²"] == "0.375 ± 0.088"
    assert (ours["seeds"], ours["ms per image"], ours["GiB"]) == ("2", "6", "n/a")
    assert (a["Δ pixel AP"], b["Δ pixel AP"]) == ("-0.250 (-0.250 to -0.250)", "best peer")
    assert b["Δ image AUROC"] == "n/a"
    assert a["note"] == "n/a: needs weights of a net"
    assert published["seeds"] == "published"
    assert published["pixel AP"] == "0.750"
    assert published["image AUROC"] == published["Δ pixel AP"] == published["GiB"] == ""
    assert published["note"] == "not run here: a paper, table 1"
    text = to_markdown(table)
    assert "best peer B (pixel AP)" in text
    assert table.hashes["given"][1][:12] in text
    rows = [one for one in text.splitlines() if one.startswith("|")]
    assert len({row.count("|") for row in rows}) == 1


@pytest.mark.parametrize(
    ("draws", "repeated", "p"),
    [
        # 3 of 19 are 0 or less: 2 (1 + 3) / (19 + 1)
        ([[-0.5, -0.25, 0.0, *[0.5] * 16]], "", 0.4),
        # 3 of 19 are 0 or more: two-sided
        ([[0.5, 0.25, 0.0, *[-0.5] * 16]], "", 0.4),
        # none is: 2 / 20, and never 0
        ([[0.5] * 19], "", 0.1),
        # all are: 1, and never more
        ([[0.0] * 19], "", 1.0),
        # the smallest of both seeds are one, wherever they are: -0.5 + 0.25 is below 0
        ([[-0.5, *[1.0] * 18], [*[1.0] * 18, 0.25]], "seed", 0.2),
        ([[-0.5, *[1.0] * 18], [*[1.0] * 18, 0.75]], "seed", 0.1),
        # two categories that are sure each
        ([[0.25] * 19, [0.5] * 19], "category", 0.1),
    ],
)
def test_p_by_hand(draws: list[list[float]], repeated: str, p: float) -> None:
    """Resamples of ours minus those of a peer, which are all 0, of two categories or two seeds."""
    made = []
    for place, ours in enumerate(draws):
        category, seed = ("x", place) if repeated == "seed" else (f"x{place}", 0)
        for method, samples in (("ours", np.array(ours)), ("B", np.zeros(19))):
            kept = {"pixel_ap": Resampled(float(samples.mean()), samples)}
            made.append(cell(method, seed, category, 0.5, samples=kept))
    seeds = range(len(draws))
    found = difference("pixel_ap", "ours", "B", made, seeds=seeds)
    assert found is not None
    assert found.p == pytest.approx(p)
    unknown = [replace(made[0], samples={}), *made[1:]]
    found = difference("pixel_ap", "ours", "B", unknown, seeds=seeds)
    assert found is not None
    assert (found.low, found.p) == (None, None)


def test_p_of_independent_categories_is_that_of_the_normal_mean() -> None:
    """Though both categories' resamples come from the same draws of places: here they are equal."""
    draws = norm.ppf((np.arange(4000) + 0.5) / 4000, 0.2, 0.2)
    made = [
        cell(method, 0, category, 0.5, samples={"pixel_ap": Resampled(samples.mean(), samples)})
        for category in ("x", "y")
        for method, samples in (("ours", draws), ("B", np.zeros(4000)))
    ]
    found = difference("pixel_ap", "ours", "B", made, seeds=[0])
    assert found is not None
    assert found.p == pytest.approx(2 * norm.cdf(-math.sqrt(2)), abs=0.03)  # one: 2 Φ(-1) = 0.32


def test_near_copies_in_the_test_are_told() -> None:
    counts = {"images": {"test": [7, 6], "train": [6, 3]}}
    made = [replace(c, **counts, near_copies=0 if c.category == "x" else 5) for c in cells()[:4]]
    text = to_markdown(table_of(made))
    assert "x: 7 good and 6 defective in test, 6 good and 3 defective in train; y: 7 good" in text
    assert "3 defective in train; 5 tested images look like a training image\n" in text


def test_csv() -> None:
    table = table_of(cells())
    rows = list(csv.DictReader(to_csv(table).splitlines()))
    kinds = [row["kind"] for row in rows]
    assert kinds == ["mean"] * 3 + ["published"] + ["cell"] * 12
    assert (rows[0]["pixel_ap"], rows[0]["image_auroc"]) == ("0.75", "n/a")
    assert (rows[0]["seed"], rows[0]["peer"], rows[1]["peer"]) == ("0 1", "False", "True")
    assert rows[3]["note"] == "a paper, table 1"
    ps = [row["pixel_ap_difference_p"] for row in rows]
    assert ps[:5] == [repr(2 / 61), repr(2 / 61), "n/a", "n/a", "n/a"]  # ours, A, the best peer, …
    hashes = [row["split_hash"] for row in rows]
    first, second = table.hashes["given"].values()
    assert hashes[:3] == [f"{first} {second}", first, f"{first} {second}"]  # A has seed 0 alone
    assert hashes[3:6] == ["", "x0", "y0"]
    assert f"splits seed 0: {first[:12]}, seed 1: {second[:12]}" in to_markdown(table)
    assert (rows[4]["method"], rows[4]["peer"]) == ("ours_1 & co", "False")  # the published one is
    assert (rows[4]["category"], rows[4]["pixel_ap_low"]) == ("x", "0.4375")
    lost = [row for row in rows if row["note"].startswith("n/a: needs")]
    assert [row["kind"] for row in lost] == ["mean", "cell"]
