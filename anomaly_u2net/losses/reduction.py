"""What the pixel losses share: their signature, their precision and their averages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol, TypeAlias

import torch
from torch import Tensor

PixelLoss: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
Reduce: TypeAlias = Literal["batch", "image"]


class AreaLoss(Protocol):
    """A pixel loss that compares sets of pixels: those of the batch or those of each image."""

    def __call__(
        self, logits: Tensor, target: Tensor, weight: Tensor, *, reduce: Reduce = "batch"
    ) -> Tensor: ...


def full(logits: Tensor) -> Tensor:
    """Half precision becomes float32, whose sums over an image stay exact enough and finite."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def weighted_mean(loss: Tensor, weight: Tensor) -> Tensor:
    """Σ weight·loss / Σ weight, scalar, divided by at least 1: 0 when all weights are 0.

    >>> weighted_mean(torch.tensor([1.0, 5.0]), torch.tensor([3.0, 1.0])).item()
    2.0
    """
    return (loss * weight).sum() / weight.sum().clamp_min(1)


def grouped(part: Tensor, reduce: Reduce) -> Tensor:
    """(B, 1, h, w) → (groups, pixels): one group for the batch, or one per image."""
    return part.reshape(1 if reduce == "batch" else len(part), -1)


def mean_over_groups(loss: Tensor, weight: Tensor) -> Tensor:
    """The mean of ``loss``, (groups,), over the groups with a pixel that counts; 0 without any.

    ``weight``: (groups, pixels). So an image that is all padding changes nothing.
    """
    counts = weight.any(dim=1)
    return torch.where(counts, loss, 0).sum() / counts.sum().clamp_min(1)
