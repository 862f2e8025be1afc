"""Laws that every pixel loss keeps. What each one is worth is in test_definitions.py."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_u2net.errors import InputError
from anomaly_u2net.losses import AREA_LOSSES, PIXEL_LOSSES, pixel_loss
from anomaly_u2net.recipe import AREA_LOSS_NAMES, PIXEL_LOSS_NAMES, LossRecipe

CASES = [(name, "batch") for name in (*PIXEL_LOSSES, "bce+dice", "bce+ssim+iou")]
CASES += [(name, "image") for name in (*AREA_LOSSES, "bce+ssim+iou")]
ALL = pytest.mark.parametrize(("name", "reduce"), CASES)
#: Computed on the probability: no gradient where float32 has it at 0 or 1.
ON_PROBABILITY = {"dice", "iou", "tversky", "focal_tversky", "ssim"}


def test_the_recipe_and_the_tables_name_the_same_losses() -> None:
    assert tuple(PIXEL_LOSSES) == PIXEL_LOSS_NAMES
    assert tuple(AREA_LOSSES) == AREA_LOSS_NAMES


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(InputError, match=r"unknown loss 'dise' \(did you mean 'dice'\?\)"):
        pixel_loss("bce+dise")
    with pytest.raises(InputError, match=r"unknown loss '' \(known here: bce, balanced_bce"):
        pixel_loss("")


def test_a_sum_is_the_sum_and_hands_on_reduce(draw) -> None:
    batch = draw(0)
    for reduce in ("batch", "image"):
        parts = [PIXEL_LOSSES[name](*batch) for name in ("bce", "ssim")]
        parts.append(AREA_LOSSES["iou"](*batch, reduce=reduce))
        total = pixel_loss("bce+ssim+iou", reduce=reduce)(*batch)
        assert total.item() == pytest.approx(sum(p.item() for p in parts), rel=1e-6)


@ALL
def test_the_gradient_is_that_of_the_value(name: str, reduce, draw) -> None:
    logits, target, weight = (part.double() for part in draw(1))
    loss = pixel_loss(name, reduce=reduce)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, target, weight), (logits,))
    soft = target * 0.9 + 0.05
    assert torch.autograd.gradcheck(lambda x: loss(x, soft, weight), (logits,))


@ALL
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10_000), noise=st.floats(-60, 60))
def test_pixels_of_weight_0_do_not_count_at_all(name: str, reduce, draw, seed, noise) -> None:
    logits, target, weight = draw(seed)
    loss = pixel_loss(name, reduce=reduce)
    outside = weight == 0
    changed = torch.where(outside, torch.full_like(logits, noise), logits).requires_grad_()
    flipped = torch.where(outside, 1 - target, target)
    value = loss(changed, flipped, weight)
    assert value.item() == loss(logits, target, weight).item()
    value.backward()
    assert changed.grad is not None
    assert not changed.grad[outside].any()
    assert changed.grad[~outside].any()
    if name != "lovasz":  # whose error is 0 where a logit is right by 1 or more
        assert changed.grad[~outside].all()


@ALL
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10_000), scale=st.floats(0, 20))
def test_range(name: str, reduce, draw, seed, scale) -> None:
    logits, target, weight = draw(seed)
    value = pixel_loss(name, reduce=reduce)(logits * scale, target, weight).item()
    highest = {**dict.fromkeys(ON_PROBABILITY, 1.0), "ssim": 2.0}.get(name, float("inf"))
    assert -1e-6 <= value <= highest + 1e-6


@ALL
def test_a_weighted_batch_is_the_batch_of_its_inside(name: str, reduce, draw) -> None:
    logits, target, _ = draw(3)
    weight = torch.zeros_like(target)
    weight[..., :3] = 1
    inside = (part[..., :3] for part in (logits, target, weight))
    loss = pixel_loss(name, reduce=reduce)
    assert loss(logits, target, weight).item() == pytest.approx(loss(*inside).item(), rel=1e-5)


@ALL
def test_an_image_of_padding_changes_nothing(name: str, reduce, draw) -> None:
    logits, target, weight = draw(3)
    weight[1] = 0
    loss = pixel_loss(name, reduce=reduce)
    alone = loss(logits[:1], target[:1], weight[:1]).item()
    assert loss(logits, target, weight).item() == pytest.approx(alone, rel=1e-6)


@pytest.mark.parametrize(("name", "reduce"), [c for c in CASES if c[0] != "ssim"])
@pytest.mark.parametrize("defective", [False, True])
def test_masks_of_one_kind_push_every_pixel_their_way(name: str, reduce, defective: bool) -> None:
    """With at least a hundredth of what BCE pushes."""
    logits = torch.zeros(2, 1, 64, 64, requires_grad=True)
    target = torch.full_like(logits, float(defective), requires_grad=False)
    value = pixel_loss(name, reduce=reduce)(logits, target, torch.ones_like(target))
    value.backward()
    assert torch.isfinite(value)
    assert logits.grad is not None
    push = logits.grad * (-1 if defective else 1)
    assert (push > 0.01 * 0.5 / target.numel()).all()


def test_ssim_alone_is_flat_on_a_good_image_and_so_refused() -> None:
    pushes = {}
    for name in ("bce", "ssim", "bce+ssim+iou"):
        logits = torch.full((2, 1, 64, 64), math.log(0.98 / 0.02), requires_grad=True)
        good = torch.zeros_like(logits)
        pixel_loss(name)(logits, good, torch.ones_like(good)).backward()
        assert logits.grad is not None
        pushes[name] = logits.grad.mean().item()
    assert 0 < pushes["ssim"] < 1e-5 * pushes["bce"] < 1e-5 * pushes["bce+ssim+iou"]
    with pytest.raises(ValueError, match="ssim alone does not learn from good images"):
        LossRecipe(pixel="ssim")


@ALL
def test_nothing_to_learn_from_is_0_and_no_gradient(name: str, reduce, draw) -> None:
    logits, target, weight = draw(4)
    logits.requires_grad_()
    value = pixel_loss(name, reduce=reduce)(logits, target, 0 * weight)
    value.backward()
    assert value.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@ALL
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("extreme", [-50.0, 50.0])
def test_extreme_logits_stay_finite(name: str, reduce, dtype: torch.dtype, extreme: float) -> None:
    """On a batch whose sum of losses would overflow float16; half of its pixels are wrong."""
    logits = torch.full((4, 1, 128, 128), extreme, dtype=dtype, requires_grad=True)
    target = torch.zeros(4, 1, 128, 128)
    target[:, :, :64] = 1
    value = pixel_loss(name, reduce=reduce)(logits, target, torch.ones_like(target))
    value.backward()
    assert torch.isfinite(value)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    if name not in ON_PROBABILITY:
        wrong = logits.grad[(target == 1) != (extreme > 0)]
        assert (wrong * (1 if extreme > 0 else -1) > 0).all()
    if name == "bce":
        assert value.item() == pytest.approx(25)


@ALL
@pytest.mark.parametrize("filled", [0.0, 1.0])
@pytest.mark.parametrize("extreme", [-50.0, 50.0])
def test_extreme_logits_on_masks_of_one_kind(name: str, reduce, filled, extreme) -> None:
    logits = torch.full((2, 1, 16, 16), extreme, requires_grad=True)
    target = torch.full((2, 1, 16, 16), filled)
    value = pixel_loss(name, reduce=reduce)(logits, target, torch.ones_like(target))
    value.backward()
    assert torch.isfinite(value)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    if filled == (extreme > 0):
        assert value.item() == pytest.approx(0, abs=1e-5)
    elif name not in ON_PROBABILITY:
        assert (logits.grad * (1 if extreme > 0 else -1) > 0).all()


@ALL
def test_half_precision_is_close_to_the_value(name: str, reduce, draw) -> None:
    logits, target, weight = draw(5)
    loss = pixel_loss(name, reduce=reduce)
    exact = loss(logits, target, weight).item()
    for dtype, rel in ((torch.float16, 1e-3), (torch.bfloat16, 1e-2)):
        value = loss(logits.to(dtype), target, weight)
        assert value.dtype == torch.float32
        assert value.item() == loss(logits.to(dtype).float(), target, weight).item()
        assert value.item() == pytest.approx(exact, rel=rel)


@ALL
def test_automatic_mixed_precision_changes_nothing(name: str, reduce, draw) -> None:
    batch = draw(5)
    loss = pixel_loss(name, reduce=reduce)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(*batch)
    assert value.dtype == torch.float32
    assert value.item() == loss(*batch).item()


@ALL
def test_the_right_answer_costs_less_the_surer_it_is(name: str, reduce, draw) -> None:
    _, target, weight = draw(6)
    signs = 2 * target - 1
    loss = pixel_loss(name, reduce=reduce)
    values = [loss(k * signs, target, weight).item() for k in (-4, -1, 0, 1, 4, 12)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.01
