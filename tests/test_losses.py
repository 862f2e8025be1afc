from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from anomaly_u2net.errors import InputError
from anomaly_u2net.losses import PIXEL_LOSSES, bce, deep_supervision, dice, focal
from anomaly_u2net.recipe import LossRecipe
from anomaly_u2net.types import SideLogits

ALL = pytest.mark.parametrize("name", list(PIXEL_LOSSES))
ONE = torch.ones(1, 1, 2, 2)


def by_definition(name: str, x: np.ndarray, t: np.ndarray, w: np.ndarray) -> float:
    """The losses in float64 from the papers' formulas, pixel by pixel."""
    if name == "bce+dice":
        return by_definition("bce", x, t, w) + by_definition("dice", x, t, w)
    p = 1 / (1 + np.exp(-x.astype(np.float64)))
    if name == "dice":
        overlap = (p * w * t * w).sum()
        return 1 - (2 * overlap + 1) / ((p * w).sum() + (t * w).sum() + 1)
    total = 0.0
    for q, y, v in zip(p.flat, t.flat, w.flat, strict=True):
        # Hard targets: only one of the two terms of each formula counts.
        right = q if y == 1 else 1 - q
        factor = 1.0
        if name == "focal":
            factor = (0.25 if y == 1 else 0.75) * (1 - right) ** 2
        total -= v * factor * math.log(right)
    return total / max(w.sum(), 1)


def random_batch(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 1, 5, 6, generator=generator) * 3
    target = (torch.rand(2, 1, 5, 6, generator=generator) < 0.3).float()
    weight = (torch.rand(2, 1, 5, 6, generator=generator) < 0.8).float()
    return logits, target, weight


def test_the_recipe_and_the_table_name_the_same_losses() -> None:
    annotation = LossRecipe.model_fields["pixel"].annotation
    assert set(annotation.__args__) == set(PIXEL_LOSSES)  # type: ignore[union-attr]


def test_known_values() -> None:
    zero = 0 * ONE
    assert bce(zero, ONE, ONE).item() == pytest.approx(math.log(2))
    assert bce(ONE * math.log(3), ONE, ONE).item() == pytest.approx(math.log(4 / 3))
    assert bce(ONE * math.log(3), zero, ONE).item() == pytest.approx(math.log(4))
    assert bce(zero, ONE, ONE / 4).item() == pytest.approx(math.log(2))  # weights that sum to 1
    assert bce(zero, ONE, ONE / 8).item() == pytest.approx(math.log(2) / 2)  # and to less
    # p = 1/2: α·(1/2)²·ln 2 with α = 1/4 on defects, 3/4 elsewhere
    assert focal(zero, ONE, ONE).item() == pytest.approx(math.log(2) / 16)
    assert focal(zero, zero, ONE).item() == pytest.approx(3 * math.log(2) / 16)
    # p = 1/2 on 4 defect pixels: 1 − (2·2 + 1) / (2 + 4 + 1)
    assert dice(zero, ONE, ONE).item() == pytest.approx(2 / 7)
    assert dice(zero, zero, ONE).item() == pytest.approx(1 - 1 / 3)
    assert dice(100 * ONE, ONE, ONE).item() == pytest.approx(0)
    assert PIXEL_LOSSES["bce+dice"](zero, ONE, ONE).item() == pytest.approx(math.log(2) + 2 / 7)


@ALL
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_against_the_definition(name: str, seed: int) -> None:
    batch = random_batch(seed)
    expected = by_definition(name, *(part.numpy() for part in batch))
    assert PIXEL_LOSSES[name](*batch).item() == pytest.approx(expected, rel=1e-5)


@ALL
def test_the_gradient_is_that_of_the_value(name: str) -> None:
    logits, target, weight = (part.double() for part in random_batch(1))
    target = target * 0.9 + 0.05  # soft targets too
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: PIXEL_LOSSES[name](x, target, weight), (logits,))


@ALL
def test_pixels_of_weight_0_do_not_count_at_all(name: str) -> None:
    logits, target, weight = random_batch(2)
    loss = PIXEL_LOSSES[name]
    outside = weight == 0
    changed = torch.where(outside, torch.full_like(logits, 40), logits).requires_grad_()
    flipped = torch.where(outside, 1 - target, target)
    value = loss(changed, flipped, weight)
    assert value.item() == loss(logits, target, weight).item()
    value.backward()
    assert changed.grad is not None
    assert not changed.grad[outside].any()
    assert changed.grad[~outside].all()


@ALL
def test_a_weighted_batch_is_the_batch_of_its_inside(name: str) -> None:
    logits, target, _ = random_batch(3)
    weight = torch.zeros_like(target)
    weight[..., :3] = 1
    inside = (part[..., :3] for part in (logits, target, weight))
    loss = PIXEL_LOSSES[name]
    assert loss(logits, target, weight).item() == pytest.approx(loss(*inside).item(), rel=1e-6)


@ALL
def test_good_images_alone_push_the_probability_down(name: str) -> None:
    logits = torch.zeros(2, 1, 8, 8, requires_grad=True)
    value = PIXEL_LOSSES[name](logits, torch.zeros(2, 1, 8, 8), torch.ones(2, 1, 8, 8))
    value.backward()
    assert torch.isfinite(value)
    assert logits.grad is not None
    assert (logits.grad > 0).all()


@ALL
def test_nothing_to_learn_from_is_0_and_no_gradient(name: str) -> None:
    logits, target, weight = random_batch(4)
    logits.requires_grad_()
    value = PIXEL_LOSSES[name](logits, target, 0 * weight)
    value.backward()
    assert value.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@ALL
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("extreme", [-50.0, 50.0])
def test_extreme_logits_stay_finite(name: str, dtype: torch.dtype, extreme: float) -> None:
    """On a batch whose sum of losses would overflow float16."""
    logits = torch.full((4, 1, 128, 128), extreme, dtype=dtype, requires_grad=True)
    target = torch.zeros(4, 1, 128, 128)
    target[:, :, :64] = 1
    value = PIXEL_LOSSES[name](logits, target, torch.ones_like(target))
    value.backward()
    assert torch.isfinite(value)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    if name == "bce":
        assert value.item() == pytest.approx(25)


@ALL
def test_half_precision_is_close_to_the_value(name: str) -> None:
    logits, target, weight = random_batch(5)
    exact = PIXEL_LOSSES[name](logits, target, weight).item()
    for dtype, rel in ((torch.float16, 1e-3), (torch.bfloat16, 1e-2)):
        value = PIXEL_LOSSES[name](logits.to(dtype), target, weight)
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(exact, rel=rel)


@ALL
def test_the_right_answer_costs_less_the_surer_it_is(name: str) -> None:
    _, target, weight = random_batch(6)
    signs = 2 * target - 1
    values = [PIXEL_LOSSES[name](k * signs, target, weight).item() for k in (-4, -1, 0, 1, 4, 12)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.01


# --- deep supervision -----------------------------------------------------------------------


def three_sides() -> tuple[SideLogits, Tensor]:
    maps = [random_batch(seed)[0] for seed in range(4)]
    return SideLogits(maps[0], tuple(maps[1:])), random_batch(0)[1]


def test_the_sum_over_sides_and_fusion() -> None:
    logits, target = three_sides()
    total, terms = deep_supervision(logits, target)
    ones = np.ones(target.shape)
    expected = [
        by_definition("bce", x.numpy(), target.numpy(), ones) for x in (*logits.sides, logits.fused)
    ]
    assert [t.item() for t in terms] == pytest.approx(expected, rel=1e-5)
    assert total.item() == pytest.approx(sum(expected), rel=1e-5)


def test_its_weights() -> None:
    logits, target = three_sides()
    weight = random_batch(7)[2]
    total, terms = deep_supervision(
        logits, target, pixel_loss=dice, weight=weight, side_weights=(0.5, 0, 2), fused_weight=3
    )
    a, b, c, fused = (t.item() for t in terms)
    assert b == pytest.approx(dice(logits.sides[1], target, weight).item())
    assert total.item() == pytest.approx(0.5 * a + 2 * c + 3 * fused, rel=1e-6)


def test_a_side_of_weight_0_cannot_spoil_the_sum() -> None:
    logits, target = three_sides()
    logits.sides[0].fill_(math.nan)
    total, terms = deep_supervision(logits, target, side_weights=(0, 1, 1))
    assert torch.isnan(terms[0])
    assert torch.isfinite(total)


def test_what_does_not_fit() -> None:
    logits, target = three_sides()
    with pytest.raises(InputError, match=r"target of shape \(2, 1, 5, 6\), got \(2, 1, 5\)"):
        deep_supervision(logits, target[..., 0])
    with pytest.raises(InputError, match="expected 3 side weights, got 2"):
        deep_supervision(logits, target, side_weights=(1, 1))
    with pytest.raises(InputError, match="the loss weights are all 0"):
        deep_supervision(logits, target, side_weights=(0, 0, 0), fused_weight=0)
