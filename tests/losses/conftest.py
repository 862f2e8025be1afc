from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import pytest
import torch
from torch import Tensor

Draw: TypeAlias = Callable[[int], tuple[Tensor, Tensor, Tensor]]


@pytest.fixture(scope="session")
def draw() -> Draw:
    """seed → logits, target, weight of two images of 5×6; the second has no defect pixel."""

    def drawn(seed: int) -> tuple[Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        logits = torch.randn(2, 1, 5, 6, generator=generator) * 3
        target = (torch.rand(2, 1, 5, 6, generator=generator) < 0.3).float()
        target[0, 0, 0, 0], target[1] = 1, 0
        choices = torch.tensor([0, 0, 0.25, 1, 1, 1, 1, 10])
        weight = choices[torch.randint(len(choices), (2, 1, 5, 6), generator=generator)]
        weight[0, 0, 0, 0] = 1
        return logits, target, weight

    return drawn
