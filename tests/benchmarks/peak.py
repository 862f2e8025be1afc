"""How much memory tensors take, on any device, counted and not sampled."""

from __future__ import annotations

import weakref
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class PeakBytes(TorchDispatchMode):
    """The most bytes of tensors that lived at once within it, beside those that lived before."""

    def __init__(self) -> None:
        super().__init__()
        self.live, self.peak = 0, 0
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = self._storages((args, kwargs))
        out = func(*args, **(kwargs or {}))
        for storage in self._storages(out) - given:
            if storage not in self._seen:
                self._seen.add(storage)
                self.live += storage.nbytes()
                weakref.finalize(storage, self._gone, storage.nbytes())
        self.peak = max(self.peak, self.live)
        return out

    def _storages(self, tree: Any) -> set[Any]:
        return {t.untyped_storage() for t in tree_leaves(tree) if isinstance(t, Tensor)}

    def _gone(self, size: int) -> None:
        self.live -= size
