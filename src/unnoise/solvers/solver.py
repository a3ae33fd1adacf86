"""The protocol of every solver, and its only driver: a solver is a generator of evaluations.

`steps` yields where it needs the field, receives the Prediction there, and returns x at the grid's
end; `solve` evaluates the field, counts, reports, interrupts and finds numbers that break down.
"""

from __future__ import annotations

from abc import ABC
from bisect import bisect_right
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from ..errors import InvalidArgument, Unsupported
from ..fields.field import Field, Prediction
from ..paths import GaussianPath, grids
from .finite import finite, raise_at_end, raise_if_not_finite

# x, t: the state at time t of the grid; x, t, k: a stage inside grid step k, no state of the
# trajectory. x: (batch, *event) of any batch size; t: () or (batch,), float64.
Request = tuple[Tensor, Tensor] | tuple[Tensor, Tensor, int]


@runtime_checkable
class Noise(Protocol):
    """Source of a stochastic solver's draws: `randomness.Streams`, or anything with its methods."""

    def normal(self, *event: int) -> Tensor: ...
    def mark(self) -> int: ...
    def rewound(self, mark: int = 0) -> Noise: ...


OnStep = Callable[[int, Prediction], bool | None]


@dataclass(frozen=True)
class Solution:
    """The state `x` at time `t`, reached after `steps` steps of the grid.

    `nfe` counts network evaluations a sample; `finished` is False where on_step interrupted.
    """

    x: Tensor
    t: float
    steps: int
    nfe: int
    finished: bool


@dataclass(frozen=True)
class Outcome:
    """The return value of a generator that reports more than x.

    `solve` builds `kind(x, t, steps, nfe, finished, **fields)`; fields may also replace t, steps
    or nfe, such as the nfe of the slowest sample where samples cost differently.
    """

    x: Tensor
    kind: type[Solution] = Solution
    fields: Mapping[str, Any] | None = None


Steps = Generator[Request, Prediction, Tensor | Outcome]


class Solver(ABC):
    """A rule that takes any field down a grid. Frozen and hashable; serves any number of solves.

    `order` is the declared order of convergence (weak order where the solver draws noise);
    `stochastic` is True where it draws noise; `needs_learned_variance` where only a field that
    learned its variance will do.
    """

    order: int
    stochastic: bool = False
    needs_learned_variance: bool = False

    def steps(self, path: GaussianPath, x: Tensor, grid: TimeGrid, noise: Noise | None) -> Steps:
        """Yield each evaluation's place, receive its Prediction, return x at the grid's end.

            prediction = yield x, t       # x is the solver's state at time t of the grid
            prediction = yield x, t, k    # a stage inside grid step k
            return x

        Every t is a tensor, `grid.tensors[k]` for those of the grid. noise is given where the
        solver is `stochastic`. A composite solver writes `x = yield from inner.steps(...)`.
        """
        raise NotImplementedError

    def kernel(self, prediction: Prediction, t: float, s: float) -> tuple[Tensor, Tensor]:
        """Return (mean, std) of the Gaussian transition from (prediction.x_t, t) to time s.

        The step from t to s is mean + std·ξ, ξ standard normal. mean: (batch, *event); std: 0-dim,
        or (batch, *event) where the variance is learned; 0 for a deterministic solver. Raises
        Unsupported for a solver that uses more than the evaluation at the step's start.
        """
        raise Unsupported(
            f"{self} has no transition kernel; use a one-step solver, such as ddpm or ddim:eta=1"
        )

    def why_unsupported(self, path: GaussianPath, start: float, end: float) -> str | None:
        """Return why this solver cannot go from `start` to `end` on `path`, or None. Override."""
        return None

    def why_refused(self, path: GaussianPath, start: float, end: float) -> str | None:
        """Return `why_unsupported`, after the general rule: fresh noise needs the score."""
        if self.stochastic and not path.independent:
            return (
                "noise can be added only where ε is normal and independent of x0, so that the "
                "score is known; use a deterministic solver (eta=0)"
            )
        return self.why_unsupported(path, start, end)

    def for_data(self, data_std: float) -> Solver:
        """Return this solver for data of that deviation; most are the same for all."""
        return self

    def own_grid(
        self, path: GaussianPath, steps: int, start: float = 1.0, end: float = 0.0
    ) -> Tensor | None:
        """Return the grid that goes with the solver, or None where it has none of its own."""
        return None

    def solve(
        self,
        field: Field,
        x: Tensor,
        grid: Tensor | Sequence[float] | TimeGrid,
        noise: Noise | None = None,
        on_step: OnStep | None = None,
    ) -> Solution:
        """Take x from grid[0] to grid[-1] along `field`.

        x: (batch, *event), distributed as x_t at t = grid[0]; grid: decreasing times, both ends
        included; noise: needed by stochastic solvers, which draw (batch, *event) a step.
        `on_step(step, prediction)` receives every Prediction; where it returns False, the Solution
        is the last state of the trajectory.

        Raises InvalidArgument for a bad grid or missing noise, Unsupported for a path that this
        solver cannot take, NonFinite (naming step, time and sample) where the numbers break down.
        """
        times = grid if isinstance(grid, TimeGrid) else TimeGrid.of(grid)
        reason = self.why_refused(field.path, times.floats[0], times.floats[-1])
        if reason:
            raise Unsupported(f"{self} on {field.path}: {reason}")
        if self.stochastic and noise is None:
            raise InvalidArgument(f"{self} draws noise: pass noise=Streams(seed, range(n))")
        mark = noise.mark() if self.stochastic and noise is not None else 0
        solution = self.drive(field, x, times, noise, on_step)
        if not finite(solution.x):  # once more, checking every number
            again = noise.rewound(mark) if noise is not None else None
            check = partial(raise_if_not_finite, times.steps)
            raise_at_end(self.drive(field, x, times, again, check).x, times.floats[-1])
        return solution

    def drive(
        self, field: Field, x: Tensor, times: TimeGrid, noise: Noise | None, on_step: OnStep | None
    ) -> Solution:
        """Run `steps`, as `solve` does between its checks."""
        walk, nfe = self.steps(field.path, x, times, noise), 0
        result: Tensor | Outcome | None = None
        state, t, k, finished = x, times.floats[0], 0, True
        prediction: Prediction | None = None
        while finished:
            try:
                request = walk.send(prediction)  # type: ignore[arg-type]  # None starts it
            except StopIteration as end:
                result = state = end.value
                t, k = times.floats[-1], times.steps
                break
            prediction = None  # not held while the field is evaluated
            prediction = field(request[0], request[1])
            nfe += prediction.nfe
            if on_step is not None:
                step = request[2] if len(request) > 2 else times.step_at(float(request[1]))
                if len(request) == 2 or step > k:  # the first evaluation of a step is its state
                    state, t, k = request[0], float(request[1].max()), step
                if on_step(step, prediction) is False:
                    result, finished = _interrupt(walk), False
        if isinstance(result, Outcome):
            place = {"t": t, "steps": k, "nfe": nfe, "finished": finished} | dict(
                result.fields or {}
            )
            return result.kind(x=result.x, **place)
        return Solution(state, t, k, nfe, finished)


def draw(noise: Noise | None, x: Tensor) -> Tensor:
    """Return fresh normal noise of x's shape, device and dtype."""
    if noise is None:
        raise InvalidArgument("this solver draws noise: pass noise=Streams(seed, range(n))")
    return noise.normal(*x.shape[1:]).to(device=x.device, dtype=x.dtype)


def _interrupt(walk: Steps) -> Tensor | Outcome | None:
    """Close the generator; return its Outcome where it returns one (`close` of Python 3.13)."""
    try:
        walk.throw(GeneratorExit())
    except StopIteration as end:
        return end.value
    except GeneratorExit:
        pass
    return None


@dataclass(frozen=True)
class TimeGrid:
    """A checked grid: its times as Python floats and as 0-dim float64 tensors, made once."""

    floats: tuple[float, ...]
    tensors: tuple[Tensor, ...]

    @property
    def steps(self) -> int:
        return len(self.floats) - 1

    @staticmethod
    def of(grid: Tensor | Sequence[float]) -> TimeGrid:
        times = torch.as_tensor(grid, dtype=torch.float64).detach()
        if times.ndim != 1:
            grids.check(times)  # raises
        return _time_grid(tuple(times.tolist()))

    def step_at(self, t: float) -> int:
        """Return the step k that begins at t: floats[k] ≥ t > floats[k + 1]; 0 to steps − 1."""
        k = bisect_right(self.floats, -t, key=lambda time: -time) - 1
        return min(max(k, 0), self.steps - 1)

    def part(self, first: int, last: int) -> TimeGrid:
        """Return the grid of the times first … last − 1."""
        return TimeGrid(self.floats[first:last], self.tensors[first:last])


@lru_cache(maxsize=256)
def _time_grid(floats: tuple[float, ...]) -> TimeGrid:
    with torch.inference_mode(False):  # the tensors outlive the solve that makes them
        return TimeGrid(floats, grids.check(floats).unbind())
