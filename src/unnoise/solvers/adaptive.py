"""Adaptive Runge–Kutta: steps of the size that a tolerance asks for, sample by sample."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from ..errors import InvalidArgument, need_count, unknown
from ..fields.field import Field, Prediction
from ..paths import GaussianPath
from . import scaled
from .embedded import ORDERS, Broken, Walked, cross, integrate, mean_square, pair
from .registry import preset
from .runge_kutta import COORDINATES
from .scaled import Scaled, gap_for
from .solver import Noise, OnStep, Solution, Solver, Times


@dataclass(frozen=True)
class AdaptiveSolution(Solution):
    """A Solution with the steps of each sample: accepted and rejected, both (batch,)."""

    accepted: Tensor
    rejected: Tensor


class _Stopped(Exception):
    """on_step asked to end the walk."""


@dataclass(frozen=True)
class Adaptive(Solver):
    """x/s stepped by an embedded pair in a coordinate (see `RungeKutta`), error kept to `tol`.

    A step's embedded error in x/s, root mean square over the event against tol·(1 + |x/s|), stays
    at most 1; every sample has its own steps, so that none depends on its batch. The walk goes from
    the grid's first time to its last; `stops` makes it meet the times between as well, and without
    it they are not used. At an end with σ = 0, where no field can be asked, the last (or first)
    1e-2·tol^(1/3) of the coordinate is one midpoint step. `order` is that of the method; the error
    of a walk falls in proportion to tol.

    `Solution.nfe` is what the slowest sample needed. A walk that on_step ends returns the last
    grid time it had to meet. Raises InvalidArgument for impossible settings, for a tolerance that
    the state's dtype cannot carry, and when max_passes calls of the field were not enough.
    """

    tableau: str = "dormand_prince"
    coordinate: str = "flow"
    tol: float = 1e-5
    stops: bool = False
    max_passes: int = 10_000
    adaptive = True

    def __post_init__(self) -> None:
        if self.tableau not in ORDERS:
            raise unknown("embedded pair", self.tableau, ORDERS)
        if self.coordinate not in COORDINATES:
            raise unknown("coordinate", self.coordinate, COORDINATES)
        need_count("max_passes", self.max_passes)
        if not 0 < self.tol < 1:
            raise InvalidArgument(f"tol is {self.tol!r}; give a number between 0 and 1")

    @property
    def order(self) -> int:  # type: ignore[override]
        return ORDERS[self.tableau]

    def refusal(self, path: GaussianPath, start: float, end: float) -> str | None:
        return scaled.refusal(path, self.coordinate, start, end)

    def walk(
        self, field: Field, x: Tensor, times: Times, noise: Noise | None, on_step: OnStep | None
    ) -> Solution:
        check_tolerance(self.tol, x.dtype)
        marks = times.floats if self.stops else (times.floats[0], times.floats[-1])
        nfe, step = 0, None
        accepted = rejected = torch.zeros(len(x), dtype=torch.long, device=x.device)
        for k, (start, end) in enumerate(pairwise(marks)):
            look = None if on_step is None else partial(_look, on_step, k)
            flow = Scaled(field, self.coordinate, start, end, tuple(x.shape[1:]), x.dtype, look)
            try:
                y, walked = self._segment(flow, flow.flat(x), self.max_passes - nfe, step)
            except _Stopped:
                nfe += flow.nfe
                return AdaptiveSolution(x, start, k, nfe, False, accepted, rejected)
            except Broken as broken:
                raise flow.explain(broken, f"step {k} of {len(marks) - 1}") from None
            x, step, nfe = flow.unflat(y), walked.step, nfe + flow.nfe
            accepted, rejected = accepted + walked.accepted, rejected + walked.rejected
        return AdaptiveSolution(x, times.floats[-1], times.steps, nfe, True, accepted, rejected)

    def _segment(
        self, flow: Scaled, y: Tensor, limit: int, step: Tensor | None
    ) -> tuple[Tensor, Walked]:
        first, last = flow.inner(gap_for(self.tol))
        if flow.clean[0]:
            y = cross(flow.rate, y, flow.start, first, blind=True)
        norm = mean_square(self.tol, self.tol)
        walked = integrate(flow.rate, y, first, last, pair(self.tableau), norm, limit, step)
        y = walked.y
        if flow.clean[1]:
            y = cross(flow.rate, y, last, flow.end, blind=False)
        return y, walked


def _look(on_step: OnStep, k: int, prediction: Prediction) -> None:
    if on_step(k, prediction) is False:
        raise _Stopped


def check_tolerance(tol: float, dtype: torch.dtype) -> None:
    """Raise InvalidArgument where numbers of `dtype` cannot meet `tol`."""
    least = 10 * torch.finfo(dtype).eps
    if not (math.isfinite(tol) and tol >= least):
        raise InvalidArgument(
            f"tol is {tol!r}, and {str(dtype).removeprefix('torch.')} numbers cannot meet less "
            f"than {least:.1g}; loosen it, or compute in float64"
        )


@preset
def rk12(tol: float = 1e-3, coordinate: str = "flow") -> Solver:
    """Heun–Euler 2(1) with error control."""
    return Adaptive("heun_euler", coordinate, tol)


@preset
def rk23(tol: float = 1e-4, coordinate: str = "flow") -> Solver:
    """Bogacki–Shampine 3(2) with error control."""
    return Adaptive("bogacki_shampine", coordinate, tol)


@preset
def rk45(tol: float = 1e-5, coordinate: str = "flow") -> Solver:
    """Dormand–Prince 5(4) with error control: the usual "dopri5", in the flow coordinate."""
    return Adaptive("dormand_prince", coordinate, tol)


@preset
def dop853(tol: float = 1e-5, coordinate: str = "flow") -> Solver:
    """Dormand–Prince 8(5,3) with error control, for tight tolerances."""
    return Adaptive("dop853", coordinate, tol)
