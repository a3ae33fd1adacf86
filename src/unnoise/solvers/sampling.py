"""From noise to samples: prior, solver, grid, and the last denoising step where a path needs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidArgument, need_count, unknown
from ..fields import Field
from ..paths import ChainPath, GaussianPath, grids
from ..randomness import Streams
from .solver import OnStep, Solver

GRIDS: dict[str, Callable[..., Tensor]] = {
    "uniform": lambda path, steps, **o: grids.uniform(steps, **o),
    "quadratic": lambda path, steps, **o: grids.quadratic(steps, **o),
    "log_snr": grids.log_snr,
    "karras": grids.karras,
    "trailing": grids.trailing,
    "leading": grids.leading,
    "linspace": grids.linspace,
}


def grid_for(path: GaussianPath, spacing: str, steps: int, **options: Any) -> Tensor:
    """A grid by name; options (start, end, sigma_min, sigma_max, rho) as its function takes them.

    Raises InvalidArgument for unknown names and for options the spacing does not have.
    """
    if spacing not in GRIDS:
        raise unknown("grid", spacing, GRIDS)
    need_count("steps", steps)
    if spacing in ("trailing", "leading", "linspace") and not isinstance(path, ChainPath):
        raise InvalidArgument(
            f"grid {spacing!r} counts the steps of a chain, and {path} is none; use uniform, "
            "log_snr or karras"
        )
    allowed = {
        "uniform": {"start", "end"},
        "quadratic": {"start", "end"},
        "log_snr": {"start", "end", "sigma_min", "sigma_max"},
        "karras": {"start", "end", "sigma_min", "sigma_max", "rho"},
    }.get(spacing, set())
    for name in options:
        if name not in allowed:
            raise unknown(f"option of grid {spacing!r}", name, allowed)
    return GRIDS[spacing](path, steps, **options)


@dataclass(frozen=True)
class Samples:
    """What `sample` made: x (n, *event), the network passes each sample cost, and whether the walk
    was finished (False where on_step stopped it: x is then the state it had reached)."""

    x: Tensor
    passes: int
    finished: bool


def sample(
    field: Field,
    noise: Streams,
    event: tuple[int, ...],
    solver: Solver,
    grid: Tensor,
    data_std: float = 1.0,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    on_step: OnStep | None = None,
) -> Samples:
    """Samples of a field: noise at grid[0], walked to grid[-1].

    event: the shape of one sample; data_std: the data's deviation, which the prior counts in where
    the path starts with some signal left. Where the grid ends at t = 0 with noise left (σ(0) > 0,
    as on VE) one more pass replaces the state by E[x0|x].
    """
    times = grids.check(grid)
    start, end = float(times[0]), float(times[-1])
    x = field.path.prior(noise, event, start, data_std).to(device=device, dtype=dtype)
    solution = solver.solve(field, x, times, noise, on_step)
    x, passes = solution.x, solution.passes
    if solution.finished and end == 0 and float(field.path.sigma(end)) > 0:
        last = field(x, times[-1])
        if on_step is not None:
            on_step(solution.steps, last)
        x, passes = last.x0, passes + last.passes
    return Samples(x, passes, solution.finished)
