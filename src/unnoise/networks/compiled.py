"""The compilation of a network's blocks one by one, cached on disk, with a fall back to eager."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .network import Network

VARIANTS = 64  # compiled shapes of a class of blocks; further ones stay eager


def compile_blocks(
    network: Network,
    cache: str | Path | None = None,
    backend: str | Callable[..., Any] = "inductor",
) -> None:
    """Have a network's blocks called through torch.compile, in place.

    One function for each class of blocks, so that blocks of equal shapes share their compilation,
    forward and backward at the first call. Compiled code is cached in the folder `cache` and found
    by later processes; if TORCHINDUCTOR_CACHE_DIR is set, there. If anything fails (no compiler on
    the machine, a bug of torch's) all blocks run eagerly from then on, with the same numbers and
    one warning. Inside torch.func's transforms blocks are always eager; derivatives of derivatives
    are not possible through compiled ones.
    """
    if cache is not None:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache))
    network.compiled_call = CompiledCall(backend)


class CompiledCall:
    """A caller of blocks through the compiled code of their class; see `compile_blocks`."""

    def __init__(self, backend: str | Callable[..., Any]) -> None:
        self.backend = backend
        self.compiled: dict[type[nn.Module], Callable[..., Any]] = {}
        self.broken = False

    def __call__(self, block: nn.Module, *args: Any) -> Any:
        if self.broken or torch._C._functorch.peek_interpreter_stack() is not None:
            return block(*args)
        import torch._dynamo.config as tracing
        import torch._functorch.config as derivatives

        most = max(tracing.recompile_limit, VARIANTS)
        try:
            with (
                tracing.patch(recompile_limit=most),
                derivatives.patch(force_non_lazy_backward_lowering=True),
            ):
                return self._compiled(type(block))(block, *args)
        except Exception as error:
            made = block(*args)  # raises if the compiler is not to blame
            self.broken = True
            warnings.warn(
                f"the network cannot be compiled here and runs without: {error!r:.300}; "
                "train.compile=off leaves out the attempt",
                RuntimeWarning,
                stacklevel=2,
            )
            return made

    def _compiled(self, kind: type[nn.Module]) -> Callable[..., Any]:
        if kind not in self.compiled:
            self.compiled[kind] = torch.compile(kind.forward, dynamic=False, backend=self.backend)
        return self.compiled[kind]
