"""Runge–Kutta solvers: a tableau, in a chosen coordinate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..errors import unknown
from ..fields.field import Field
from ..fields.lenses import conversion
from ..paths import GaussianPath
from .embedded import pair
from .looks import Look, Row, advance, plan_looks
from .solver import Noise, OnStep, Solution, Solver, TimeGrid
from .spare import LARGE, spare
from .terms import Rows, in_lens

Weights = tuple[tuple[float, ...], ...]

# name: (order, nodes c, rows a, weights b)
TABLEAUX: dict[str, tuple[int, tuple[float, ...], Weights, tuple[float, ...]]] = {
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

    def why_unsupported(self, path: GaussianPath, start: float, end: float) -> str | None:
        t = torch.tensor(start, dtype=torch.float64)
        place = [float(value) for value in _places(path, self.coordinate, t)]
        if not all(map(math.isfinite, place)) or place[1] == 0:
            return (
                f"the coordinate {self.coordinate!r} is infinite at t = {start:g}; use 'flow', or "
                "start below that"
            )
        return None

    def walk(
        self, field: Field, x: Tensor, times: TimeGrid, noise: Noise | None, on_step: OnStep | None
    ) -> Solution:
        nfe, lens, large = 0, "", x.nbytes >= LARGE
        plan: tuple[Step, ...] = ()
        for k, begin in enumerate(times.tensors[:-1]):
            reached = None if on_step is None else x
            end, kept, free, looks = None, list[Tensor](), False, 1
            i = 0
            while i < looks:
                prediction = field(x, plan[k].times[i] if i else begin)
                if not plan:
                    lens = prediction.lens
                    plan = compile_plan(self, field.path, lens, times.floats, x.dtype)
                nfe += prediction.nfe
                if on_step is not None and on_step(k, prediction) is False:
                    assert reached is not None
                    return Solution(reached, times.floats[k], k, nfe, False)
                if not i:
                    looks = len(plan[k].looks)
                    free = large and looks <= 2 and spare(prediction, x)
                    start = x
                x, end = advance(
                    plan[k].looks[i], in_lens(prediction, lens), start, end, kept, free
                )
                i += 1
                if i + 1 >= looks:  # nothing is held on to that is not needed again
                    start = x
                    kept.clear()
                del prediction
            del start
        return Solution(x, times.floats[-1], times.steps, nfe, True)


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """When a step looks, and what every look adds."""

    times: tuple[Tensor, ...]
    looks: tuple[Look, ...]


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
    solver: RungeKutta,
    path: GaussianPath,
    lens: str,
    times: tuple[float, ...],
    dtype: torch.dtype,
) -> tuple[Step, ...]:
    """Every look of every step, on states of `dtype` and on the network's own values."""
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
    on_xs, on_values = ([rate[part].tolist() for rate in rates] for part in (0, 1))
    first, gaps, sizes = start.unbind(), gap.tolist(), s.tolist()
    plan = []
    for k, possible in enumerate(whole.tolist()):
        if not possible:
            row, state = _euler(solver, path, lens, *times[k : k + 2])
            looks = plan_looks(Rows([row[0]], [row[1]], dtype), [state])
            plan.append(Step(first[k : k + 1], looks))
            continue
        scale = [part[k] for part in scales[1:]] + [sizes[k + 1]]
        states = [
            (size / sizes[k], [size * gaps[k] * share for share in shares])
            for size, shares in zip(scale, (*rows[1:], weights), strict=True)
        ]
        rows_here = Rows([on[k] for on in on_xs], [on[k] for on in on_values], dtype)
        plan.append(Step(tuple(part[k] for part in moments), plan_looks(rows_here, states)))
    return tuple(plan)


def _euler(
    solver: RungeKutta, path: GaussianPath, lens: str, start: float, end: float
) -> tuple[tuple[float, float], Row]:
    """(g's row, the step) of Euler; where the coordinate is infinite at the end, keep x0 and ε."""
    t = torch.tensor([start, end], dtype=torch.float64)
    (c0, c1), (s0, s1) = (place.tolist() for place in _places(path, solver.coordinate, t))
    if math.isfinite(c1):
        on_x, on_value = (float(k) for k in _rates(path, solver.coordinate, lens, t[0]))
        return (on_x, on_value), (s1 / s0, [s1 * (c1 - c0)])
    alpha, sigma = float(path.alpha(end)), float(path.sigma(end))
    x0, eps = conversion(path, lens, "x0", start), conversion(path, lens, "eps", start)
    on_x, on_value = (alpha * float(a) + sigma * float(b) for a, b in zip(x0, eps, strict=True))
    return (on_x, on_value), (0.0, [1.0])
