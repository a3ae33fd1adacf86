"""Single-step exponential integrators: stages inside a step, each a step of the one formula."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from ...errors import InvalidArgument, need_count, need_known
from ...paths import GaussianPath
from .direction import Direction, check_direction, no_start
from .executor import LinearSolver, Plan
from .one_step import noise_added
from .stages import Row, stage_coefficients
from .weights import COORDINATES, LOG_SNRS, RULES, step_weights

F64 = torch.float64


@dataclass(frozen=True)
class Stage:
    """A stage of a step: where it lies, and what it makes of the g's known before it.

    at: its place, 0 at the step's start and 1 at its end, in the solver's coordinate; through:
    which earlier g's (0 is that of the start) its polynomial runs through, integrated by `rule`;
    or `weights`, the shares of the first g's themselves.
    """

    at: float = 1.0
    through: tuple[int, ...] = (0,)
    rule: str = "exact"
    weights: tuple[float, ...] | None = None


@dataclass(frozen=True)
class SingleStep(LinearSolver):
    """Every stage and the step itself by x₁ = (s₁/s₀)·x + ((σ₁α₀ − α₁σ₀)/s₀)·Σ ŵⱼgⱼ.

    See `linear.weights`: g = q·ε − p·x0, ŵ the integral of the polynomial, in `coordinate`,
    through the g's of earlier stages; the last stage is the step's end. A step one of whose stages
    would lie where σ = 0, outside the path, or where its coordinate is infinite has the start's g
    alone: first order, DDIM's step.

    eta: noise as a share of the posterior's: the whole step, its stages included, goes to
    (α₁, √(σ₁² − ς²)), then ς·ξ is added; both keep the marginals, so the weak order is `order`.
    With noisy_stages (DPM-Solver++ SDE) the stages stay on the way to σ₁, receive the noise due
    there, and the step's own noise contains theirs. on_grid: a step spans as many steps of the grid
    as it has stages, which lie at the grid's own times. ending: solvers of the last steps; where
    on_grid, of the rest of the grid, one for each smaller number of stages.

    Raises InvalidArgument for impossible settings.
    """

    stages: tuple[Stage, ...] = (Stage(),)
    order: int = 1
    direction: tuple[float, float] = (1.0, 0.0)
    coordinate: str = "log_snr"
    eta: float = 0.0
    noisy_stages: bool = False
    on_grid: bool = False
    ending: tuple[SingleStep, ...] = ()

    def __post_init__(self) -> None:
        need_count("order", self.order)
        check_direction(self.direction)
        need_known("coordinate", self.coordinate, COORDINATES)
        if not self.stages or self.stages[-1].at != 1:
            raise InvalidArgument("the last stage is the step's end; give Stage(at=1, …) last")
        for i, stage in enumerate(self.stages):
            self._check_stage(i, stage)
        if not 0 <= self.eta <= 1:
            raise InvalidArgument(f"eta is {self.eta!r}; give a number from 0 to 1")
        if self.noisy_stages and (not self.eta or self.direction[1] or len(self.stages) == 1):
            raise InvalidArgument(
                "noisy stages need stages, eta > 0 and direction (1, 0): ε is not smooth along a "
                "path that receives noise"
            )
        if self.on_grid and (len(self.stages) == 1 or self.eta):
            raise InvalidArgument("stages on the grid need stages, and add no noise (eta=0)")
        shorter = {len(solver.stages) for solver in self.ending}
        if self.on_grid and not shorter >= set(range(1, len(self.stages))):
            raise InvalidArgument(
                f"the rest of a grid may be shorter than {len(self.stages)} steps; give an ending "
                "of each smaller number of stages"
            )

    def _check_stage(self, i: int, stage: Stage) -> None:
        if not 0 < stage.at <= 1:
            raise InvalidArgument(f"stage {i} lies at {stage.at!r}; give a number in (0, 1]")
        need_known("weight rule", stage.rule, RULES)
        if stage.weights is not None:
            if len(stage.weights) != i + 1 or abs(sum(stage.weights) - 1) > 1e-12:
                raise InvalidArgument(
                    f"weights {stage.weights!r} of stage {i}; give {i + 1} that sum to 1"
                )
        elif (
            not stage.through
            or stage.through[0] != 0
            or not set(stage.through) <= set(range(i + 1))
        ):
            raise InvalidArgument(
                f"stage {i} runs through {stage.through!r}; start with 0 and name earlier stages, "
                f"up to {i}"
            )

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        return self.eta > 0

    def why_unsupported(self, path: GaussianPath, start: float, end: float) -> str | None:
        return no_start(self.direction, path, start)

    def plan(
        self, path: GaussianPath, lens: str, times: tuple[float, ...], dtype: torch.dtype
    ) -> Plan:
        layouts = list(_lay_out(self, path, times))
        t = torch.tensor([node.time for layout in layouts for node in layout.nodes], dtype=F64)
        g = Direction.of(path, lens, self.direction, t)
        plan, moments, done = [], t.unbind(), 0
        for layout in layouts:
            here = slice(done, done + len(layout.nodes))
            done = here.stop
            states = [
                _state(self, path, stage, layout.nodes[: i + 1], layout.targets[i])
                for i, stage in enumerate(layout.stages)
            ]
            places = [
                (layout.first + (i if self.on_grid else 0), moment if i else None)
                for i, moment in enumerate(moments[here])
            ]
            part = Direction(g.on_x[here], g.on_value[here])
            plan += stage_coefficients(part, states, places, dtype, layout.noise)
        return tuple(plan)


@dataclass(frozen=True)
class Place:
    """A point of the path: time, α, σ, λ."""

    time: float
    alpha: float
    sigma: float
    lam: float


@dataclass(frozen=True)
class Layout:
    """One step. first: the grid step it begins with; nodes: where it evaluates; targets: (α, σ, λ,
    stretch) that each stage makes its state for; noise: as `stage_coefficients` takes it."""

    first: int
    stages: tuple[Stage, ...]
    nodes: tuple[Place, ...]
    targets: tuple[tuple[float, float, float, float], ...]
    noise: tuple[tuple[float, float], ...]


def _place(path: GaussianPath, time: float) -> Place:
    return Place(time, *(float(f(time)) for f in (path.alpha, path.sigma, path.log_snr)))


def _groups(
    solver: SingleStep, path: GaussianPath, times: tuple[float, ...]
) -> Iterator[tuple[SingleStep, int, int]]:
    """Yield (solver, first grid index, last grid index) of every step."""
    steps = len(times) - 1
    if not solver.on_grid:
        for k in range(steps):
            rest = steps - k
            late = rest <= len(solver.ending)
            yield solver.ending[len(solver.ending) - rest] if late else solver, k, k + 1
        return
    by_stages = {len(s.stages): s for s in (*solver.ending, solver)}
    k, whole = 0, len(solver.stages)
    infinite = float(path.sigma(times[-1])) == 0
    while k < steps:
        span = whole if steps - k > whole else min(steps - k, whole - 1)
        if infinite and span > 1 and k + span == steps:
            span -= 1
        yield by_stages[span], k, k + span
        k += span


def _inner(
    solver: SingleStep, path: GaussianPath, begin: Place, end: Place, lam: float
) -> list[Place] | None:
    """Return the places of the stages before the end of a step to λ, or None where one is none."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        c0, c1 = COORDINATES[solver.coordinate](path, np.array([begin.lam, lam])).tolist()
    if not (math.isfinite(c0) and math.isfinite(c1)):
        return None
    found = []
    for stage in solver.stages[:-1]:
        if stage.at == 1 and lam == end.lam:
            place = end
        else:
            level = LOG_SNRS[solver.coordinate](path, c0 + stage.at * (c1 - c0))
            time = float(path.time(level))
            if not 0 <= time <= 1:
                return None
            place = Place(time, float(path.alpha(time)), float(path.sigma(time)), level)
        if place.sigma == 0:
            return None
        found.append(place)
    return found


def _lay_out(solver: SingleStep, path: GaussianPath, times: tuple[float, ...]) -> Iterator[Layout]:
    """Yield every step of a solve, whatever the network predicts."""
    for spec, first, last in _groups(solver, path, times):
        begin, end = _place(path, times[first]), _place(path, times[last])
        aim, added = noise_added(solver.eta, end.sigma, end.lam - begin.lam)
        lam, stages = end.lam, spec.stages
        if added and not solver.noisy_stages:
            lam = math.log(end.alpha / aim) if aim else math.inf
        inner: list[Place] | None
        if solver.on_grid:
            inner = [_place(path, times[k]) for k in range(first + 1, last)]
        else:
            inner = _inner(spec, path, begin, end, lam)
        if inner is None:
            stages, inner = (Stage(),), []
        if solver.noisy_stages:
            targets, noise = _noisy(solver.eta, path, begin, [*inner, end], lam)
        else:
            targets = [(place.alpha, place.sigma, place.lam, 1.0) for place in inner]
            targets.append((end.alpha, aim, lam, 1.0))
            noise = [(0.0, 0.0)] * len(inner) + [(0.0, added)]
        yield Layout(first, stages, (begin, *inner), tuple(targets), tuple(noise))


def _noisy(
    eta: float, path: GaussianPath, begin: Place, places: list[Place], lam: float
) -> tuple[list[tuple[float, float, float, float]], list[tuple[float, float]]]:
    """Return the targets and the noise of stages each of which contains a share of the noise of
    the one before, as one path of the reverse process does."""
    targets, noise = [], []
    near, known = begin, 0.0
    for place in places:
        aim, added = noise_added(eta, place.sigma, place.lam - begin.lam)
        spared, fresh = 0.0, added
        if near is not begin:
            spared = noise_added(eta, place.sigma, place.lam - near.lam)[0] / near.sigma
            fresh = math.sqrt(max(added**2 - (spared * known) ** 2, 0.0))
        near, known, h, stretch = place, added, place.lam - begin.lam, 1.0
        if aim and math.isfinite(h):
            stretch = (math.log(place.alpha / aim) - begin.lam) / h
        targets.append((place.alpha, aim, lam if place is places[-1] else place.lam, stretch))
        noise.append((spared, fresh))
    return targets, noise


def _state(
    solver: SingleStep,
    path: GaussianPath,
    stage: Stage,
    nodes: tuple[Place, ...],
    target: tuple[float, float, float, float],
) -> Row:
    """Return (base, share of the g of every evaluation so far) of the state of a stage."""
    (p, q), begin = solver.direction, nodes[0]
    alpha, sigma, lam, stretch = target
    scale = p * begin.sigma + q * begin.alpha
    gain = sigma * begin.alpha - alpha * begin.sigma
    if stage.weights is not None:
        through, weights = tuple(range(len(nodes))), list(stage.weights)
    else:
        through = stage.through
        at = [nodes[j].lam for j in through]
        weights = step_weights(
            path, solver.coordinate, at, lam, solver.direction, stage.rule, stretch
        )
    shares = [0.0] * len(nodes)
    for j, weight in zip(through, weights, strict=True):
        shares[j] = weight * gain / scale
    return (p * sigma + q * alpha) / scale, shares
