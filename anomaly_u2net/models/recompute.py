"""Less memory for more time: a stage's activations are made again in the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recomputed(run: Callable[..., Tensor], *inputs: Tensor, stage: nn.Module) -> Tensor:
    """``run(*inputs)``, of which only ``inputs`` are kept for the backward pass.

    ``stage`` holds the layers that ``run`` uses. They must not be random: the generator is not set
    back (no block here drops anything). Source: Chen et al., arXiv 1604.06174, section 4.1.

    >>> import torch
    >>> stage = nn.BatchNorm2d(1)
    >>> image = torch.arange(4.0).reshape(1, 1, 2, 2).requires_grad_()
    >>> (recomputed(stage, image, stage=stage) ** 2).sum().backward()
    >>> stage.running_mean.item(), stage.num_batches_tracked.item()  # one batch, counted once
    (0.15000000596046448, 1)
    """
    output: Tensor = checkpoint(
        run,
        *inputs,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=lambda: (nullcontext(), kept_statistics(stage)),
    )
    return output


@contextmanager
def kept_statistics(module: nn.Module) -> Iterator[None]:
    """Within it the BatchNorm layers of ``module`` normalise by the batch, but do not count it."""
    layers = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    before = [(layer.momentum, layer.num_batches_tracked) for layer in layers]
    for layer in layers:
        layer.momentum, layer.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for layer, (momentum, counted) in zip(layers, before, strict=True):
            layer.momentum, layer.num_batches_tracked = momentum, counted
