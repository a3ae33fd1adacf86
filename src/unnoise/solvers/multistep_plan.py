"""The coefficients of a multistep solve, step by step, as floats."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from ..paths import GaussianPath
from .terms import Mark, Terms, g_rows, posterior_noise
from .weights import step_weights

if TYPE_CHECKING:
    from .multistep import Multistep


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One step of a plan.

    mark: what it keeps of its look; predict: where it goes, and the deviation of its `noise`;
    correct: the step done again, but for the next look's part; again: this look's part in the
    step before.
    """

    mark: Mark
    predict: Terms
    noise: float
    correct: Terms | None
    again: float | None


Shares = list[tuple[int, float]]  # (time, weight on its g)


@lru_cache(maxsize=128)
def compile_plan(
    solver: Multistep, path: GaussianPath, lens: str, times: tuple[float, ...], dtype: torch.dtype
) -> tuple[Step, ...]:
    """Every coefficient of a solve, on states of `dtype` and on the network's own value."""
    t = torch.tensor(times, dtype=torch.float64)
    p, q = solver.direction
    alpha, sigma, lam = (f(t).tolist() for f in (path.alpha, path.sigma, path.log_snr))
    scale = [p * s + q * a for a, s in zip(alpha, sigma, strict=True)]
    rows = g_rows(path, lens, solver.direction, t[:-1], dtype)

    def shares(k: int, nodes: list[int], aim: float, stretch: float) -> tuple[float, Shares]:
        """(on the start, on each g) of step k, the step's start being the first of the nodes."""
        s1, gain = p * aim + q * alpha[k + 1], aim * alpha[k] - alpha[k + 1] * sigma[k]
        weights = step_weights(
            path,
            solver.coordinate,
            [lam[j] for j in nodes],
            lam[k + 1],
            solver.direction,
            solver.rule,
            stretch,
        )
        found = ((j, w * gain / scale[k]) for j, w in zip(nodes, weights, strict=True))
        return s1 / scale[k], sorted(found, reverse=True)  # newest first

    plan, steps = [], len(times) - 1
    again: float | None = None
    for k in range(steps):
        points = min(solver.points, steps - k) if solver.lower_last else solver.points
        known = list(range(k, max(k - points, -1), -1))
        aim, noise, stretch = _noise(solver, path, alpha, sigma, lam, k)
        predict = rows.terms(*shares(k, known, aim, stretch), k, not solver.corrector)
        if not solver.corrector and len(known) == solver.points > 1:
            predict = rows.reused(predict, known[-1], len(known))
        correct, before = None, again
        if solver.corrector and solver.opening_steps <= k < steps - 1:
            base, (newest, *rest) = shares(k, [k, k + 1, *known[1:]], sigma[k + 1], 1.0)
            correct, again = rows.terms(base, rest, k, False), newest[1] * rows.unit(k + 1)
        plan.append(Step(rows.mark(k), predict, noise, correct, before))
    return tuple(plan)


def _noise(
    solver: Multistep,
    path: GaussianPath,
    alpha: list[float],
    sigma: list[float],
    lam: list[float],
    k: int,
) -> tuple[float, float, float]:
    """(where the step aims in σ, deviation of the noise it adds, stretch of its measure)."""
    if not solver.eta:
        return sigma[k + 1], 0.0, 1.0
    h = lam[k + 1] - lam[k]
    aim, added = posterior_noise(solver.eta, sigma[k + 1], lam[k], lam[k + 1])
    if solver.variance == "sde":
        aim = sigma[k + 1] * math.exp(-solver.eta * h)
        added = sigma[k + 1] * math.sqrt(-math.expm1(-2 * solver.eta * h))
    stretch = 1.0
    if 0 < aim < math.inf and math.isfinite(h):
        stretch = (math.log(alpha[k + 1] / aim) - lam[k]) / h
    if solver.variance == "transition" and sigma[k + 1] > 0:
        keep = alpha[k] / alpha[k + 1]
        added = math.sqrt(sigma[k] ** 2 - (keep * sigma[k + 1]) ** 2)
    return aim, added, stretch
