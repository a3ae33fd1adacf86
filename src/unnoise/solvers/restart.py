"""Restart sampling: back to more noise and down again, K times (Xu et al. 2023)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InvalidArgument, need_count
from ..fields.field import Field, Prediction
from ..paths import GaussianPath, grids
from .registry import get, preset
from .solver import Noise, OnStep, Solution, Solver, Times


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
    """A deterministic solver that goes back up and down again at some levels (alg. 1).

    At the grid's time nearest to σ/α = low (in log; inside the interval, and with σ > 0) the state
    goes up to `high` by the noise that takes, and is walked down on Karras' grid (ρ = 7), `times`
    times; then the walk goes on. Where the grid has no time inside the interval, the walk is split
    at `low` itself, which the paper does not say. A solver with history begins anew at each split.
    on_step counts a restart to the step that led to it.

    Up and down both keep the marginals, so what a restart costs is the error of its own steps; it
    contracts the errors made before it. `order` is that of the walk down, for steps and restarts'
    steps growing together.
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

    def refusal(self, path: GaussianPath, start: float, end: float) -> str | None:
        top, bottom = (math.exp(-float(path.log_snr(t))) for t in (start, end))
        most = math.exp(-path.log_snr_range()[0])
        for interval in self.intervals:
            if not (bottom < interval.high and interval.low < top and interval.high <= most):
                return (
                    f"a restart between σ/α = {interval.low:g} and {interval.high:g} is not on "
                    f"the walk from {top:.4g} to {bottom:.4g} of a path up to {most:.4g}; give "
                    "another interval"
                )
        return self.solver.refusal(path, start, end)

    def walk(
        self, field: Field, x: Tensor, times: Times, noise: Noise | None, on_step: OnStep | None
    ) -> Solution:
        assert noise is not None
        nfe = 0
        for grid, first, raised in _pieces(self, field.path, times.floats):
            if raised is not None:
                draw = noise.normal(*x.shape[1:]).to(device=x.device, dtype=x.dtype)
                x = torch.mul(x, raised[0]).add_(draw, alpha=raised[1])
            last = times.steps - 1
            look = None if on_step is None else _counted(on_step, first, raised is not None, last)
            made = self.solver.walk(field, x, Times.of(grid), None, look)
            x, nfe = made.x, nfe + made.nfe
            if not made.finished:
                step = first if raised is not None else min(first + made.steps, last)
                return Solution(x, made.t, step, nfe, False)
        return Solution(x, times.floats[-1], times.steps, nfe, True)


def _counted(on_step: OnStep, first: int, inside: bool, last: int) -> OnStep:
    def look(k: int, prediction: Prediction) -> bool | None:
        return on_step(first if inside else min(first + k, last), prediction)

    return look


def _pieces(
    solver: Restart, path: GaussianPath, times: tuple[float, ...]
) -> Iterator[tuple[list[float], int, tuple[float, float] | None]]:
    """(grid, step it counts to, (scale, deviation) of the noise before it) of every piece."""
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
        step = max(sum(t > time for t in times) - 1, 0)
        if at > begin:
            yield grid[begin : at + 1], sum(t > grid[begin] for t in times), None
        begin = at
        high = float(path.time(-math.log(interval.high)))
        (a0, s0), (a1, s1) = ((float(path.alpha(t)), float(path.sigma(t))) for t in (time, high))
        raised = (a1 / a0, math.sqrt(s1**2 - (a1 / a0 * s0) ** 2))
        down = grids.karras(path, interval.steps, high, time, rho=solver.rho).tolist()
        for _ in range(interval.times):
            yield down, step, raised
    if begin < len(grid) - 1:
        yield grid[begin:], sum(t > grid[begin] for t in times), None


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
