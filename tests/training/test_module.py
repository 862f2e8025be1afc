"""The training step, the schedule, the averaged weights and the interval, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from anomaly_u2net.errors import CollapseError
from anomaly_u2net.models import SideNet, build_model
from anomaly_u2net.recipe import ModelRecipe, Recipe
from anomaly_u2net.training.module import RECENT, Interval, TrainingModule
from anomaly_u2net.types import Batch, SideLogits


def recipe(**train: object) -> Recipe:
    return Recipe.from_dict(
        {"name": "r", "model": {"arch": "small", "width": 4, "depth": 2}, "train": train}
    )


def network() -> SideNet:
    torch.manual_seed(0)
    return build_model(ModelRecipe(arch="small", width=4, depth=2))


def batch(value: float = 0.0) -> Batch:
    one = torch.ones(2, 1, 32, 32)
    return Batch(torch.full((2, 3, 32, 32), value), one, one)


@pytest.mark.parametrize(
    ("step", "factor"),
    [
        (0, 0.25 * 1.0),  # warm-up: 1/4, 2/4, 3/4, then whole
        (1, 0.5 * (1 + math.cos(math.pi * 0.1)) / 2),
        (5, 0.5),  # the middle of the cosine
        (10, 0.0),
        (11, 0.0),
    ],
)
def test_cosine_after_warm_up(step: int, factor: float) -> None:
    module = TrainingModule(network(), recipe(steps=10, warmup=3))
    assert module.lr_factor(step) == pytest.approx(factor, abs=1e-12)


def test_constant_after_warm_up() -> None:
    module = TrainingModule(network(), recipe(steps=10, warmup=3, schedule="constant"))
    assert [module.lr_factor(step) for step in (0, 1, 2, 3, 9)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_time_brings_the_rate_down_where_it_runs_ahead_of_the_steps() -> None:
    module = TrainingModule(network(), recipe(steps=10, warmup=0))
    module.elapsed = 0.75
    by_time = (1 + math.cos(0.75 * math.pi)) / 2
    assert module.lr_factor(5) == pytest.approx(by_time)
    assert module.lr_factor(9) == pytest.approx((1 + math.cos(0.9 * math.pi)) / 2)


def test_the_optimiser_takes_the_recipe_and_all_weights() -> None:
    module = TrainingModule(network(), recipe(lr=0.25, weight_decay=0.5, warmup=0))
    optimizer = module.configure_optimizers()["optimizer"]
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"]) == (0.25, 0.5)
    assert len(group["params"]) == len(list(module.model.parameters()))  # not those of the average


@pytest.mark.parametrize(("step", "decay"), [(1, 2 / 11), (40, 41 / 50), (1000, 0.9)])
def test_average_by_hand(monkeypatch: pytest.MonkeyPatch, step: int, decay: float) -> None:
    monkeypatch.setattr(TrainingModule, "global_step", step)
    module = TrainingModule(network(), recipe(ema=0.9))
    assert module.average is not None
    assert module.kept is module.average
    before = {key: value.clone() for key, value in module.average.state_dict().items()}
    with torch.no_grad():
        for value in module.model.state_dict().values():
            value.add_(1)  # weights, running statistics and the count of batches alike
    module.on_train_batch_end()
    after = module.average.state_dict()
    for key, value in before.items():
        grown = 1 - decay if value.is_floating_point() else 1
        torch.testing.assert_close(after[key], value + grown, atol=1e-6, rtol=0)
    assert not any(p.requires_grad for p in module.average.parameters())


def test_without_average_the_model_itself_is_kept() -> None:
    module = TrainingModule(network(), recipe(ema=0))
    module.on_train_batch_end()
    assert module.kept is module.model


def test_the_step_returns_the_loss_and_notes_it() -> None:
    module = TrainingModule(network(), recipe())
    loss = module.training_step(batch(), 0)
    assert loss.requires_grad
    row = module.interval.summary()
    assert row["loss"] == pytest.approx(loss.item())
    # The paper's loss: every output counts once.
    assert row["loss"] == pytest.approx(
        sum(row[f"loss_{name}"] for name in ("side1", "side2", "fused"))
    )


@pytest.mark.parametrize("arch", ["small", "hed", "bidirectional"])
def test_the_loss_of_the_fused_output_alone(arch: str) -> None:
    model = ModelRecipe(arch=arch, width=4, depth=2, deep_supervision="fused_only")
    made = build_model(model)
    module = TrainingModule(made, Recipe(name="r", model=model))
    loss = module.training_step(batch(), 0)
    row = module.interval.summary()
    assert made.sides
    assert loss.item() == pytest.approx(row["loss_fused"])
    assert row["loss_side1"] > 0  # noted, not counted


def test_padding_has_no_part_in_the_loss() -> None:
    module = TrainingModule(network().eval(), recipe())
    image = torch.randn(1, 3, 32, 32)
    weight = torch.ones(1, 1, 32, 32)
    weight[..., 16:] = 0
    mask = torch.zeros(1, 1, 32, 32)
    wrong = mask.clone()
    wrong[..., 16:] = 1
    one, other = (module.training_step(Batch(image, m, weight), 0) for m in (mask, wrong))
    assert one.item() == other.item()


def test_a_loss_that_is_not_finite_says_what_to_do() -> None:
    module = TrainingModule(network(), recipe())
    text = r"the loss became nan at step 0: lower train.lr, set train.clip, or use train.precision"
    with pytest.raises(CollapseError, match=text):
        module.training_step(batch(math.nan), 0)


def test_the_range_is_that_of_probabilities() -> None:
    class Fixed(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> SideLogits:
            flat = torch.zeros(2, 1, 32, 32)
            wide = flat.clone()
            wide[0, 0, 0, :2] = torch.tensor([math.log(9), -math.log(9)])  # 0.9 and 0.1
            return SideLogits(wide, (flat, flat))

    module = TrainingModule(Fixed(), recipe(ema=0))  # type: ignore[arg-type]
    module.training_step(batch(), 0)
    row = module.interval.summary()
    assert [row[f"range_{n}"] for n in ("side1", "side2")] == [0, 0]
    assert row["range_fused"] == pytest.approx(0.8)


def test_a_constant_for_each_image_is_constant() -> None:
    """A map that is flat at 0.9 on one image and at 0.1 on the other shows no defect."""

    class Fixed(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> SideLogits:
            flat = torch.tensor([0.9, 0.1]).logit()[:, None, None, None].expand(-1, 1, 32, 32)
            half = flat.clone()
            half[1, :, 16:] = 0.4054651  # 0.6
            return SideLogits(flat, (flat, half))

    image, weight = torch.zeros(2, 3, 32, 32), torch.ones(2, 1, 32, 32)
    module = TrainingModule(Fixed(), recipe(ema=0))  # type: ignore[arg-type]
    module.training_step(Batch(image, weight.clone(), weight), 0)
    row = module.interval.summary()
    assert [row[f"range_{n}"] for n in ("side1", "side2", "fused")] == pytest.approx([0, 0.5, 0])


def test_the_separation_is_of_defects_and_the_rest() -> None:
    """One high pixel of 1024 makes the range wide; it tells nothing of the defect beside it."""

    class Fixed(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> SideLogits:
            fused = torch.full((1, 1, 32, 32), -20.0)
            fused[0, 0, 0, 0] = 20.0
            return SideLogits(fused, (fused, -fused))

    image, weight = torch.zeros(1, 3, 32, 32), torch.ones(1, 1, 32, 32)
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 16:] = 1
    module = TrainingModule(Fixed(), recipe(ema=0))  # type: ignore[arg-type]
    module.training_step(Batch(image, torch.zeros_like(mask), weight), 0)
    assert "separation" not in module.interval.summary()  # no defect yet
    module.training_step(Batch(image, mask, weight), 0)
    row = module.interval.summary()
    assert row["range_fused"] == pytest.approx(1.0)
    assert row["separation"] == pytest.approx(-40 / 512)  # 20 instead of -20, at one of 512
    module.training_step(Batch(image, 1 - mask, weight), 0)  # now the high pixel is of the defect
    assert module.interval.summary()["separation"] == pytest.approx(0, abs=1e-6)  # the mean


def test_interval_by_hand() -> None:
    interval = Interval()
    assert interval.summary() == {}
    one, two = torch.tensor([0.5, 0.125]), torch.tensor([0.25, 0.25])
    interval.add(torch.tensor(1.0), torch.tensor([0.25, 0.75]), one, torch.tensor(math.nan))
    interval.add(torch.tensor(3.0), torch.tensor([0.75, 2.25]), two, torch.tensor(0.5))
    assert interval.summary() == {
        "loss": 2.0,  # means
        "loss_side1": 0.5,
        "loss_fused": 1.5,
        "range_side1": 0.5,  # the widest
        "range_fused": 0.25,
        "separation": 0.5,
    }


def test_an_output_that_was_wide_long_ago_is_not_wide() -> None:
    """A network that collapses after its first steps is seen at the end of that interval."""
    interval = Interval()
    for step in range(1 + RECENT):
        wide = torch.tensor([0.5 if step == 0 else 0.001])
        interval.add(torch.tensor(1.0), torch.tensor([1.0]), wide, wide[0])
    row = interval.summary()
    assert row["range_fused"] == pytest.approx(0.001)
    assert row["separation"] == pytest.approx(0.001)
    assert row["loss"] == 1.0
