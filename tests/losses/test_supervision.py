from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from anomaly_u2net.errors import InputError
from anomaly_u2net.losses import bce, deep_supervision, dice
from anomaly_u2net.losses.supervision import at_size
from anomaly_u2net.models import build_model
from anomaly_u2net.recipe import ModelRecipe
from anomaly_u2net.types import SideLogits


@pytest.fixture
def three_sides(draw) -> tuple[SideLogits, Tensor]:
    maps = [draw(seed)[0] for seed in range(4)]
    return SideLogits(maps[0], tuple(maps[1:])), draw(0)[1]


def test_the_sum_over_sides_and_fusion(three_sides) -> None:
    logits, target = three_sides
    total, terms = deep_supervision(logits, target)
    expected = [
        F.binary_cross_entropy(torch.sigmoid(x), target).item()
        for x in (*logits.sides, logits.fused)
    ]
    assert [t.item() for t in terms] == pytest.approx(expected, rel=1e-5)
    assert total.item() == pytest.approx(sum(expected), rel=1e-5)


def test_its_weights(three_sides, draw) -> None:
    logits, target = three_sides
    weight = draw(7)[2]
    total, terms = deep_supervision(
        logits, target, pixel_loss=dice, weight=weight, side_weights=(0.5, 0, 2), fused_weight=3
    )
    a, b, c, fused = (t.item() for t in terms)
    assert b == pytest.approx(dice(logits.sides[1], target, weight).item())
    assert total.item() == pytest.approx(0.5 * a + 2 * c + 3 * fused, rel=1e-6)


def test_a_side_of_weight_0_cannot_spoil_the_sum(three_sides) -> None:
    logits, target = three_sides
    logits.sides[0].fill_(math.nan)
    total, terms = deep_supervision(logits, target, side_weights=(0, 1, 1))
    assert torch.isnan(terms[0])
    assert torch.isfinite(total)


def test_what_does_not_fit(three_sides) -> None:
    logits, target = three_sides
    with pytest.raises(InputError, match=r"target of shape \(2, 1, 5, 6\), got \(2, 1, 5\)"):
        deep_supervision(logits, target[..., 0])
    with pytest.raises(InputError, match="expected 3 side weights, got 2"):
        deep_supervision(logits, target, side_weights=(1, 1))
    with pytest.raises(InputError, match="the loss weights are all 0"):
        deep_supervision(logits, target, side_weights=(0, 0, 0), fused_weight=0)
    with pytest.raises(
        InputError, match="3 side logits at their native size, got 0: use side_targ"
    ):
        deep_supervision(logits, target, side_target="native")


def test_without_sides_only_the_fusion_counts(three_sides) -> None:
    logits, target = three_sides
    alone = SideLogits(logits.fused, ())
    for side_target in ("resized", "native"):
        total, terms = deep_supervision(alone, target, side_target=side_target)
        assert len(terms) == 1
        assert total.item() == bce(logits.fused, target, torch.ones_like(target)).item()


# --- sides at their own size ----------------------------------------------------------------


def test_the_mask_at_half_size_by_hand() -> None:
    target = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
    weight = torch.tensor([[5.0, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0]])
    small, counts = at_size(target[None, None], weight[None, None], size=(2, 2))
    assert small[0, 0].tolist() == [[1, 0], [0, 0]]  # the lower defect pixel has weight 0
    assert counts[0, 0].tolist() == [[5, 1], [1, 0]]  # and the padding's cell is ignored


def test_native_terms_by_hand() -> None:
    """A defect of one pixel in 4×4, sides of 4×4, 2×2 and 1×1 with all logits 0 or ln 3."""
    target = torch.zeros(1, 1, 4, 4)
    target[..., 3, 0] = 1
    native = tuple(torch.full((1, 1, s, s), math.log(3)) for s in (4, 2, 1))
    logits = SideLogits(0 * target, tuple(0 * target for _ in native), native)
    total, terms = deep_supervision(logits, target, side_target="native")
    defect, good = math.log(4 / 3), math.log(4)
    expected = [(defect + 15 * good) / 16, (defect + 3 * good) / 4, defect, math.log(2)]
    assert [t.item() for t in terms] == pytest.approx(expected)
    assert total.item() == pytest.approx(sum(expected))


@settings(deadline=None, max_examples=25)
@given(
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    place=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
)
def test_a_defect_of_one_pixel_survives_to_every_size(size, place) -> None:
    """With its weight, and within a cell of where bilinear resizing puts it."""
    target, weight = torch.zeros(1, 1, *size), torch.ones(1, 1, *size)
    row, column = (int(p * s) for p, s in zip(place, size, strict=True))
    target[..., row, column], weight[..., row, column] = 1, 7
    coarse = size
    for _ in range(5):
        coarse = tuple(-(-s // 2) for s in coarse)  # halved, rounded up, as the networks do
        small, counts = at_size(target, weight, size=coarse)
        assert small.shape[2:] == counts.shape[2:] == coarse
        cells = small[0, 0].nonzero().tolist()
        assert 1 <= len(cells) <= 4  # windows of odd sizes share a pixel
        for r, c in cells:
            assert counts[0, 0, r, c] == 7
            assert abs((r + 0.5) * size[0] / coarse[0] - (row + 0.5)) <= size[0] / coarse[0]
            assert abs((c + 0.5) * size[1] / coarse[1] - (column + 0.5)) <= size[1] / coarse[1]


def test_padding_is_ignored_at_every_size(draw) -> None:
    target, weight = torch.zeros(1, 1, 32, 32), torch.ones(1, 1, 32, 32)
    weight[..., 16:] = 0
    native = tuple(torch.randn(1, 1, s, s).requires_grad_() for s in (32, 8, 2))
    logits = SideLogits(target + 0.1, tuple(target for _ in native), native)
    garbage = torch.where(weight == 0, 1.0, target)
    values = [
        deep_supervision(logits, t, weight=weight, side_target="native")[0]
        for t in (target, garbage)
    ]
    assert values[0].item() == values[1].item()
    values[0].backward()
    for side in native:
        assert side.grad is not None
        half = side.shape[3] // 2
        assert not side.grad[..., half:].any()
        assert side.grad[..., :half].all()


MODELS = [
    {"arch": "small", "width": 4, "depth": 4},
    {"arch": "small", "width": 4, "depth": 3, "stem": "unshuffle2"},
    {"arch": "small", "width": 4, "depth": 3, "stem": "unshuffle2_learned"},
    {"arch": "hed", "width": 4, "depth": 3},
    {"arch": "cascaded", "width": 4, "depth": 3},
    {"arch": "unet", "width": 4, "depth": 3},
]


@pytest.mark.parametrize("model", MODELS, ids=lambda m: f"{m['arch']}-{m.get('stem', 'full')}")
@pytest.mark.parametrize("size", [(64, 64), (33, 47)])
def test_every_network_learns_at_native_size(model, size) -> None:
    torch.manual_seed(0)
    recipe = ModelRecipe(**model)
    network = build_model(recipe)
    target = torch.zeros(2, 1, *size)
    target[0, 0, 20, 30] = 1
    logits = network(torch.rand(2, 3, *size))
    total, terms = deep_supervision(logits, target, side_target="native")
    total.backward()
    assert len(terms) == recipe.sides + 1
    for head in network.heads()[: max(1, recipe.sides)]:
        assert head.weight.grad is not None
        assert head.weight.grad.any()
