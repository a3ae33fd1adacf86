"""The bytes of tensors alive, counted at every operation: the same on every machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """A mode in which `peak` is the most bytes that tensors made since its start held at one time.

    Memory is counted once, however many tensors share it, and that of `known` is not counted.
    """

    def __init__(self, *known: Tensor) -> None:
        super().__init__()
        self.known = {tensor.untyped_storage()._cdata for tensor in known}
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.alive = {key: kept for key, kept in self.alive.items() if not kept[0].expired()}
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                memory = tensor.untyped_storage()
                if memory._cdata not in self.known:
                    self.alive[memory._cdata] = (StorageWeakRef(memory), memory.nbytes())
        self.peak = max(self.peak, sum(size for _, size in self.alive.values()))
        return out


def peak(run: Callable[[], Any], *known: Tensor) -> int:
    """Return the most bytes that tensors made by run() held at one time, without gradients."""
    with torch.no_grad(), LiveBytes(*known) as counted:
        run()
    return counted.peak
