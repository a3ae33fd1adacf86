"""From noise to samples: prior, solver, grid, and the last denoising step where a path needs it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidArgument, need_count, unknown
from ..fields import Field
from ..paths import ChainPath, GaussianPath, grids, peer_grids
from ..randomness import Streams
from .solver import OnStep, Solver

GRIDS: dict[str, Callable[..., Tensor]] = {
    "uniform": grids.uniform,
    "quadratic": grids.quadratic,
    "log_snr": grids.log_snr,
    "karras": grids.karras,
    "polyexponential": peer_grids.polyexponential,
    "kl_optimal": peer_grids.kl_optimal,
    "beta": peer_grids.beta,
    "align_your_steps": peer_grids.align_your_steps,
    "trailing": grids.trailing,
    "leading": grids.leading,
    "linspace": grids.linspace,
    "simple": peer_grids.simple,
    "normal": peer_grids.normal,
    "sgm_uniform": peer_grids.sgm_uniform,
}
ON_CHAINS = ("trailing", "leading", "linspace", "simple", "normal", "sgm_uniform")


def grid_for(path: GaussianPath, spacing: str, steps: int, **options: Any) -> Tensor:
    """A grid by name; options (start, end, sigma_min, sigma_max, rho) as its function takes them.

    Raises InvalidArgument for unknown names and for options the spacing does not have.
    """
    if spacing not in GRIDS:
        raise unknown("grid", spacing, GRIDS)
    need_count("steps", steps)
    if spacing in ON_CHAINS and not isinstance(path, ChainPath):
        raise InvalidArgument(
            f"grid {spacing!r} counts the steps of a chain, and {path} is none; use uniform, "
            "log_snr or karras"
        )
    takes = inspect.signature(GRIDS[spacing]).parameters
    for name in options:
        if name not in takes or name in ("path", "steps"):
            raise unknown(f"option of grid {spacing!r}", name, set(takes) - {"path", "steps"})
    if "path" in takes:
        return GRIDS[spacing](path, steps, **options)
    return GRIDS[spacing](steps, **options)


def own_grid(solver: Solver, path: GaussianPath, steps: int) -> Tensor:
    """The solver's own grid. Raises InvalidArgument where it has none."""
    own = solver.own_grid(path, steps)
    if own is None:
        raise InvalidArgument(
            f"{solver} has no grid of its own; give times, such as grids.karras(path, {steps})"
        )
    return own


@dataclass(frozen=True)
class Samples:
    """What `sample` made: x (n, *event), the network passes each sample cost, and whether the walk
    was finished (False where on_step stopped it: x is then the state it had reached)."""

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
    """Samples of a field: noise at grid[0], walked to grid[-1].

    event: the shape of one sample; grid: times, or a number of steps of the solver's own grid
    (`auto`, `tuned`); data_std: the data's deviation, which the prior counts in where
    the path starts with some signal left. Where the grid ends at t = 0 with noise left (σ(0) > 0,
    as on VE) one more pass replaces the state by E[x0|x].
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
