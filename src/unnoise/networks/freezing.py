"""A copy of a network for sampling: weights in the processor's layout, modulation cached."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import nn

from .modulation_cache import ModulationCache
from .network import Network
from .packed import pack

MEMORY = {4: torch.channels_last, 5: torch.channels_last_3d}

N = TypeVar("N", bound=Network)


def frozen(network: N, dtype: torch.dtype | None = None) -> N:
    """Return a copy without gradients whose weights are `dtype` and channels-last.

    The copy shares no weights. The embedding of noise level and condition retains its dtype, and so
    does what computes `modulation` in a network that has it, once for every value. The copy's
    weights must not be changed: make a new copy, which costs about as much as one evaluation.
    dtype: by default that of the weights. Buffers are shared.
    """
    own_modulation = type(network).modulation is not Network.modulation
    stays = {"embed", "steer"} if own_modulation else {"embed"}
    done: dict[int, Any] = {}
    modulation: list[nn.Parameter] = []
    with torch.inference_mode(False), torch.no_grad():
        for name, p in network.named_parameters():
            apart = bool(stays & set(name.split(".")))
            kept = dtype is None or apart or not p.is_floating_point()
            layout = MEMORY.get(p.ndim, torch.preserve_format)
            value = p.to(p.dtype if kept else dtype, memory_format=layout, copy=True)
            own = done[id(p)] = nn.Parameter(value, requires_grad=False)
            if apart:
                modulation.append(own)
        copy = _copy(network, done)
    for block in copy.blocks():
        pack(block)
    copy.recompute, copy.compiled_call = False, None
    copy.modulation_cache = ModulationCache(modulation)
    return copy.eval()


def _copy(module: Any, done: dict[int, Any]) -> Any:
    """Return a module of the parameters in `done`; deepcopy would take several times as long."""
    if id(module) in done:
        return done[id(module)]
    copy = done[id(module)] = object.__new__(type(module))
    copy.__dict__.update(module.__dict__)
    copy.__dict__["_parameters"] = {
        name: None if p is None else done[id(p)] for name, p in module._parameters.items()
    }
    copy.__dict__["_buffers"] = dict(module._buffers)
    copy.__dict__["_modules"] = {
        name: None if part is None else _copy(part, done) for name, part in module._modules.items()
    }
    return copy
