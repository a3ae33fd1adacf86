"""Flow maps: jumps from any time to any other, by a few-step student or by a solver."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from ..paths import GaussianPath
from .field import Conditions


@runtime_checkable
class FlowMap(Protocol):
    """x_s from x_t along the probability flow, s < t (consistency models: s = 0)."""

    path: GaussianPath

    def __call__(self, x_t: Tensor, t: float, s: float, condition: Conditions = None) -> Tensor: ...
