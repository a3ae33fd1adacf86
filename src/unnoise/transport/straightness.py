"""The straightness of a field's trajectories, which decides how few steps suffice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..fields.field import Conditions
from ..solvers.adaptive import integrate
from .translate import VelocityField


@dataclass(frozen=True)
class Straightness:
    """Measures of each trajectory x(t) between two times, and its end.

    deviation: ∫‖v − Δ/T‖²dt, Δ the displacement and T the elapsed time: zero exactly if the
    velocity is constant. length: ∫‖v‖dt. distance: ‖Δ‖. Each is (batch,); the end is (batch,
    *event).
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
        """length/distance of each trajectory, (batch,): 1 for a straight line."""
        return self.length / self.distance


@torch.no_grad()
def straightness(
    field: VelocityField,
    x: Tensor,
    grid: Tensor | Sequence[float],
    tableau: str = "rk4",
    condition: Conditions = None,
) -> Straightness:
    """Return the straightness of the trajectories from x: (batch, *event), over a grid.

    The integrals are computed beside the state, to the order of the tableau. Time is the path's
    own: a path whose α and σ are not linear in t is not straight even for data at one point. Raises
    the errors of `translate`.
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
