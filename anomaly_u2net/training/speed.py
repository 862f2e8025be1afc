"""What makes a training step faster or smaller without changing what is learnt.

How much each is worth is measured in docs/reference/training.md.
"""

from __future__ import annotations

import ctypes
import logging
import os
import platform
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import nn

from anomaly_u2net.models.u2net import NestedU
from anomaly_u2net.recipe import TrainRecipe

logger = logging.getLogger(__name__)

#: Parameters of mallopt (glibc's malloc.h), and what they are called in the environment.
MALLOPT = {-3: "MALLOC_MMAP_THRESHOLD_", -1: "MALLOC_TRIM_THRESHOLD_"}
#: Blocks up to so many bytes, and as much free memory, stay with the process.
KEPT_BYTES = 2**30


def keep_freed_memory() -> bool:
    """Let the process keep the memory that tensors give back, for the tensors of the next step.

    glibc hands blocks of more than 32 MiB back to the system at once, and every step gets its
    activations anew, page by page, filled with zeros. This raises M_MMAP_THRESHOLD and
    M_TRIM_THRESHOLD (mallopt(3)) to 1 GiB for the whole process. Returns whether it was done: not
    without glibc, and not where the environment already sets one of the two.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in MALLOPT.values()):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    refused = [name for option, name in MALLOPT.items() if mallopt(option, KEPT_BYTES) != 1]
    if refused:
        logger.info("the allocator refused %s: training goes on without", ", ".join(refused))
    return not refused


def channels_last(model: nn.Module) -> None:
    """Store the weights of convolutions with the channels last, in place; results follow suit."""
    model.to(memory_format=torch.channels_last)


def recompute_stages(model: nn.Module) -> None:
    """Make every nested U in ``model`` keep no activations within its stages."""
    for module in model.modules():
        if isinstance(module, NestedU):
            module.recompute = True


def on_gpu(settings: TrainRecipe) -> bool:
    """Whether ``train.accelerator`` leads to a CUDA device here."""
    return settings.accelerator != "cpu" and torch.cuda.is_available()


def precision(settings: TrainRecipe) -> Literal["fp32", "bf16", "fp16"]:
    """``train.precision``; auto: bf16 where the device multiplies in it, otherwise fp32.

    A GPU that does (not by emulation), or a CPU with AMX or AVX-512 BF16; otherwise fp32.
    """
    if settings.precision != "auto":
        return settings.precision
    if on_gpu(settings):
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # An older torch does not say what its processor can: that is fp32.
        capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        native = any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16"))
    return "bf16" if native else "fp32"
