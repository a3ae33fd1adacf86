"""Adaptive Runge–Kutta: steps of the size that a tolerance allows, sample by sample."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from ...errors import InvalidArgument, need_count, need_known
from ...paths import GaussianPath
from ..coordinates import COORDINATES
from ..registry import preset
from ..solver import Noise, Outcome, Solution, Solver, Steps, TimeGrid
from ..tableaux import ORDERS, embedded_pair
from .ode import Broken, Slopes, Walked, controlled, cross, mean_square
from .scaled import Scaled, gap_for, why_unsupported


@dataclass(frozen=True)
class AdaptiveSolution(Solution):
    """A Solution with the steps of each sample: accepted and rejected, both (batch,)."""

    accepted: Tensor
    rejected: Tensor


@dataclass(frozen=True)
class Adaptive(Solver):
    """Step x/s by an embedded pair in a coordinate (`solvers.coordinates`), with the error ≤ `tol`.

    A step's embedded error in x/s, root mean square over the event against tol·(1 + |x/s|), is at
    most 1. Every sample has its own steps, whatever its batch. The flow is integrated from the
    grid's first time to its last; with `stops` every grid time between is reached exactly too. At
    an end with σ = 0, where no field is defined, the last (or first) 1e-2·tol^(1/3) of the
    coordinate is one midpoint step. `order` is that of the method; the error at the end falls in
    proportion to tol.

    `Solution.nfe` is that of the slowest sample. Where on_step interrupts, the Solution is the
    state at the last grid time that had to be reached. Raises InvalidArgument for impossible
    settings, for a tolerance below what the state's dtype resolves, and when max_passes evaluations
    were not enough.
    """

    tableau: str = "dormand_prince"
    coordinate: str = "flow"
    tol: float = 1e-5
    stops: bool = False
    max_passes: int = 10_000

    def __post_init__(self) -> None:
        need_known("embedded pair", self.tableau, ORDERS)
        need_known("coordinate", self.coordinate, COORDINATES)
        need_count("max_passes", self.max_passes)
        if not 0 < self.tol < 1:
            raise InvalidArgument(f"tol is {self.tol!r}; give a number between 0 and 1")

    @property
    def order(self) -> int:  # type: ignore[override]
        return ORDERS[self.tableau]

    def why_unsupported(self, path: GaussianPath, start: float, end: float) -> str | None:
        return why_unsupported(path, self.coordinate, start, end)

    def steps(self, path: GaussianPath, x: Tensor, grid: TimeGrid, noise: Noise | None) -> Steps:
        check_tolerance(self.tol, x.dtype)
        marks = grid.floats if self.stops else (grid.floats[0], grid.floats[-1])
        calls, step = 0, None
        accepted = rejected = torch.zeros(len(x), dtype=torch.long, device=x.device)
        for k, (start, end) in enumerate(pairwise(marks)):
            flow = Scaled(path, self.coordinate, start, end, tuple(x.shape[1:]), x.dtype)
            segment = self._segment(flow, flow.flat(x), self.max_passes - calls, step)
            try:
                walked = yield from flow.stages(segment, k)
            except GeneratorExit:
                done = {"accepted": accepted, "rejected": rejected, "t": start, "steps": k}
                return Outcome(x, AdaptiveSolution, done)
            except Broken as broken:
                raise flow.explain(broken, f"step {k} of {len(marks) - 1}") from None
            x, step, calls = flow.unflat(walked.y), walked.step, calls + walked.calls
            accepted, rejected = accepted + walked.accepted, rejected + walked.rejected
        return Outcome(x, AdaptiveSolution, {"accepted": accepted, "rejected": rejected})

    def _segment(self, flow: Scaled, y: Tensor, limit: int, step: Tensor | None) -> Slopes[Walked]:
        first, last = flow.inner(gap_for(self.tol))
        if flow.clean[0]:
            y = yield from cross(y, flow.start, first, blind=True)
        method, norm = embedded_pair(self.tableau), mean_square(self.tol, self.tol)
        walked = yield from controlled(y, first, last, method, norm, limit, step)
        if flow.clean[1]:
            y = yield from cross(walked.y, last, flow.end, blind=False)
            walked = replace(walked, y=y)
        return walked


def check_tolerance(tol: float, dtype: torch.dtype) -> None:
    """Raise InvalidArgument if numbers of `dtype` cannot meet `tol`."""
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
