"""A solver walks a field along a grid of times; a Solution says where it arrived."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ..errors import InvalidArgument, NonFinite
from ..fields.field import Conditions, Field, Prediction
from ..paths import GaussianPath, grids


@runtime_checkable
class Noise(Protocol):
    """Where stochastic solvers draw from: `randomness.Streams`, or anything with these methods."""

    def normal(self, *event: int) -> Tensor: ...
    def mark(self) -> int: ...
    def rewound(self, mark: int = 0) -> Noise: ...


OnStep = Callable[[int, Prediction], bool | None]


@dataclass(frozen=True)
class Solution:
    """Where a solve arrived: the state `x` at time `t`, after `steps` steps.

    `passes` counts network passes a sample; `finished` is False where on_step stopped the walk.
    """

    x: Tensor
    t: float
    steps: int
    nfe: int
    finished: bool


class Solver(ABC):
    """Walks any field down a grid. Frozen and hashable; one instance serves any number of solves.

    `order` is the declared order of convergence (weak order where the solver draws noise);
    `stochastic` says whether it draws noise.
    """

    order: int
    stochastic: bool = False

    @abstractmethod
    def walk(
        self, field: Field, x: Tensor, times: Times, noise: Noise | None, on_step: OnStep | None
    ) -> Solution:
        """The solver's own loop, on a checked grid."""

    def refusal(self, path: GaussianPath, start: float, end: float) -> str | None:
        """Why this solver cannot walk `path` from `start` to `end`, or None where it can."""
        return None

    def objection(self, path: GaussianPath, start: float, end: float) -> str | None:
        """`refusal`, and what holds of every solver: fresh noise needs the score."""
        if self.stochastic and not path.independent:
            return (
                "noise can be added only where ε is normal and independent of x0, so that the "
                "score is known; use a deterministic solver (eta=0)"
            )
        return self.refusal(path, start, end)

    def for_data(self, data_std: float) -> Solver:
        """This solver for data of that deviation; most are the same for all."""
        return self

    def own_grid(
        self, path: GaussianPath, steps: int, start: float = 1.0, end: float = 0.0
    ) -> Tensor | None:
        """The grid that goes with the solver, or None where it has none of its own."""
        return None

    def solve(
        self,
        field: Field,
        x: Tensor,
        grid: Tensor | Sequence[float],
        noise: Noise | None = None,
        on_step: OnStep | None = None,
    ) -> Solution:
        """Walk `field` from x at grid[0] to grid[-1].

        x: (batch, *event), distributed as x_t at t = grid[0]; grid: decreasing times, both ends
        included; noise: needed by stochastic solvers, which draw (batch, *event) a step.
        `on_step(step, prediction)` sees every Prediction; returning False ends the walk there.

        Raises InvalidArgument for a bad grid or missing noise, Unsupported where the solver cannot
        walk this path, NonFinite (naming step, time and sample) where the numbers break down.
        """
        times = grid if isinstance(grid, Times) else Times.of(grid)
        reason = self.objection(field.path, times.floats[0], times.floats[-1])
        if reason:
            from ..errors import Unsupported

            raise Unsupported(f"{self} on {field.path}: {reason}")
        if self.stochastic and noise is None:
            raise InvalidArgument(f"{self} draws noise: pass noise=Streams(seed, range(n))")
        mark = noise.mark() if self.stochastic and noise is not None else 0
        solution = self.walk(field, x, times, noise, on_step)
        if not _finite(solution.x):
            self._explain(field, x, times, noise.rewound(mark) if noise is not None else None)
        return solution

    def _explain(self, field: Field, x: Tensor, times: Times, noise: Noise | None) -> None:
        """Walk once more, looking at every number, and raise with the first bad one's place."""

        def look(step: int, prediction: Prediction) -> None:
            for what, value in (("state", prediction.x_t), ("prediction", prediction.value)):
                bad = ~torch.isfinite(value.flatten(1)).all(1)
                if bool(bad.any()):
                    t = float(torch.as_tensor(prediction.t).flatten()[0])
                    raise NonFinite(
                        f"the {what} is not finite at step {step} of {times.steps}, "
                        f"t = {t:.6g}, sample {int(bad.nonzero()[0])} of {len(bad)}; the field or "
                        "the step there is at fault (a smaller guidance scale or more steps help "
                        "where the walk diverges)"
                    )

        final = self.walk(field, x, times, noise, look).x
        bad = ~torch.isfinite(final.flatten(1)).all(1)
        raise NonFinite(
            f"the state is not finite after the last step, t = {times.floats[-1]:.6g}, sample "
            f"{int(bad.nonzero()[0]) if bool(bad.any()) else 0} of {len(bad)}"
        )

    def as_flow_map(
        self,
        field: Field,
        steps: int,
        spacing: Callable[[int, float, float], Tensor] = grids.uniform,
    ) -> SolverFlowMap:
        """This solver with `steps` steps as an anytime-to-anytime jump of the field."""
        return SolverFlowMap(self, field, steps, spacing)


def stir(x: Tensor, noise: Noise, deviation: float) -> None:
    """Add `deviation` times fresh normal noise to a state of the walk's own."""
    x.add_(noise.normal(*x.shape[1:]).to(device=x.device, dtype=x.dtype), alpha=deviation)


def _finite(x: Tensor) -> bool:
    """Whether every number is finite; so it is where the sum is, which needs no memory."""
    return bool(x.sum().isfinite()) or bool(torch.isfinite(x).all())


@dataclass(frozen=True)
class Times:
    """A checked grid: its times as Python floats and as 0-dim float64 tensors, made once."""

    floats: tuple[float, ...]
    tensors: tuple[Tensor, ...]

    @property
    def steps(self) -> int:
        return len(self.floats) - 1

    @staticmethod
    def of(grid: Tensor | Sequence[float]) -> Times:
        times = torch.as_tensor(grid, dtype=torch.float64).detach()
        if times.ndim != 1:
            grids.check(times)  # raises
        return _times(tuple(times.tolist()))


@lru_cache(maxsize=256)
def _times(floats: tuple[float, ...]) -> Times:
    with torch.inference_mode(False):  # kept beyond the walk that asks first
        return Times(floats, grids.check(floats).unbind())


@dataclass(frozen=True)
class SolverFlowMap:
    """A FlowMap made of a deterministic solver: x_s from x_t in `steps` steps."""

    solver: Solver
    field: Field
    steps: int
    spacing: Callable[[int, float, float], Tensor]

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
