"""Runge–Kutta solvers: a tableau, in a chosen coordinate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..errors import unknown
from ..fields.field import Field, Prediction
from ..fields.lenses import conversion
from ..paths import GaussianPath
from .embedded import pair
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
    "bogacki_shampine": pair("bogacki_shampine").explicit(),  # at fixed steps
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
        t = torch.tensor(start, dtype=torch.float64)
        place = [float(value) for value in _places(path, self.coordinate, t)]
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
                    if on_step is not None and on_step(k, prediction) is False:
                        return Solution(start, times.floats[k], k, passes, False)
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


def _places(path: GaussianPath, coordinate: str, t: Tensor) -> tuple[Tensor, Tensor]:
    """(c, s) at times t."""
    if coordinate in ("t", "log_snr"):
        return (t if coordinate == "t" else path.log_snr(t)), torch.ones_like(t)
    alpha, sigma = path.alpha(t), path.sigma(t)
    c = {"sigma": sigma / alpha, "signal": -alpha / sigma, "flow": sigma / (alpha + sigma)}
    p, q = _DIRECTIONS[coordinate]
    return c[coordinate], p * sigma + q * alpha


def _times(path: GaussianPath, coordinate: str, c: Tensor) -> Tensor:
    if coordinate == "t":
        return c
    log_snr = {
        "log_snr": lambda: c,
        "sigma": lambda: -c.log(),
        "signal": lambda: (-c).log(),
        "flow": lambda: torch.log1p(-c) - c.log(),
    }[coordinate]()
    return path.time(log_snr)


def _rates(path: GaussianPath, coordinate: str, lens: str, t: Tensor) -> tuple[Tensor, Tensor]:
    """k = on_x·x + on_value·value at times t."""
    if coordinate in ("t", "log_snr"):
        on_x, on_value = conversion(path, lens, "velocity", t)
        speed = torch.ones_like(t) if coordinate == "t" else path.log_snr_rate(t)
        return on_x / speed, on_value / speed
    p, q = _DIRECTIONS[coordinate]
    on_x, on_value = torch.zeros_like(t), torch.zeros_like(t)
    for weight, name in ((q, "eps"), (-p, "x0")):
        if weight:
            row = conversion(path, lens, name, t)
            on_x, on_value = on_x + weight * row[0], on_value + weight * row[1]
    return on_x, on_value


@lru_cache(maxsize=128)
def compile_plan(
    solver: RungeKutta, path: GaussianPath, lens: str, times: tuple[float, ...]
) -> tuple[Step, ...]:
    """Every stage of every step, as floats on states and on the network's own values."""
    _, nodes, rows, weights = TABLEAUX[solver.tableau]
    t = torch.tensor(times, dtype=torch.float64)
    start, end = t[:-1], t[1:]
    c, s = _places(path, solver.coordinate, t)
    gap = c[1:] - c[:-1]
    whole = torch.isfinite(c[1:])  # the steps of which every stage can be evaluated
    at = []
    for share in nodes:
        time = start if share == 0 else end
        if 0 < share < 1:
            time = _times(path, solver.coordinate, c[:-1] + share * gap)
        time = torch.where(whole, time, start)
        whole = whole & (path.sigma(time) > 0)
        at.append(time)
    at = [torch.where(whole, time, start) for time in at]
    rates = [_rates(path, solver.coordinate, lens, time) for time in at]
    for on_x, on_value in rates:
        whole = whole & torch.isfinite(on_x) & torch.isfinite(on_value)
    scales = [_places(path, solver.coordinate, time)[1].tolist() for time in at]
    moments = [time.unbind() for time in at]
    ks = [list(zip(x.tolist(), value.tolist(), strict=True)) for x, value in rates]
    gaps, sizes = gap.tolist(), s.tolist()

    def terms(k: int, scale: float, shares: tuple[float, ...]) -> tuple[tuple[float, float], ...]:
        return tuple(
            (scale * gaps[k] * share * rate[k][0], scale * gaps[k] * share * rate[k][1])
            for share, rate in zip(shares, ks, strict=False)
        )

    plan = []
    for k, possible in enumerate(whole.tolist()):
        if not possible:
            plan.append(_euler(solver, path, lens, *times[k : k + 2]))
            continue
        stages = [
            Stage(moments[i][k], scales[i][k] / sizes[k], terms(k, scales[i][k], rows[i]))
            for i in range(1, len(nodes))
        ]
        last = Stage(None, sizes[k + 1] / sizes[k], terms(k, sizes[k + 1], weights))
        plan.append(Step((*stages, last)))
    return tuple(plan)


def _euler(solver: RungeKutta, path: GaussianPath, lens: str, start: float, end: float) -> Step:
    """Euler in the solver's coordinate; where that is infinite at the end, keep x0 and ε."""
    t = torch.tensor([start, end], dtype=torch.float64)
    (c0, c1), (s0, s1) = (place.tolist() for place in _places(path, solver.coordinate, t))
    if math.isfinite(c1):
        on_x, on_value = (float(k) for k in _rates(path, solver.coordinate, lens, t[0]))
        gain = s1 * (c1 - c0)
        return Step((Stage(None, s1 / s0, ((gain * on_x, gain * on_value),)),))
    alpha, sigma = float(path.alpha(end)), float(path.sigma(end))
    x0, eps = conversion(path, lens, "x0", start), conversion(path, lens, "eps", start)
    on_x, on_value = (alpha * float(a) + sigma * float(b) for a, b in zip(x0, eps, strict=True))
    return Step((Stage(None, 0.0, ((on_x, on_value),)),))
