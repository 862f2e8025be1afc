"""Each pixel loss against an independent definition and against answers known by hand."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity

from anomaly_u2net.losses import (
    AREA_LOSSES,
    PIXEL_LOSSES,
    balanced_bce,
    bce,
    dice,
    focal,
    focal_tversky,
    iou,
    lovasz,
    pixel_loss,
    ssim,
    tversky,
)

CASES = [(name, "batch") for name in PIXEL_LOSSES] + [(name, "image") for name in AREA_LOSSES]
ONE = torch.ones(1, 1, 2, 2)
ZERO = torch.zeros(1, 1, 2, 2)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def pixelwise(name: str, x: np.ndarray, t: np.ndarray, w: np.ndarray) -> float:
    """Pixel by pixel; hard targets, so that only one term of each formula counts."""
    ratio = np.clip((w * (1 - t)).sum() / max((w * t).sum(), 1e-9), 1, 100)
    total = weights = 0.0
    for q, y, v in zip(sigmoid(x).flat, t.flat, w.flat, strict=True):
        right = q if y == 1 else 1 - q
        v = v * ratio if name == "balanced_bce" and y == 1 else v
        factor = (0.25 if y == 1 else 0.75) * (1 - right) ** 2 if name == "focal" else 1.0
        total -= v * factor * math.log(right)
        weights += v
    return total / max(weights, 1)


def area(name: str, x: np.ndarray, t: np.ndarray, w: np.ndarray) -> float:
    """Of one group, from the weighted sets."""
    p = sigmoid(x)
    if not (w * t).any():
        return float((w * p).sum() / w.sum())
    both, claimed, true = (w * p * t).sum(), (w * p).sum(), (w * t).sum()
    if name == "dice":
        return 1 - (2 * both + 1) / (claimed + true + 1)
    if name == "iou":
        return 1 - (both + 1) / (claimed + true - both + 1)
    index = (both + 1) / (both + 0.3 * (claimed - both) + 0.7 * (true - both) + 1)
    return (1 - index) ** (0.75 if name == "focal_tversky" else 1.0)


def lovasz_by_layers(x: np.ndarray, t: np.ndarray, w: np.ndarray) -> float:
    """∫ Δ(pixels with an error above θ) dθ, Δ = 1 − IoU from the sets: the extension's other form."""
    x, t, w = (part[w > 0] for part in (x, t, w))
    error = np.maximum(1 - x * (2 * t - 1), 0)
    if not t.any():
        return float((w * error).sum() / w.sum())
    levels = np.unique(np.append(error, 0.0))
    total = 0.0
    for low, high in pairwise(levels):
        wrong = error > low
        claimed = (t == 1) != wrong
        left = w[(t == 1) & claimed].sum() / w[(t == 1) | claimed].sum()
        total += (high - low) * (1 - left)
    return float(total)


def ssim_by_windows(x: np.ndarray, t: np.ndarray, w: np.ndarray) -> float:
    """Window by window, image by image, from the definition of each moment."""
    total = 0.0
    for p, y, v in zip(sigmoid(x)[:, 0], t[:, 0], w[:, 0], strict=True):
        rows, columns = np.indices(p.shape)
        for r, c in np.argwhere(v > 0):
            g = np.exp(-((rows - r) ** 2 + (columns - c) ** 2) / (2 * 1.5**2)) * (v > 0)
            g[(abs(rows - r) > 5) | (abs(columns - c) > 5)] = 0
            g /= g.sum()
            a, b = (g * p).sum(), (g * y).sum()
            va, vb = (g * (p - a) ** 2).sum(), (g * (y - b) ** 2).sum()
            cov = (g * (p - a) * (y - b)).sum()
            likeness = (2 * a * b + 1e-4) * (2 * cov + 9e-4)
            total += v[r, c] * (1 - likeness / ((a**2 + b**2 + 1e-4) * (va + vb + 9e-4)))
    return float(total / w.sum())


def by_definition(name: str, reduce: str, x: np.ndarray, t: np.ndarray, w: np.ndarray) -> float:
    if name in ("bce", "balanced_bce", "focal"):
        return pixelwise(name, x, t, w)
    if name == "ssim":
        return ssim_by_windows(x, t, w)
    groups = [(x, t, w)] if reduce == "batch" else list(zip(x, t, w, strict=True))
    one = lovasz_by_layers if name == "lovasz" else (lambda *g: area(name, *g))
    return float(np.mean([one(*group) for group in groups]))


@pytest.mark.parametrize(("name", "reduce"), CASES)
@settings(deadline=None, max_examples=12)
@given(seed=st.integers(0, 10_000))
def test_against_the_definition(name: str, reduce, draw, seed: int) -> None:
    batch = draw(seed)
    expected = by_definition(name, reduce, *(part.numpy().astype(np.float64) for part in batch))
    assert pixel_loss(name, reduce=reduce)(*batch).item() == pytest.approx(expected, rel=1e-4)


def test_cross_entropies_by_hand() -> None:
    assert bce(ZERO, ONE, ONE).item() == pytest.approx(math.log(2))
    assert bce(ONE * math.log(3), ONE, ONE).item() == pytest.approx(math.log(4 / 3))
    assert bce(ONE * math.log(3), ZERO, ONE).item() == pytest.approx(math.log(4))
    assert bce(ZERO, ONE, ONE / 4).item() == pytest.approx(math.log(2))  # weights that sum to 1
    assert bce(ZERO, ONE, ONE / 8).item() == pytest.approx(math.log(2) / 2)  # and to less
    # p = 1/2: α·(1/2)²·ln 2 with α = 1/4 on defects, 3/4 elsewhere
    assert focal(ZERO, ONE, ONE).item() == pytest.approx(math.log(2) / 16)
    assert focal(ZERO, ZERO, ONE).item() == pytest.approx(3 * math.log(2) / 16)


def test_balance_by_hand() -> None:
    target = torch.zeros(1, 1, 1, 1001)
    target[..., 0] = 1
    logits = math.log(3) * torch.ones_like(target)  # ln 4/3 where defective, ln 4 elsewhere
    one = torch.ones_like(target)
    expected = (100 * math.log(4 / 3) + 1000 * math.log(4)) / 1100  # 100, not 1000: the bound
    assert balanced_bce(logits, target, one).item() == pytest.approx(expected)
    few = slice(0, 51)
    part = balanced_bce(logits[..., few], target[..., few], one[..., few]).item()
    assert part == pytest.approx((math.log(4 / 3) + math.log(4)) / 2)
    for filled in (ZERO, ONE):  # of one kind, or mostly defective: plain BCE
        assert balanced_bce(ONE, filled, ONE).item() == bce(ONE, filled, ONE).item()


def test_areas_by_hand() -> None:
    # p = 1/2 on 4 defect pixels: TP 2, FN 2, FP 0
    assert dice(ZERO, ONE, ONE).item() == pytest.approx(1 - 5 / 7)
    assert iou(ZERO, ONE, ONE).item() == pytest.approx(1 - 3 / 5)
    assert tversky(ZERO, ONE, ONE).item() == pytest.approx(1 - 3 / 4.4)
    assert focal_tversky(ZERO, ONE, ONE).item() == pytest.approx((1 - 3 / 4.4) ** 0.75, rel=1e-5)
    half = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])  # TP 1, FN 1, FP 1
    assert tversky(ZERO, half, ONE).item() == pytest.approx(1 - 2 / 3)
    assert tversky(100 * (1 - half) - 50, half, ONE).item() == pytest.approx(1 - 1 / 3)
    for loss in (dice, iou, tversky, focal_tversky):
        assert loss(100 * ONE, ONE, ONE).item() == pytest.approx(0)
        assert loss(100 * ONE, ONE, 10 * ONE).item() == pytest.approx(0)  # emphasised pixels
        assert loss(ZERO, ZERO, ONE).item() == pytest.approx(1 / 2)  # the false share


def test_lovasz_by_hand() -> None:
    target = torch.tensor([[[[1.0, 0.0, 0.0]]]])
    one = torch.ones_like(target)
    # Errors 2, 3, 0. Wrong first: the good pixel, IoU 1 → 1/2; then the defect pixel: 1/2 → 0.
    logits = torch.tensor([[[[-1.0, 2.0, -1.0]]]])
    assert lovasz(logits, target, one).item() == pytest.approx(3 / 2 + 2 / 2)
    # The good pixel counts 3: IoU 1 → 1/4 → 0.
    weight = torch.tensor([[[[1.0, 3.0, 1.0]]]])
    assert lovasz(logits, target, weight).item() == pytest.approx(3 * 3 / 4 + 2 / 4)
    # At errors of 0 and 1 it is 1 − IoU itself, without smoothing.
    wrong = torch.tensor([[[[1.0, 0.0, -1.0]]]])
    assert lovasz(wrong, target, one).item() == pytest.approx(1 / 2)
    # No defect pixel: the mean of the hinge errors 1, 1, 3.
    assert lovasz(torch.tensor([[[[0.0, 0.0, 2.0]]]]), 0 * one, one).item() == pytest.approx(5 / 3)


def test_one_large_defect_hides_a_small_one_in_a_batch_and_not_per_image() -> None:
    target = torch.zeros(2, 1, 10, 10)
    target[0], target[1, 0, :2, :2] = 1, 1
    logits = torch.full_like(target, -100.0)
    logits[0] = 100  # the large one found, the small one missed
    weight = torch.ones_like(target)
    assert dice(logits, target, weight).item() == pytest.approx(1 - 201 / 205)
    assert dice(logits, target, weight, reduce="image").item() == pytest.approx((0 + 4 / 5) / 2)
    assert lovasz(logits / 100, target, weight).item() == pytest.approx(2 * (1 - 100 / 104))
    assert lovasz(logits / 100, target, weight, reduce="image").item() == pytest.approx(2 / 2)


def test_ssim_by_hand() -> None:
    # Flat maps: no variance, (2ab + C1) / (a² + b² + C1)
    assert ssim(ZERO, ONE, ONE).item() == pytest.approx(1 - 1.0001 / 1.2501, rel=1e-5)
    assert ssim(100 * ONE, ONE, ONE).item() == pytest.approx(0, abs=1e-6)


def test_ssim_is_that_of_scikit_image_away_from_the_border() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(32, 40)) * 2
    mask = np.zeros((32, 40))
    mask[10:20, 12:30] = 1
    _, similarity = structural_similarity(
        sigmoid(logits), mask, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        data_range=1.0, full=True,
    )  # fmt: skip
    for r, c in ((5, 5), (10, 12), (15, 20), (26, 34)):
        weight = torch.full((1, 1, 32, 40), 1e-6, dtype=torch.float64)
        weight[0, 0, r, c] = 1e6
        value = ssim(
            torch.from_numpy(logits)[None, None], torch.from_numpy(mask)[None, None], weight
        )
        assert value.item() == pytest.approx(1 - similarity[r, c], rel=1e-6)
