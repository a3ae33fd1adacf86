"""How straight a field's trajectories are: what few-step sampling depends on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..fields.field import Conditions
from ..solvers.adaptive import integrate
from .translate import Walked


@dataclass(frozen=True)
class Straightness:
    """Of each trajectory x(t) between two times: (batch,) each, and its end (batch, *event).

    deviation: ∫‖v − Δ/T‖²dt, Δ the displacement and T the time it took: zero exactly where the
    velocity is constant. length: ∫‖v‖dt. distance: ‖Δ‖.
    """

    end: Tensor
    deviation: Tensor
    length: Tensor
    distance: Tensor

    @property
    def value(self) -> float:
        """S = E∫‖(x1 − x0) − v‖²dt over [0, 1] (Liu et al. 2023, section 3)."""
        return float(self.deviation.mean())

    @property
    def detour(self) -> Tensor:
        """length/distance of each trajectory, (batch,): 1 where the path is a straight line."""
        return self.length / self.distance


@torch.no_grad()
def straightness(
    field: Walked,
    x: Tensor,
    grid: Tensor | Sequence[float],
    tableau: str = "rk4",
    condition: Conditions = None,
) -> Straightness:
    """Walk x: (batch, *event), from grid[0] to grid[-1], and measure how straight the way is.

    The integrals run beside the state, to the order of the tableau. Time is the path's own: a path
    whose α and σ are not linear in t is not straight even for data at one point. Raises as
    `translate` does.
    """
    direction = 1.0 if float(grid[-1]) > float(grid[0]) else -1.0

    def rate(state: tuple[Tensor, ...], t: Tensor) -> tuple[Tensor, ...]:
        v = field(state[0], t, condition).velocity
        energy = v.flatten(1).square().sum(1)
        return v, energy * direction, energy.sqrt() * direction

    zero = x.new_zeros(len(x))
    end, energy, length = integrate(rate, (x, zero, zero), grid, tableau)
    distance = (end - x).flatten(1).norm(dim=1)
    elapsed = abs(float(grid[-1]) - float(grid[0]))
    return Straightness(end, energy - distance**2 / elapsed, length, distance)
