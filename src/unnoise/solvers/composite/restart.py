"""Restart sampling: back to more noise and down again, K times (Xu et al. 2023)."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import InvalidArgument, need_count
from ...fields.field import Prediction
from ...paths import GaussianPath, grids
from ..registry import get, preset
from ..relay import as_stages, state_of
from ..solver import Noise, Request, Solver, Steps, TimeGrid, draw


@dataclass(frozen=True)
class Interval:
    """Levels σ/α between which to restart, `times` times, with `steps` steps down each time."""

    low: float
    high: float
    steps: int = 10
    times: int = 2

    def __post_init__(self) -> None:
        if not (math.isfinite(self.high) and 0 < self.low < self.high):
            raise InvalidArgument(
                f"a restart between σ/α = {self.low!r} and {self.high!r}; need 0 < low < high"
            )
        need_count("steps of a restart", self.steps)
        need_count("times of a restart", self.times)


@dataclass(frozen=True)
class Restart(Solver):
    """Return from some levels to more noise and go down again, by a deterministic solver (alg. 1).

    At the grid's time nearest to σ/α = low (in log; inside the interval, and with σ > 0) the state
    is raised to `high` by the noise that this takes, and `solver` goes down again on Karras' grid
    (ρ = 7), `times` times; then the rest of the grid follows. Where the grid has no time inside the
    interval, it is split at `low` itself, a case that the paper leaves open. A solver with history
    starts anew at each split. on_step receives a restart's evaluations as stages of the step
    before it.

    Up and down both preserve the marginals: the cost of a restart is the error of its own steps,
    and it contracts the errors made before it. `order` is that of the solver, for the grid's steps
    and the restarts' steps growing together.
    """

    solver: Solver
    intervals: tuple[Interval, ...]
    rho: float = 7.0
    stochastic = True

    def __post_init__(self) -> None:
        if self.solver.stochastic:
            raise InvalidArgument(
                f"{self.solver} draws noise itself; restart a deterministic solver (eta=0)"
            )
        if not self.intervals:
            raise InvalidArgument("restart without intervals; give Interval(low, high) or more")

    @property
    def order(self) -> int:  # type: ignore[override]
        return self.solver.order

    def why_unsupported(self, path: GaussianPath, start: float, end: float) -> str | None:
        top, bottom = (math.exp(-float(path.log_snr(t))) for t in (start, end))
        most = math.exp(-path.log_snr_range()[0])
        for interval in self.intervals:
            if not (bottom < interval.high and interval.low < top and interval.high <= most):
                return (
                    f"a restart between σ/α = {interval.low:g} and {interval.high:g} is not on "
                    f"the walk from {top:.4g} to {bottom:.4g} of a path up to {most:.4g}; give "
                    "another interval"
                )
        return self.solver.why_unsupported(path, start, end)

    def steps(self, path: GaussianPath, x: Tensor, grid: TimeGrid, noise: Noise | None) -> Steps:
        k = 0
        for times, raised in _pieces(self, path, grid.floats):
            if raised is not None:
                x = torch.mul(x, raised[0]).add_(draw(noise, x), alpha=raised[1])
            inner = self.solver.steps(path, x, TimeGrid.of(times), None)
            if raised is not None:
                x = yield from as_stages(inner, k)
            else:
                x = yield from _part(inner, grid, grid.step_at(times[0]))
                k = grid.step_at(times[-2])
        return x


def _part(steps: Steps, grid: TimeGrid, k: int) -> Generator[Request, Prediction, Tensor]:
    """Relay the steps of a part of `grid` from its step k, stages numbered as in the whole."""
    try:
        request = next(steps)
        while True:
            x, t, *stage = request
            k = k if stage else grid.step_at(float(t))
            request = steps.send((yield (x, t, k) if stage else (x, t)))
    except StopIteration as end:
        return state_of(end.value)


def _pieces(
    solver: Restart, path: GaussianPath, times: tuple[float, ...]
) -> Iterator[tuple[list[float], tuple[float, float] | None]]:
    """Yield (times, (scale, deviation) of the noise before them) of every piece."""
    level: Callable[[float], float] = lambda t: math.exp(-float(path.log_snr(t)))  # noqa: E731
    grid, splits = list(times), []
    for interval in solver.intervals:
        inside = [t for t in grid[1:] if 0 < level(t) < interval.high]
        if not inside:
            inside = [float(path.time(-math.log(interval.low)))]
            grid = sorted({*grid, inside[0]}, reverse=True)
        low = interval.low
        splits.append((min(inside, key=lambda t: abs(math.log(level(t) / low))), interval))
    splits.sort(key=lambda split: -split[0])
    begin = 0
    for time, interval in splits:
        at = grid.index(time)
        if at > begin:
            yield grid[begin : at + 1], None
        begin = at
        high = float(path.time(-math.log(interval.high)))
        (a0, s0), (a1, s1) = ((float(path.alpha(t)), float(path.sigma(t))) for t in (time, high))
        raised = (a1 / a0, math.sqrt(s1**2 - (a1 / a0 * s0) ** 2))
        down = grids.karras(path, interval.steps, high, time, rho=solver.rho).tolist()
        for _ in range(interval.times):
            yield down, raised
    if begin < len(grid) - 1:
        yield grid[begin:], None


@preset
def restart(
    solver: str = "heun",
    low: float = 0.1,
    high: float = 2.0,
    steps: int = 10,
    times: int = 2,
) -> Solver:
    """Restart with one interval around any deterministic solver (Xu et al. 2023).

    solver "heun" is EDM's, in σ/α; several intervals: `Restart(solver, (Interval(…), …))`.
    """
    inner = get("heun", coordinate="sigma") if solver == "heun" else get(solver)
    return Restart(inner, (Interval(low, high, steps, times),))
