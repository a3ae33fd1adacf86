"""Any ordinary differential equation over a grid, by the tableaux of the Runge–Kutta solvers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ..errors import InvalidArgument, unknown
from .runge_kutta import TABLEAUX

State = tuple[Tensor, ...]


def integrate(
    rate: Callable[[State, Tensor], State],
    state: State,
    grid: Tensor | Sequence[float],
    tableau: str = "rk4",
) -> State:
    """The state at grid[-1], from `state` at grid[0], of d(state)/dt = rate(state, t).

    For states of several tensors, for either direction of time, and for gradients: every operation
    is differentiable. A plain field is walked better by a `Solver`. grid: rising or falling times;
    t is handed on as a 0-dim float64 tensor. Raises InvalidArgument for a grid that does neither,
    or an unknown tableau.
    """
    if tableau not in TABLEAUX:
        raise unknown("tableau", tableau, TABLEAUX)
    times = torch.as_tensor(grid, dtype=torch.float64).detach().cpu()
    steps = times.diff() if times.ndim == 1 else times[:0]
    if not len(steps) or not (bool((steps > 0).all()) or bool((steps < 0).all())):
        raise InvalidArgument(f"times {times.tolist()}; give two or more that rise, or that fall")
    _, nodes, rows, weights = TABLEAUX[tableau]
    for start, end in pairwise(times.unbind()):
        step = float(end - start)
        slopes: list[State] = []
        for node, row in zip(nodes, rows, strict=True):
            moment = end if node == 1 else start + node * step
            slopes.append(rate(_advanced(state, slopes, row, step), moment))
        state = _advanced(state, slopes, weights, step)
    return state


def _advanced(state: State, slopes: list[State], shares: Sequence[float], step: float) -> State:
    out = list(state)
    for share, slope in zip(shares, slopes, strict=True):
        if share:
            out = [x + (step * share) * k for x, k in zip(out, slope, strict=True)]
    return tuple(out)
