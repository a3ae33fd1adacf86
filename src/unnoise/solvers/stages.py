"""Stages of single-step solvers: where they lie on a grid, and their coefficients as floats."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..errors import InvalidArgument
from ..paths import GaussianPath
from .looks import Look, Row, plan_looks
from .terms import Rows, g_rows, posterior_noise
from .weights import COORDINATES, LOG_SNRS, step_weights

if TYPE_CHECKING:
    from .single_step import SingleStep


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
class Churn:
    """EDM's noise before each step (Karras et al. 2022, alg. 2).

    Where t_min ≤ σ/α ≤ t_max the state is first taken up to σ̂ = (1 + γ)σ with
    γ = min(amount/steps, √2 − 1), by noise of `scale` times the deviation that asks for. σ̂ stops
    at the path's own beginning.
    """

    amount: float
    t_min: float = 0.0
    t_max: float = math.inf
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.amount) and self.amount > 0):
            raise InvalidArgument(f"churn is {self.amount!r}; give a positive number, or none")
        if not 0 <= self.t_min < self.t_max:
            raise InvalidArgument(
                f"churn from σ/α = {self.t_min!r} to {self.t_max!r}; need 0 ≤ t_min < t_max"
            )
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise InvalidArgument(f"scale of the noise is {self.scale!r}; give a positive number")


@dataclass(frozen=True)
class Place:
    """A point of the path: time, α, σ, λ."""

    time: float
    alpha: float
    sigma: float
    lam: float


@dataclass(frozen=True)
class Layout:
    """One step: where it looks, what it raises its start by, and the noise of every stage.

    places: the grid step each look belongs to; raised: (scale, deviation) or None; nodes: the
    points looked at; targets: (α, σ, λ, stretch) that each stage makes its state for; noise:
    (share kept of the earlier stage's noise, deviation added).
    """

    stages: tuple[Stage, ...]
    places: tuple[int, ...]
    times: tuple[Tensor, ...]
    nodes: tuple[Place, ...]
    targets: tuple[tuple[float, float, float, float], ...]
    raised: tuple[float, float] | None
    noise: tuple[tuple[float, float], ...]


def _place(path: GaussianPath, time: float) -> Place:
    return Place(time, *(float(f(time)) for f in (path.alpha, path.sigma, path.log_snr)))


def _groups(solver: SingleStep, path: GaussianPath, times: tuple[float, ...]):
    """(solver, first grid index, last grid index) of every step."""
    steps = len(times) - 1
    if not solver.on_grid:
        for k in range(steps):
            rest = steps - k
            late = rest <= len(solver.ending)
            yield solver.ending[len(solver.ending) - rest] if late else solver, k, k + 1
        return
    by_stages = {len(s.stages): s for s in solver.ending}
    k, whole = 0, len(solver.stages)
    infinite = float(path.sigma(times[-1])) == 0
    while k < steps:
        span = whole if steps - k > whole else min(steps - k, whole - 1)
        if infinite and span > 1 and k + span == steps:
            span -= 1
        yield (solver if span == whole else by_stages[span]), k, k + span
        k += span


def _raised(churn: Churn | None, path: GaussianPath, place: Place, steps: int):
    """The place churn takes a step's start to, and (scale, deviation) of getting there."""
    if churn is None or place.alpha == 0:
        return place, None
    level = place.sigma / place.alpha
    if not churn.t_min <= level <= churn.t_max:
        return place, None
    up = math.log1p(min(churn.amount / steps, math.sqrt(2) - 1))
    lam = max(place.lam - up, path.log_snr_range()[0])
    if lam >= place.lam:
        return place, None
    high = _place(path, float(path.time(lam)))
    scale = high.alpha / place.alpha
    return high, (scale, churn.scale * math.sqrt(high.sigma**2 - (scale * place.sigma) ** 2))


def _inner(
    solver: SingleStep, path: GaussianPath, begin: Place, end: Place, lam: float
) -> list[Place] | None:
    """Where the stages before the step's end look on the way to λ, or None where one cannot."""
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


@lru_cache(maxsize=128)
def lay_out(solver: SingleStep, path: GaussianPath, times: tuple[float, ...]) -> tuple[Layout, ...]:
    """Every step of a solve, whatever the network predicts."""
    made = []
    for spec, first, last in _groups(solver, path, times):
        begin, raised = _raised(solver.churn, path, _place(path, times[first]), len(times) - 1)
        end = _place(path, times[last])
        aim, added = posterior_noise(solver.eta, end.sigma, begin.lam, end.lam)
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
        targets, noise = [], []
        before: tuple[Place, float] | None = None
        for place in [*inner, end]:
            goal, fresh, kept, stretch = place.sigma, 0.0, 0.0, 1.0
            if place is end:
                goal, fresh = aim, added
            if solver.noisy_stages:
                goal, fresh = posterior_noise(solver.eta, place.sigma, begin.lam, place.lam)
                if before is not None:
                    near, known = before
                    onward = posterior_noise(solver.eta, place.sigma, near.lam, place.lam)
                    kept = onward[0] / near.sigma
                    before = (place, fresh)
                    fresh = math.sqrt(max(fresh**2 - (kept * known) ** 2, 0.0))
                else:
                    before = (place, fresh)
                h = place.lam - begin.lam
                if goal and math.isfinite(h):
                    stretch = (math.log(place.alpha / goal) - begin.lam) / h
            level = lam if place is end else place.lam
            targets.append((place.alpha, goal, level, stretch))
            noise.append((kept, fresh))
        nodes = (begin, *inner)
        moments = torch.tensor([n.time for n in nodes], dtype=torch.float64).unbind()
        where = tuple(first + i if solver.on_grid else first for i in range(len(nodes)))
        made.append(Layout(stages, where, moments, nodes, tuple(targets), raised, tuple(noise)))
    return tuple(made)


@lru_cache(maxsize=128)
def compile_plan(
    solver: SingleStep,
    path: GaussianPath,
    lens: str,
    times: tuple[float, ...],
    dtype: torch.dtype,
) -> tuple[tuple[Look, ...], ...]:
    """What every look of every step adds, on states of `dtype` and the network's own values."""
    layouts = lay_out(solver, path, times)
    looks = torch.cat([torch.stack(layout.times) for layout in layouts])
    rows = g_rows(path, lens, solver.direction, looks, dtype)
    plan, seen = [], 0
    for layout in layouts:
        here = slice(seen, seen + len(layout.nodes))
        seen = here.stop
        states = [
            _state(solver, path, stage, layout.nodes[: i + 1], layout.targets[i])
            for i, stage in enumerate(layout.stages)
        ]
        plan.append(plan_looks(Rows(rows.on_x[here], rows.on_value[here], dtype), states))
    return tuple(plan)


def _state(
    solver: SingleStep,
    path: GaussianPath,
    stage: Stage,
    nodes: tuple[Place, ...],
    target: tuple[float, float, float, float],
) -> Row:
    """(base, share of the g of every look so far) of the state that a stage makes."""
    (p, q), begin = solver.direction, nodes[0]
    alpha, sigma, lam, stretch = target
    scale = p * begin.sigma + q * begin.alpha
    gain = sigma * begin.alpha - alpha * begin.sigma
    if stage.weights is not None:
        through, weights = tuple(range(len(nodes))), list(stage.weights)
    else:
        through = stage.through
        weights = step_weights(
            path,
            solver.coordinate,
            [nodes[j].lam for j in through],
            lam,
            solver.direction,
            stage.rule,
            stretch,
        )
    shares = [0.0] * len(nodes)
    for j, weight in zip(through, weights, strict=True):
        shares[j] = weight * gain / scale
    return (p * sigma + q * alpha) / scale, shares
