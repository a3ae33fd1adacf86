"""Grids of times: decreasing float64 tensors from start to end, both ends in the grid.

A grid of N steps has N + 1 times. A spacing in σ/α (log-SNR, Karras) needs finite limits:
`spaced` documents the rule if σ/α is infinite at the start or zero at the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..errors import InvalidArgument, need_count
from .chains import ChainPath
from .path import GaussianPath

SIGMA_MIN, SIGMA_MAX = 0.002, 80.0


def check(grid: Tensor | Sequence[float]) -> Tensor:
    """Return `grid` as decreasing float64 times in [0, 1]; raise InvalidArgument otherwise."""
    times = torch.as_tensor(grid, dtype=torch.float64).detach().cpu()
    if times.ndim != 1 or len(times) < 2:
        raise InvalidArgument(f"a grid of shape {tuple(times.shape)}; give at least two times")
    if not bool(torch.isfinite(times).all()) or times.max() > 1 or times.min() < 0:
        raise InvalidArgument(f"grid times reach outside [0, 1]: {_ends(times)}")
    rising = (times[1:] >= times[:-1]).nonzero()
    if len(rising):
        i = int(rising[0])
        raise InvalidArgument(
            f"grid times must decrease: time {i} is {times[i]:.17g}, time {i + 1} is "
            f"{times[i + 1]:.17g}"
        )
    return times


def _ends(times: Tensor) -> str:
    return f"min {float(times.min())!r}, max {float(times.max())!r}"


def _span(steps: int, start: float, end: float) -> None:
    need_count("steps", steps)
    if not 0 <= end < start <= 1:
        raise InvalidArgument(f"a grid from {start!r} to {end!r}; need 0 ≤ end < start ≤ 1")


def _even(steps: int, first: float, last: float) -> Tensor:
    return torch.linspace(first, last, steps + 1, dtype=torch.float64)


def uniform(steps: int, start: float = 1.0, end: float = 0.0) -> Tensor:
    """Return evenly spaced times."""
    _span(steps, start, end)
    return check(_even(steps, start, end))


def quadratic(steps: int, start: float = 1.0, end: float = 0.0) -> Tensor:
    """Return times with √t evenly spaced: finer near the data (Song et al. 2021, DDIM)."""
    _span(steps, start, end)
    grid = _even(steps, math.sqrt(start), math.sqrt(end)) ** 2
    grid[0], grid[-1] = start, end
    return check(grid)


def log_snr(
    path: GaussianPath,
    steps: int,
    start: float = 1.0,
    end: float = 0.0,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
) -> Tensor:
    """Return times with log-SNR evenly spaced; for infinite ends see `spaced`."""
    return spaced(path, steps, start, end, sigma_min, sigma_max, lambda s: s.log(), torch.exp)


def karras(
    path: GaussianPath,
    steps: int,
    start: float = 1.0,
    end: float = 0.0,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    rho: float = 7.0,
) -> Tensor:
    """Return times with (σ/α)^(1/ρ) evenly spaced (Karras et al. 2022, eq. 5).

    For infinite ends see `spaced`.
    """
    if not (math.isfinite(rho) and rho > 0):
        raise InvalidArgument(f"rho is {rho!r}; give a positive number")
    return spaced(
        path, steps, start, end, sigma_min, sigma_max, lambda s: s ** (1 / rho), lambda u: u**rho
    )


def spaced(
    path: GaussianPath,
    steps: int,
    start: float,
    end: float,
    sigma_min: float | None,
    sigma_max: float | None,
    to: Callable[[Tensor], Tensor],
    back: Callable[[Tensor], Tensor],
) -> Tensor:
    """Return times at which to(σ/α) is evenly spaced, `back` being the inverse of `to`.

    σ/α runs from its value at `start`, or from `sigma_max` if that is less (80 by default if σ/α is
    infinite at `start`): the grid then starts at the time of `sigma_max`. It runs to its value at
    `end`, or, if `sigma_min` is more than that (0.002 by default if σ/α is 0 at `end`), to
    `sigma_min`, followed by one last step to `end`.
    """
    _span(steps, start, end)
    low, high = level_limits(path, start, end, sigma_min, sigma_max)
    first, last = (math.exp(-float(path.log_snr(t))) for t in (start, end))
    tail = low > last
    inner = steps - 1 if tail else steps
    limits = to(torch.tensor([high, low], dtype=torch.float64)).tolist()
    nodes = _even(inner, *limits) if inner else torch.tensor(limits[:1], dtype=torch.float64)
    grid = path.time(-back(nodes).log())
    if tail:
        grid = torch.cat([grid, torch.zeros(1, dtype=torch.float64)])
    if high == first:
        grid[0] = start
    grid[-1] = end
    return check(grid)


def level_limits(
    path: GaussianPath,
    start: float = 1.0,
    end: float = 0.0,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
) -> tuple[float, float]:
    """Return the (least, largest) σ/α between two times, narrowed by the rule of `spaced`.

    Both are finite and positive. Raises InvalidArgument for limits outside of the path's values.
    """
    first, last = (math.exp(-float(path.log_snr(t))) for t in (start, end))
    for name, value in (("sigma_min", sigma_min), ("sigma_max", sigma_max)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InvalidArgument(f"{name} is {value!r}; give a positive number")
    if sigma_max is not None and sigma_max > first * (1 + 1e-9):
        raise InvalidArgument(
            f"sigma_max is {sigma_max!r}, and σ/α at the start t = {start!r} is {first:.6g} "
            "already; leave it out, or give less"
        )
    if sigma_min is not None and sigma_min < last * (1 - 1e-9):
        raise InvalidArgument(
            f"sigma_min is {sigma_min!r}, and σ/α at the end t = {end!r} is {last:.6g}; leave it "
            "out, or give more"
        )
    high = min(first, sigma_max or (SIGMA_MAX if math.isinf(first) else first))
    low = max(last, sigma_min or (SIGMA_MIN if last == 0 else last))
    if low >= high:
        raise InvalidArgument(
            f"σ/α would run from {high:.3g} to {low:.3g}; it must fall: lower sigma_min or "
            "raise sigma_max"
        )
    return low, high


def trailing(path: ChainPath, steps: int) -> Tensor:
    """Return chain steps counted down from T by T/steps, then 0 (Lin et al. 2024).

    The grid always starts at T.
    """
    length = chain_length(path, steps)
    return on_chain([round(length * (steps - i) / steps) for i in range(steps)], length)


def leading(path: ChainPath, steps: int, offset: int = 0) -> Tensor:
    """Return chain steps 1 + offset + i·⌊T/steps⌋, largest first, then 0 (Ho et al. 2020).

    It does not start at T. offset 1 is latent diffusion's; raises InvalidArgument beyond T.
    """
    length = chain_length(path, steps)
    first, gap = 1 + need_count("offset", offset, 0), length // steps
    if first + (steps - 1) * gap > length:
        raise InvalidArgument(
            f"offset {offset} takes {steps} steps to step {first + (steps - 1) * gap} of a chain "
            f"of {length}; give a smaller offset or fewer steps"
        )
    return on_chain([first + (steps - 1 - i) * gap for i in range(steps)], length)


def linspace(path: ChainPath, steps: int) -> Tensor:
    """Return chain steps n evenly from T to 1, n − 1 rounded with halves to even, then 0."""
    length = chain_length(path, steps)
    gap = (length - 1) / max(steps - 1, 1)
    return on_chain([1 + round(length - 1 - i * gap) for i in range(steps)], length)


def chain_length(path: ChainPath, steps: int) -> int:
    """Return the steps of the path's chain; raise InvalidArgument unless it has `steps` of them."""
    if not isinstance(path, ChainPath):
        raise InvalidArgument(
            f"this grid counts the steps of a chain, and {type(path).__name__} is none; "
            "use uniform, log_snr or karras"
        )
    if need_count("steps", steps) > path.chain.steps:
        raise InvalidArgument(f"{steps} steps on a chain of {path.chain.steps}; give no more")
    return path.chain.steps


def on_chain(numbers: list[int], length: int) -> Tensor:
    """Return the grid through steps `numbers` of a chain of `length`, then through 0."""
    return check(torch.tensor([*numbers, 0], dtype=torch.float64) / length)
