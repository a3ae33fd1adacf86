"""Runge–Kutta solvers: a tableau, in a chosen coordinate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ...errors import need_known
from ...fields.lenses import conversion
from ...paths import GaussianPath
from .. import coordinates
from ..coordinates import COORDINATES
from ..tableaux import TABLEAUX
from .direction import Direction
from .executor import LinearSolver, Plan, StepCoefficients
from .stages import Row, stage_coefficients


@dataclass(frozen=True)
class RungeKutta(LinearSolver):
    """x/s stepped by a tableau in the coordinate c: exact where k is constant.

    A step one of whose stages would sit where σ = 0, or where c or k is not finite, is an Euler
    step of the same coordinate, or, where c itself is infinite there, one that keeps x0 and ε.
    """

    tableau: str = "heun"
    coordinate: str = "sigma"

    def __post_init__(self) -> None:
        need_known("tableau", self.tableau, TABLEAUX)
        need_known("coordinate", self.coordinate, COORDINATES)

    @property
    def order(self) -> int:  # type: ignore[override]
        return TABLEAUX[self.tableau].order

    def why_unsupported(self, path: GaussianPath, start: float, end: float) -> str | None:
        t = torch.tensor(start, dtype=torch.float64)
        place = [float(value) for value in coordinates.places(path, self.coordinate, t)]
        if not all(map(math.isfinite, place)) or place[1] == 0:
            return (
                f"the coordinate {self.coordinate!r} is infinite at t = {start:g}; use 'flow', or "
                "start below that"
            )
        return None

    def plan(
        self, path: GaussianPath, lens: str, times: tuple[float, ...], dtype: torch.dtype
    ) -> Plan:
        method = TABLEAUX[self.tableau]
        nodes, rows, weights = method.nodes, method.rows, method.weights
        t = torch.tensor(times, dtype=torch.float64)
        start, end = t[:-1], t[1:]
        c, s = coordinates.places(path, self.coordinate, t)
        gap = c[1:] - c[:-1]
        whole = torch.isfinite(c[1:])  # the steps of which every stage can be evaluated
        at = []
        for share in nodes:
            time = start if share == 0 else end
            if 0 < share < 1:
                time = coordinates.times(path, self.coordinate, c[:-1] + share * gap)
            time = torch.where(whole, time, start)
            whole = whole & (path.sigma(time) > 0)
            at.append(time)
        at = [torch.where(whole, time, start) for time in at]
        rates = [coordinates.rates(path, self.coordinate, lens, time) for time in at]
        for on_x, on_value in rates:
            whole = whole & torch.isfinite(on_x) & torch.isfinite(on_value)
        scales = [coordinates.places(path, self.coordinate, time)[1].tolist() for time in at]
        moments = [time.unbind() for time in at]
        on_xs, on_values = ([rate[part].tolist() for rate in rates] for part in (0, 1))
        gaps, sizes = gap.tolist(), s.tolist()
        plan: list[StepCoefficients] = []
        for k, possible in enumerate(whole.tolist()):
            if not possible:
                row, state = _euler(self, path, lens, *times[k : k + 2])
                g = Direction(row[:1], row[1:])
                plan += stage_coefficients(g, [state], [(k, None)], dtype)
                continue
            scale = [part[k] for part in scales[1:]] + [sizes[k + 1]]
            states = [
                (size / sizes[k], [size * gaps[k] * share for share in shares])
                for size, shares in zip(scale, (*rows[1:], weights), strict=True)
            ]
            g = Direction([on[k] for on in on_xs], [on[k] for on in on_values])
            places = [(k, part[k] if i else None) for i, part in enumerate(moments)]
            plan += stage_coefficients(g, states, places, dtype)
        return tuple(plan)


def _euler(
    solver: RungeKutta, path: GaussianPath, lens: str, start: float, end: float
) -> tuple[tuple[float, float], Row]:
    """Return ((g on x, on value), the step) of Euler; where the coordinate is infinite at the end,
    of the step that leaves x0 and ε as they are."""
    t = torch.tensor([start, end], dtype=torch.float64)
    (c0, c1), (s0, s1) = (
        place.tolist() for place in coordinates.places(path, solver.coordinate, t)
    )
    if math.isfinite(c1):
        on_x, on_value = (float(k) for k in coordinates.rates(path, solver.coordinate, lens, t[0]))
        return (on_x, on_value), (s1 / s0, [s1 * (c1 - c0)])
    alpha, sigma = float(path.alpha(end)), float(path.sigma(end))
    x0, eps = conversion(path, lens, "x0", start), conversion(path, lens, "eps", start)
    on_x, on_value = (alpha * float(a) + sigma * float(b) for a, b in zip(x0, eps, strict=True))
    return (on_x, on_value), (0.0, [1.0])
