"""Embedded Runge–Kutta pairs: dy/dc = rate(c, y) with error control, every sample at its own step.

The step is accepted where the norm of the embedded error is at most 1; the next one is
h·0.9·e⁻⁰·⁷ᐟᵏ·e′⁰·⁴ᐟᵏ, k the estimate's order + 1 and e′ the error before (PI control: Gustafsson
1991; Hairer & Wanner II, IV.2). What a sample does depends on itself alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..errors import InvalidArgument, unknown

Rate = Callable[[Tensor, Tensor], Tensor]
Norm = Callable[[list[Tensor], Tensor, Tensor], Tensor]
SAFETY, SHRINK, GROW = 0.9, 0.2, 10.0


@dataclass(frozen=True)
class Pair:
    """A method of `order` and an estimate of its error, of local order `estimate` + 1.

    nodes, rows, weights: the tableau; errors: rows e with error h·Σ eᵢkᵢ, one or two; last_is_next:
    the last stage is the rate at the step's end.
    """

    order: int
    estimate: int
    nodes: tuple[float, ...]
    rows: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]
    errors: tuple[tuple[float, ...], ...]
    last_is_next: bool

    def explicit(self) -> tuple[int, tuple, tuple, tuple]:
        """(order, nodes, rows, weights) without the stage that only the estimate needs."""
        n = len(self.nodes) - (self.last_is_next and self.weights[-1] == 0)
        return self.order, self.nodes[:n], self.rows[:n], self.weights[:n]


PAIRS: dict[str, Pair | None] = {
    # Hairer, Nørsett & Wanner I, II.4
    "heun_euler": Pair(2, 1, (0, 1), ((), (1,)), (0.5, 0.5), ((-0.5, 0.5),), False),
    # Bogacki & Shampine 1989
    "bogacki_shampine": Pair(
        3,
        2,
        (0, 1 / 2, 3 / 4, 1),
        ((), (1 / 2,), (0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)),
        (2 / 9, 1 / 3, 4 / 9, 0),
        ((-5 / 72, 1 / 12, 1 / 9, -1 / 8),),
        True,
    ),
    # Dormand & Prince 1980
    "dormand_prince": Pair(
        5,
        4,
        (0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1),
        (
            (),
            (1 / 5,),
            (3 / 40, 9 / 40),
            (44 / 45, -56 / 15, 32 / 9),
            (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
            (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
            (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
        ),
        (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0),
        ((71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40),),
        True,
    ),
    "dop853": None,  # from scipy, when asked for
}
ORDERS = {"heun_euler": 2, "bogacki_shampine": 3, "dormand_prince": 5, "dop853": 8}


@lru_cache(maxsize=8)
def pair(name: str) -> Pair:
    """An embedded pair by name; dop853 is Hairer's, with its two estimates, as scipy has it."""
    if name not in PAIRS:
        raise unknown("embedded pair", name, PAIRS)
    known = PAIRS[name]
    if known is not None:
        return known
    from scipy.integrate import DOP853

    rows = tuple(tuple(float(a) for a in row[:i]) for i, row in enumerate(DOP853.A))
    floats = lambda values: tuple(map(float, values))  # noqa: E731
    errors = (floats(DOP853.E5[:-1]), floats(DOP853.E3[:-1]))
    return Pair(8, 7, floats(DOP853.C[:12]), rows, floats(DOP853.B), errors, False)


def mean_square(atol: float, rtol: float) -> Norm:
    """The root mean square of error/(atol + rtol·max(|y₀|, |y₁|)) over each sample's numbers.

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
    """Where every sample arrived, its next step, and how many steps it took and rejected."""

    y: Tensor
    step: Tensor
    accepted: Tensor
    rejected: Tensor


class Broken(Exception):
    """A rate or state that is not finite, at (c, sample)."""

    def __init__(self, what: str, c: float, sample: int) -> None:
        super().__init__(what)
        self.what, self.c, self.sample = what, c, sample


def combine(y: Tensor, h: Tensor | float, shares: tuple[float, ...], ks: list[Tensor]) -> Tensor:
    """y + h·Σ shareᵢ·kᵢ."""
    total = torch.zeros_like(y)
    for share, k in zip(shares, ks, strict=False):
        if share:
            total.add_(k, alpha=share)
    return total.mul_(h).add_(y)


def integrate(
    rate: Rate,
    y: Tensor,
    start: float,
    end: float,
    method: Pair,
    norm: Norm,
    limit: int,
    step: Tensor | None = None,
) -> Walked:
    """y (batch, n) from c = `start` to `end`, either way; rate(c (batch,), y) → (batch, n).

    A sample that has arrived waits: the rate is still asked for it, at the end, and its answer
    dropped. step: the size of each sample's first step, by default estimated (Hairer, Nørsett &
    Wanner I, II.4). Raises Broken, and InvalidArgument after `limit` calls of the rate.
    """
    batch, sign = len(y), math.copysign(1.0, end - start)
    c = torch.full((batch,), start, dtype=torch.float64, device=y.device)
    goal = torch.full_like(c, end)
    first, calls = _checked(rate, c, y), 1
    if step is None:
        step = _first_step(rate, c, y, first, sign, method, norm)
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
            ks.append(rate(torch.where(active, at, c), combine(y, wide, row, ks)))
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
            first = torch.where((good & active)[:, None], rate(c, y), first)
            calls += 1
    return Walked(y, step, accepted, rejected)


def cross(rate: Rate, y: Tensor, start: float, end: float, blind: bool) -> Tensor:
    """One midpoint step; where `blind`, the rate cannot be asked at `start` and its middle is
    looked at twice instead. Local error of order 3 either way."""
    middle = torch.full((len(y),), 0.5 * (start + end), dtype=torch.float64, device=y.device)
    first = middle if blind else torch.full_like(middle, start)
    k = _checked(rate, first, y)
    k = _checked(rate, middle, y + 0.5 * (end - start) * k)
    return y + (end - start) * k


def _checked(rate: Rate, c: Tensor, y: Tensor) -> Tensor:
    for what, value in (("state", y), ("prediction", rate(c, y))):
        good = torch.isfinite(value).all(1)
        if not bool(good.all()):
            bad = int((~good).nonzero()[0])
            raise Broken(what, float(c[bad]), bad)
    return value


def _first_step(
    rate: Rate, c: Tensor, y: Tensor, first: Tensor, sign: float, method: Pair, norm: Norm
) -> Tensor:
    flat = lambda value: norm([value], y, y).double()  # noqa: E731
    size, speed = flat(y), flat(first)
    tiny = (size < 1e-5) | (speed < 1e-5)
    guess = torch.where(tiny, 1e-6, 0.01 * size / speed.clamp(min=1e-300))
    moved = y + (sign * guess).to(y.dtype)[:, None] * first
    bend = flat(_checked(rate, c + sign * guess, moved) - first) / guess
    most = torch.maximum(speed, bend)
    reach = torch.where(
        most <= 1e-15,
        (guess * 1e-3).clamp(min=1e-6),
        (0.01 / most.clamp(min=1e-300)) ** (1 / (method.estimate + 1)),
    )
    return torch.minimum(100 * guess, reach)
