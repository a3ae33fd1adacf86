"""Runge–Kutta solvers: a tableau, in a chosen coordinate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ..errors import unknown
from ..fields.field import Field, Prediction
from ..fields.lenses import conversion
from ..paths import GaussianPath
from .solver import Noise, OnStep, Solution, Solver, Times

Rows = tuple[tuple[float, ...], ...]

# name: (order, nodes c, rows a, weights b)
TABLEAUX: dict[str, tuple[int, tuple[float, ...], Rows, tuple[float, ...]]] = {
    "euler": (1, (0,), ((),), (1,)),
    "heun": (2, (0, 1), ((), (1,)), (0.5, 0.5)),
    "midpoint": (2, (0, 0.5), ((), (0.5,)), (0, 1)),
    "ralston": (2, (0, 2 / 3), ((), (2 / 3,)), (0.25, 0.75)),
    "kutta3": (3, (0, 0.5, 1), ((), (0.5,), (-1, 2)), (1 / 6, 2 / 3, 1 / 6)),
    "rk4": (
        4,
        (0, 0.5, 0.5, 1),
        ((), (0.5,), (0, 0.5), (0, 0, 1)),
        (1 / 6, 1 / 3, 1 / 3, 1 / 6),
    ),
}

# Coordinates with the scale s in which dx is integrated: d(x/s)/dc = k.
#   t, log_snr   s = 1, k = velocity/ċ: the plain ODE
#   sigma        s = α, c = σ/α, k = ε (Karras et al. 2022)
#   signal       s = σ, c = −α/σ, k = −x0
#   flow         s = α + σ, c = σ/(α + σ), k = ε − x0: rectified flow's own time
COORDINATES = ("t", "log_snr", "sigma", "signal", "flow")
_DIRECTIONS = {"sigma": (0.0, 1.0), "signal": (1.0, 0.0), "flow": (1.0, 1.0)}


@dataclass(frozen=True)
class RungeKutta(Solver):
    """x/s stepped by a tableau in the coordinate c: exact where k is constant.

    A step one of whose stages would sit where σ = 0, or where c or k is not finite, is an Euler
    step of the same coordinate, or, where c itself is infinite there, one that keeps x0 and ε.
    """

    tableau: str = "heun"
    coordinate: str = "sigma"

    def __post_init__(self) -> None:
        if self.tableau not in TABLEAUX:
            raise unknown("tableau", self.tableau, TABLEAUX)
        if self.coordinate not in COORDINATES:
            raise unknown("coordinate", self.coordinate, COORDINATES)

    @property
    def order(self) -> int:  # type: ignore[override]
        return TABLEAUX[self.tableau][0]

    def refusal(self, path: GaussianPath, start: float, end: float) -> str | None:
        place = _place(path, self.coordinate, start)
        if not all(map(math.isfinite, place)) or place[1] == 0:
            return (
                f"the coordinate {self.coordinate!r} is infinite at t = {start:g}; use 'flow', or "
                "start below that"
            )
        return None

    def walk(
        self, field: Field, x: Tensor, times: Times, noise: Noise | None, on_step: OnStep | None
    ) -> Solution:
        passes, lens, plan = 0, None, None
        for k in range(times.steps):
            prediction = field(x, times.tensors[k])
            if plan is None:
                lens = prediction.lens
                plan = compile_plan(self, field.path, lens, times.floats)
            passes += prediction.passes
            if on_step is not None and on_step(k, prediction) is False:
                return Solution(x, times.floats[k], k, passes, False)
            stages, start = [prediction], x
            for stage in plan[k].stages:
                x = _combine(start, stage.base, stage.terms, stages, lens)
                if stage.time is not None:
                    prediction = field(x, stage.time)
                    passes += prediction.passes
                    if on_step is not None:
                        on_step(k, prediction)
                    stages.append(prediction)
        return Solution(x, times.floats[-1], times.steps, passes, True)


@dataclass(frozen=True)
class Stage:
    """A stage's state from the step's start and earlier stages; `time` None: the step's end."""

    time: Tensor | None
    base: float
    terms: tuple[tuple[float, float], ...]  # (on x, on value) of each earlier stage


@dataclass(frozen=True)
class Step:
    stages: tuple[Stage, ...]


def _combine(
    start: Tensor,
    base: float,
    terms: tuple[tuple[float, float], ...],
    stages: list[Prediction],
    lens: str | None,
) -> Tensor:
    x = torch.mul(start, base)
    for (on_x, on_value), said in zip(terms, stages, strict=True):
        if on_value:
            value = said.value if said.lens == lens else said.through(str(lens))
            x.add_(value, alpha=on_value)
        if on_x:
            x.add_(said.x_t, alpha=on_x)
    return x


def _place(path: GaussianPath, coordinate: str, t: float) -> tuple[float, float]:
    """(c, s) at time t."""
    lam = float(path.log_snr(t))
    alpha, sigma = float(path.alpha(t)), float(path.sigma(t))
    if coordinate in ("t", "log_snr"):
        return (t if coordinate == "t" else lam), 1.0
    c = {
        "sigma": math.inf if alpha == 0 else sigma / alpha,
        "signal": -math.inf if sigma == 0 else -alpha / sigma,
        "flow": sigma / (alpha + sigma),
    }
    p, q = _DIRECTIONS[coordinate]
    return c[coordinate], p * sigma + q * alpha


def _time(path: GaussianPath, coordinate: str, c: float) -> float:
    if coordinate == "t":
        return c
    lam = {
        "log_snr": lambda: c,
        "sigma": lambda: -math.log(c),
        "signal": lambda: math.log(-c),
        "flow": lambda: math.log1p(-c) - math.log(c),
    }[coordinate]()
    return float(path.time(lam))


def _rate(path: GaussianPath, coordinate: str, lens: str, t: float) -> tuple[float, float]:
    """k = on_x·x + on_value·value at time t."""
    if coordinate in ("t", "log_snr"):
        on_x, on_value = (float(c) for c in conversion(path, lens, "velocity", t))
        speed = 1.0 if coordinate == "t" else float(path.log_snr_rate(t))
        return on_x / speed, on_value / speed
    p, q = _DIRECTIONS[coordinate]
    rows = [
        (weight, conversion(path, lens, name, t))
        for weight, name in ((q, "eps"), (-p, "x0"))
        if weight
    ]
    return (
        sum(weight * float(c[0]) for weight, c in rows),
        sum(weight * float(c[1]) for weight, c in rows),
    )


@lru_cache(maxsize=128)
def compile_plan(
    solver: RungeKutta, path: GaussianPath, lens: str, times: tuple[float, ...]
) -> tuple[Step, ...]:
    """Every stage of every step, as floats on states and on the network's own values."""
    _, nodes, rows, weights = TABLEAUX[solver.tableau]
    plan = []
    for start, end in pairwise(times):
        try:
            plan.append(_step(solver, path, lens, start, end, nodes, rows, weights))
        except _NotHere:
            plan.append(_euler(solver, path, lens, start, end))
    return tuple(plan)


class _NotHere(Exception):
    """A stage that cannot be evaluated."""


def _step(solver, path, lens, start, end, nodes, rows, weights) -> Step:
    (c0, s0), (c1, s1) = (_place(path, solver.coordinate, t) for t in (start, end))
    if not math.isfinite(c1):
        raise _NotHere
    rates, stages = [], []
    for i, share in enumerate(nodes):
        t = (
            start
            if share == 0
            else end
            if share == 1
            else _time(path, solver.coordinate, c0 + share * (c1 - c0))
        )
        if float(path.sigma(t)) == 0:
            raise _NotHere
        rates.append(_rate(path, solver.coordinate, lens, t))
        if not np.isfinite(rates[-1]).all():
            raise _NotHere
        if i:
            scale = _place(path, solver.coordinate, t)[1]
            stages.append(
                Stage(
                    torch.tensor(t, dtype=torch.float64),
                    scale / s0,
                    tuple(
                        (scale * (c1 - c0) * a * on_x, scale * (c1 - c0) * a * on_value)
                        for a, (on_x, on_value) in zip(rows[i], rates, strict=False)
                    ),
                )
            )
    gains = (s1 * (c1 - c0) * b for b in weights)
    final = tuple((g * x, g * v) for g, (x, v) in zip(gains, rates, strict=True))
    return Step((*stages, Stage(None, s1 / s0, final)))


def _euler(solver: RungeKutta, path: GaussianPath, lens: str, start: float, end: float) -> Step:
    """Euler in the solver's coordinate; where that is infinite at the end, keep x0 and ε."""
    (c0, s0), (c1, s1) = (_place(path, solver.coordinate, t) for t in (start, end))
    if math.isfinite(c1):
        on_x, on_value = _rate(path, solver.coordinate, lens, start)
        gain = s1 * (c1 - c0)
        return Step((Stage(None, s1 / s0, ((gain * on_x, gain * on_value),)),))
    alpha, sigma = float(path.alpha(end)), float(path.sigma(end))
    x0, eps = conversion(path, lens, "x0", start), conversion(path, lens, "eps", start)
    on_x, on_value = (alpha * float(a) + sigma * float(b) for a, b in zip(x0, eps, strict=True))
    return Step((Stage(None, 0.0, ((on_x, on_value),)),))
