"""A solver as an anytime-to-anytime jump of a field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..errors import InvalidArgument
from ..fields.field import Conditions, Field
from ..paths import GaussianPath, grids
from .solver import Solver


@dataclass(frozen=True)
class SolverFlowMap:
    """A FlowMap made of a deterministic solver: x_s from x_t in `steps` steps."""

    solver: Solver
    field: Field
    steps: int
    spacing: Callable[[int, float, float], Tensor] = grids.uniform

    def __post_init__(self) -> None:
        if self.solver.stochastic:
            raise InvalidArgument(f"{self.solver} draws noise; a flow map is deterministic")

    @property
    def path(self) -> GaussianPath:
        return self.field.path

    def __call__(self, x_t: Tensor, t: float, s: float, condition: Conditions = None) -> Tensor:
        if s == t:
            return x_t
        field = self.field if condition is None else self.field.conditioned(condition)
        return self.solver.solve(field, x_t, self.spacing(self.steps, t, s)).x
