"""What a training step costs: the public U²-Net loop, ours, and ours with each option.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_training.py --markdown table.md

U²-Net† on crops of 160, batch 4. All contestants take turns in this process, on one thread, and the
medians of their CPU seconds are compared. The allocator belongs to a whole process, so it is
measured in fresh ones that take turns. On a GPU (``--device cuda``) seconds are those of the clock,
after a synchronisation, and memory is torch.cuda.max_memory_allocated.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from anomaly_u2net.data.training_set import BalancedBatches, TrainingSet, collate
from anomaly_u2net.models import SideNet, build_model
from anomaly_u2net.recipe import Recipe
from anomaly_u2net.training.module import TrainingModule
from anomaly_u2net.training.speed import keep_freed_memory
from anomaly_u2net.types import Batch, ImageRecord

Step = Callable[[Batch], float]
LOSS_STEPS, LOSS_TOLERANCE = 30, 0.01
LOADER_SHARE = 0.10
FRESH = {"public loop": False, "ours, allocator as it is": False, "ours": True}


class PeakBytes(TorchDispatchMode):
    """The most bytes of tensors that lived at once within it, beside those that lived before."""

    def __init__(self) -> None:
        super().__init__()
        self.live, self.peak = 0, 0
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        given = {a.untyped_storage() for a in torch.utils._pytree.tree_leaves((args, kwargs))
                 if isinstance(a, Tensor)}  # fmt: skip
        out = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(out):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if storage not in self._seen and storage not in given:
                    self._seen.add(storage)
                    self.live += storage.nbytes()
                    weakref.finalize(storage, self._gone, storage.nbytes())
        self.peak = max(self.peak, self.live)
        return out

    def _gone(self, size: int) -> None:
        self.live -= size
