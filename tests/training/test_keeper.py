"""The clock and the tables of a run; what the keeper does in a run is in test_run.py."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from anomaly_u2net.models import build_model
from anomaly_u2net.recipe import Recipe
from anomaly_u2net.recipe.find import find_recipe
from anomaly_u2net.training import keeper
from anomaly_u2net.training.keeper import Clock, Keeper, _advice, write_rows
from anomaly_u2net.training.module import TrainingModule


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that stands still until ``now`` is set."""
    clock = SimpleNamespace(now=100.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(keeper, "time", clock)
    return clock


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("magnetic_tile_small", [], "a lower train.lr"),
        (
            "magnetic_tile_scratch",
            [],
            "a warm start (model.init instead of model.prior) or a lower train.lr",
        ),
        (
            "magnetic_tile_small",
            ["loss.pixel=bce+dice", "loss.small_regions=0"],
            "loss.pixel bce or loss.small_regions 0.5 or a lower train.lr",
        ),
        (
            "magnetic_tile_scratch",
            [
                "model.prior=null",
                "loss.pixel=bce",
                "augment.paste=0",
                "augment.crop=null",
                "input.fit=letterbox",
            ],
            "a warm start (model.init) or model.prior 0.02 or loss.pixel bce+dice or crops around "
            "defects (augment.crop) or pasted defects (augment.paste 0.5) or a lower train.lr",
        ),
    ],
)
def test_advice_is_what_the_recipe_lacks(name: str, changes: list[str], expected: str) -> None:
    assert _advice(find_recipe(name, overrides=changes)) == expected


def test_without_a_limit_no_time_passes(time: SimpleNamespace) -> None:
    clock = Clock(None)
    time.now += 1e6
    assert (clock.seconds, clock.fraction()) == (1e6, 0.0)


def test_fraction_of_the_limit(time: SimpleNamespace) -> None:
    clock = Clock(60)
    time.now += 15
    assert clock.fraction() == 0.25
    clock.validation = 30.0  # room for one more validation
    assert clock.fraction() == 0.5
    time.now += 1000
    assert clock.fraction() == 1.0


def test_a_validation_longer_than_the_limit_ends_the_run(time: SimpleNamespace) -> None:
    clock = Clock(60)
    clock.validation = 100.0
    time.now += 1
    assert clock.fraction() == 1.0


def test_seconds_of_before_a_resume_count(time: SimpleNamespace) -> None:
    clock = Clock(60)
    clock.add_earlier(30)
    time.now += 6
    assert (clock.seconds, clock.fraction()) == (36.0, 0.6)


def test_every_process_goes_by_the_clock_of_the_first(
    time: SimpleNamespace, tmp_path: Path
) -> None:
    """Here the other one's clock has run out: it knows nothing of the first one's pauses."""
    recipe = Recipe.from_dict(
        {"name": "r", "model": {"arch": "small", "width": 4, "depth": 2}, "train": {"warmup": 0}}
    )
    said: list[float] = []  # by each process; what arrives is what the first one said

    def broadcast(value: float) -> float:
        said.append(value)
        return said[0]

    for seconds in (15, 90):
        clock = Clock(60)
        clock.add_earlier(seconds)
        spec: Any = None
        process = Keeper(
            tmp_path, recipe=recipe, spec=spec, validation=[], clock=clock, on_progress=None
        )
        trainer: Any = SimpleNamespace(
            strategy=SimpleNamespace(broadcast=broadcast), is_global_zero=False, should_stop=False
        )
        module = TrainingModule(build_model(recipe.model), recipe)
        process.on_before_optimizer_step(trainer, module, None)
        process.on_train_batch_end(trainer, module, None)
        assert module.lr_factor(1) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
        assert not trainer.should_stop
    assert said == [0.25, 1.0]


def test_rows_get_the_union_of_their_columns(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.csv", [{"a": 1}, {"a": 2, "b": "n/a"}])
    assert (tmp_path / "rows.csv").read_text().splitlines() == ["a,b", "1,", "2,n/a"]
