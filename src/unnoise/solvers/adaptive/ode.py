"""Ordinary differential equations: fixed steps of a tableau, and embedded pairs with error control.

With error control every sample has its own steps, and none depends on its batch. A step is accepted
where the norm of the embedded error is at most 1; the next one is h·0.9·e⁻⁰·⁷ᐟᵏ·e′⁰·⁴ᐟᵏ, k the
estimate's order + 1 and e′ the error before (PI control: Gustafsson 1991; Hairer & Wanner II,
IV.2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor

from ...errors import InvalidArgument, need_known
from ..tableaux import TABLEAUX, Tableau

State = tuple[Tensor, ...]
Norm = Callable[[list[Tensor], Tensor, Tensor], Tensor]
Result = TypeVar("Result")
# yields (c, y), places (batch,) and states (batch, n); receives dy/dc (batch, n)
Slopes = Generator[tuple[Tensor, Tensor], Tensor, Result]
SAFETY, SHRINK, GROW = 0.9, 0.2, 10.0


def integrate(
    rate: Callable[[State, Tensor], State],
    state: State,
    grid: Tensor | Sequence[float],
    tableau: str = "rk4",
) -> State:
    """Return the state at grid[-1], from `state` at grid[0], of d(state)/dt = rate(state, t).

    For states of several tensors, for either direction of time, and for gradients: every operation
    is differentiable. For a plain field a `Solver` is better. grid: rising or falling times; t is
    a 0-dim float64 tensor. Raises InvalidArgument for a grid that neither rises nor falls, or an
    unknown tableau.
    """
    need_known("tableau", tableau, TABLEAUX)
    times = torch.as_tensor(grid, dtype=torch.float64).detach().cpu()
    steps = times.diff() if times.ndim == 1 else times[:0]
    if not len(steps) or not (bool((steps > 0).all()) or bool((steps < 0).all())):
        raise InvalidArgument(f"times {times.tolist()}; give two or more that rise, or that fall")
    method = TABLEAUX[tableau]
    for start, end in pairwise(times.unbind()):
        step, slopes = float(end - start), list[State]()
        for node, row in zip(method.nodes, method.rows, strict=True):
            moment = end if node == 1 else start + node * step
            slopes.append(rate(_advanced(state, slopes, row, step), moment))
        state = _advanced(state, slopes, method.weights, step)
    return state


def _advanced(state: State, slopes: list[State], shares: Sequence[float], step: float) -> State:
    out = list(state)
    for share, slope in zip(shares, slopes, strict=True):
        if share:
            out = [x + (step * share) * k for x, k in zip(out, slope, strict=True)]
    return tuple(out)


def evaluated(steps: Slopes[Result], rate: Callable[[Tensor, Tensor], Tensor]) -> Result:
    """Return the result of `steps`, sending rate(c, y) for every (c, y) that it yields."""
    try:
        place = next(steps)
        while True:
            place = steps.send(rate(*place))
    except StopIteration as end:
        return end.value


def mean_square(atol: float, rtol: float) -> Norm:
    """Return the norm: root mean square of error/(atol + rtol·max(|y₀|, |y₁|)) over each sample.

    With two estimates e₅, e₃: |e₅|²/√(|e₅|² + |e₃|²/100) (Hairer, Nørsett & Wanner I, II.10).
    """

    def norm(errors: list[Tensor], before: Tensor, after: Tensor) -> Tensor:
        scale = torch.maximum(before.abs(), after.abs()).mul_(rtol).add_(atol)
        sizes = [(error / scale).square().mean(1) for error in errors]
        if len(sizes) == 1:
            return sizes[0].sqrt()
        fifth, third = sizes
        return fifth / (fifth + 0.01 * third).sqrt().clamp(min=torch.finfo(fifth.dtype).tiny)

    return norm


@dataclass(frozen=True)
class Walked:
    """The states reached, each sample's next step, its accepted and rejected steps; evaluations."""

    y: Tensor
    step: Tensor
    accepted: Tensor
    rejected: Tensor
    calls: int


class Broken(Exception):
    """A rate or state that is not finite, at (c, sample)."""

    def __init__(self, what: str, c: float, sample: int) -> None:
        super().__init__(what)
        self.what, self.c, self.sample = what, c, sample


def combine(y: Tensor, h: Tensor | float, shares: Sequence[float], ks: list[Tensor]) -> Tensor:
    """Return y + h·Σ shareᵢ·kᵢ."""
    total = torch.zeros_like(y)
    for share, k in zip(shares, ks, strict=False):
        if share:
            total.add_(k, alpha=share)
    return total.mul_(h).add_(y)


def controlled(
    y: Tensor,
    start: float,
    end: float,
    method: Tableau,
    norm: Norm,
    limit: int,
    step: Tensor | None = None,
) -> Slopes[Walked]:
    """Take y (batch, n) from c = `start` to `end`, either way, with an embedded pair.

    A sample that has arrived waits: its rate at the end is still evaluated, and dropped. step: the
    size of each sample's first step, by default estimated (Hairer, Nørsett & Wanner I, II.4).
    Raises Broken, and InvalidArgument after `limit` evaluations.
    """
    batch, sign = len(y), math.copysign(1.0, end - start)
    c = torch.full((batch,), start, dtype=torch.float64, device=y.device)
    goal = torch.full_like(c, end)
    first = yield from _checked(c, y)
    calls = 1
    if step is None:
        step = yield from _first_step(c, y, first, sign, method, norm)
        calls += 1
    step = step.clamp(max=abs(end - start))
    last_error = torch.ones_like(c)
    accepted, rejected = (torch.zeros(batch, dtype=torch.long, device=y.device) for _ in range(2))
    k = method.estimate + 1
    active = torch.ones(batch, dtype=torch.bool, device=y.device)
    after_rejection = ~active
    while bool(active.any()):
        if calls + len(method.nodes) - 1 > limit:
            slow = int(active.nonzero()[0])
            raise InvalidArgument(
                f"sample {slow} of {batch} has come from {start:.6g} to {float(c[slow]):.6g} on "
                f"the way to {end:.6g} in {calls} evaluations, and its step is "
                f"{float(step[slow]):.3g}; the limit is {limit}: loosen the tolerance, raise "
                "max_passes, or compute in float64"
            )
        ahead = (goal - c).abs()
        whole = step >= 0.95 * ahead  # no sliver is left
        target = torch.where(whole, goal, c + sign * step)
        h = torch.where(active, target - c, 0.0)
        wide = h.to(y.dtype)[:, None]
        ks = [first]
        for node, row in zip(method.nodes[1:], method.rows[1:], strict=True):
            at = target if node == 1 else c + node * h
            ks.append((yield torch.where(active, at, c), combine(y, wide, row, ks)))
            calls += 1
        after = combine(y, wide, method.weights, ks)
        errors = [combine(torch.zeros_like(y), wide, row, ks) for row in method.errors]
        error = norm(errors, y, after).double()
        if not bool(torch.isfinite(error[active]).all()):
            bad = int((active & ~torch.isfinite(error)).nonzero()[0])
            raise Broken("step", float(c[bad]), bad)
        good = active & (error <= 1)
        bounded = error.clamp(min=1e-10)
        power = SAFETY * bounded ** (-0.7 / k) * last_error ** (0.4 / k)
        power = torch.where(after_rejection, power.clamp(max=1.0), power).clamp(SHRINK, GROW)
        plain = (SAFETY * bounded ** (-1 / k)).clamp(SHRINK, 1.0)
        step = torch.where(good, h.abs() * power, torch.where(active, h.abs() * plain, step))
        after_rejection = torch.where(active, ~good, after_rejection)
        last_error = torch.where(good, bounded.clamp(min=1e-4), last_error)
        accepted, rejected = accepted + good, rejected + (active & ~good)
        y = torch.where(good[:, None], after, y)
        c = torch.where(good, target, c)
        active = active & (c != goal)
        if method.last_is_next:
            first = torch.where(good[:, None], ks[-1], first)
        elif bool(active.any()):
            first = torch.where((good & active)[:, None], (yield c, y), first)
            calls += 1
    return Walked(y, step, accepted, rejected, calls)


def cross(y: Tensor, start: float, end: float, blind: bool) -> Slopes[Tensor]:
    """Take y over one midpoint step; local error of order 3.

    Where `blind`, the rate is not defined at `start`, and its middle is evaluated twice instead.
    """
    middle = torch.full((len(y),), 0.5 * (start + end), dtype=torch.float64, device=y.device)
    first = middle if blind else torch.full_like(middle, start)
    k = yield from _checked(first, y)
    k = yield from _checked(middle, y + 0.5 * (end - start) * k)
    return y + (end - start) * k


def _checked(c: Tensor, y: Tensor) -> Slopes[Tensor]:
    """Return the rate, both it and the state being finite; raise Broken otherwise."""
    value = y
    for what in ("state", "prediction"):
        if what == "prediction":
            value = yield c, y
        good = torch.isfinite(value).all(1)
        if not bool(good.all()):
            bad = int((~good).nonzero()[0])
            raise Broken(what, float(c[bad]), bad)
    return value


def _first_step(
    c: Tensor, y: Tensor, first: Tensor, sign: float, method: Tableau, norm: Norm
) -> Slopes[Tensor]:
    def flat(value: Tensor) -> Tensor:
        return norm([value], y, y).double()

    size, speed = flat(y), flat(first)
    tiny = (size < 1e-5) | (speed < 1e-5)
    guess = torch.where(tiny, 1e-6, 0.01 * size / speed.clamp(min=1e-300))
    moved = y + (sign * guess).to(y.dtype)[:, None] * first
    bend = flat((yield from _checked(c + sign * guess, moved)) - first) / guess
    most = torch.maximum(speed, bend)
    reach = torch.where(
        most <= 1e-15,
        (guess * 1e-3).clamp(min=1e-6),
        (0.01 / most.clamp(min=1e-300)) ** (1 / (method.estimate + 1)),
    )
    return torch.minimum(100 * guess, reach)
