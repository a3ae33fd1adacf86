"""From noise to samples: prior, solver, grid, and the last denoising step where a path needs it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InvalidArgument
from ..fields import Field
from ..paths import GaussianPath, grids
from ..randomness import Streams
from .solver import OnStep, Solver


def own_grid(solver: Solver, path: GaussianPath, steps: int) -> Tensor:
    """Return the solver's own grid; raise InvalidArgument where it has none."""
    own = solver.own_grid(path, steps)
    if own is None:
        raise InvalidArgument(
            f"{solver} has no grid of its own; give times, such as grids.karras(path, {steps})"
        )
    return own


@dataclass(frozen=True)
class Samples:
    """Samples x (n, *event) and the number of network evaluations of each.

    finished: False where on_step stopped the solver; x is then the state it had reached.
    """

    x: Tensor
    nfe: int
    finished: bool


def sample(
    field: Field,
    noise: Streams,
    event: tuple[int, ...],
    solver: Solver,
    grid: Tensor | int,
    data_std: float = 1.0,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    on_step: OnStep | None = None,
) -> Samples:
    """Return samples of a field: noise at grid[0], taken to grid[-1] by the solver.

    event: the shape of one sample; grid: times, or a number of steps of the solver's own grid
    (`auto`, `tuned`); data_std: the data's deviation, for the prior of a path that starts with
    signal. Where the grid ends at t = 0 with noise left (σ(0) > 0, as on VE) one more evaluation
    replaces the state by E[x0|x].
    """
    solver = solver.for_data(data_std)
    if isinstance(grid, int):
        grid = own_grid(solver, field.path, grid)
    times = grids.check(grid)
    start, end = float(times[0]), float(times[-1])
    x = field.path.prior(noise, event, start, data_std).to(device=device, dtype=dtype)
    solution = solver.solve(field, x, times, noise, on_step)
    x, nfe = solution.x, solution.nfe
    if solution.finished and end == 0 and float(field.path.sigma(end)) > 0:
        last = field(x, times[-1])
        if on_step is not None:
            on_step(solution.steps, last)
        x, nfe = last.x0, nfe + last.nfe
    return Samples(x, nfe, solution.finished)
