"""DPM-Solver-v3: steps in the parametrisation that a model's statistics choose (Zheng 2023)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ...errors import need_count
from ...paths import GaussianPath
from ..linear.weights import lagrange
from ..solver import Noise, Solver, Steps, TimeGrid
from .model_statistics import EMS, Array

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)


@dataclass(frozen=True)
class DpmSolverV3(Solver):
    """x₁ = α₁·e^{−L}·(x/α₀ − ∫ e^{L(λ)+S(λ)}·(g(λ) + B(λ)) dλ), from λ₀ to λ₁ (eq. 8).

    L, S: integrals of l and s from λ₀; B(λ) = ∫ e^{−S}·b; f = (σ·ε − l·x)/α; g = e^{−S}·f − B, the
    polynomial in λ through its last `points` values. corrector: redo each step with the next
    step's evaluation. l = 1, s = b = 0 is DPM-Solver++, l = 0, s = −1, b = 0 is DPM-Solver.

    ems: from `empirical_statistics`, of the same model and path. A step to σ = 0 takes x0 and ε as
    constant. Order points, + 1 with the corrector. The paper's pseudo-orders are left out.
    """

    ems: EMS
    points: int = 2
    corrector: bool = False

    def __post_init__(self) -> None:
        need_count("points", self.points)

    @property
    def order(self) -> int:  # type: ignore[override]
        return self.points + self.corrector

    def why_unsupported(self, path: GaussianPath, start: float, end: float) -> str | None:
        low, high = float(self.ems.log_snr[0]), float(self.ems.log_snr[-1])
        for t in (start, end):
            lam = float(path.log_snr(t))
            if not (low - 1e-9 <= lam <= high + 1e-9) and lam != math.inf:
                return (
                    f"log-SNR {lam:.4g} at t = {t:g} lies outside {low:.4g} … {high:.4g} of the "
                    "model statistics; take a grid inside, or statistics that reach further"
                )
        return None

    def steps(self, path: GaussianPath, x: Tensor, grid: TimeGrid, noise: Noise | None) -> Steps:
        past, base, again = list[Tensor](), x, None
        for step, t in zip(compile_plan(self, path, grid.floats), grid.tensors, strict=False):
            prediction = yield x, t
            eps = prediction.eps
            past.insert(0, step.on_eps * eps - step.on_x.to(x) * x)
            if again is not None:
                x = _apply(base, again, past)
            del past[self.points :]
            base, again = x, step.correct
            if step.predict is not None:
                x = _apply(x, step.predict, past)
            else:
                alpha, sigma = (float(c(grid.tensors[-1])) for c in (path.alpha, path.sigma))
                x = alpha * prediction.x0 + sigma * eps
        return x


Terms = tuple[Tensor, Tensor, tuple[Tensor, ...]]  # on x, constant, on each f, newest first


@dataclass(frozen=True)
class _Step:
    on_eps: float
    on_x: Tensor  # f = on_eps·ε − on_x·x
    predict: Terms | None
    correct: Terms | None


def _apply(base: Tensor, terms: Terms, past: list[Tensor]) -> Tensor:
    on_x, constant, on_f = terms
    x = on_x.to(base) * base + constant.to(base)
    for weight, f in zip(on_f, past, strict=False):
        x = x + weight.to(base) * f
    return x


@lru_cache(maxsize=16)
def compile_plan(
    solver: DpmSolverV3, path: GaussianPath, times: tuple[float, ...]
) -> tuple[_Step, ...]:
    """Return every coefficient of a grid, one for each number of an event, in float64."""
    t = torch.tensor(times, dtype=torch.float64)
    alpha, sigma, lam = (f(t).tolist() for f in (path.alpha, path.sigma, path.log_snr))
    steps, splines = len(times) - 1, solver.ems.splines
    plan = []
    for k in range(steps):
        predict = correct = None
        if math.isfinite(lam[k + 1]):
            known = list(range(k, max(k - solver.points, -1), -1))
            scale = (alpha[k], alpha[k + 1])
            predict = _terms(solver.ems, lam[k], lam[k + 1], [lam[j] for j in known], scale)
            if solver.corrector and k + 1 < steps:
                nodes = [lam[k + 1], *(lam[j] for j in known)]
                correct = _terms(solver.ems, lam[k], lam[k + 1], nodes, scale)
        on_x = torch.from_numpy(np.asarray(splines["l"](lam[k]) / alpha[k]))
        plan.append(_Step(sigma[k] / alpha[k], on_x, predict, correct))
    return tuple(plan)


def _terms(
    ems: EMS, start: float, end: float, nodes: list[float], scale: tuple[float, float]
) -> Terms:
    """Return the step from log-SNR `start` to `end` with f known at `nodes`."""
    total, slopes = (lambda at: ems.splines["L"](at) - ems.splines["L"](start)), ems.splines["S"]
    at = start + (end - start) * (1 + _NODES) / 2
    share = _WEIGHTS * (end - start) / 2
    grown = np.exp(total(at) + slopes(at) - slopes(start))
    grown = grown * share.reshape(-1, *[1] * (grown.ndim - 1))
    basis = lagrange(np.array(nodes), at)  # (nodes, at)
    # g_j = e^{−S(λ_j)}·f_j − B(λ_j)
    constant, on_f = (
        sum(_drift(ems, start, lam) * part for lam, part in zip(at, grown, strict=True)),
        [],
    )
    for row, node in zip(basis, nodes, strict=True):
        weight = np.tensordot(row, grown, axes=(0, 0))
        on_f.append(weight * np.exp(slopes(start) - slopes(node)))
        constant = constant - weight * _drift(ems, start, node)
    factor = scale[1] * np.exp(-total(end))
    on_x, shift, *shares = (
        torch.from_numpy(np.asarray(part))
        for part in (factor / scale[0], -factor * constant, *(-factor * each for each in on_f))
    )
    return on_x, shift, tuple(shares)


def _drift(ems: EMS, start: float, end: float) -> Array:
    """Return B(λ) = ∫ e^{−(S(r) − S(start))}·b(r) dr from `start` to λ = `end`."""
    r = start + (end - start) * (1 + _NODES) / 2
    b = ems.splines["b"](r) * np.exp(ems.splines["S"](start) - ems.splines["S"](r))
    return np.tensordot(_WEIGHTS * (end - start) / 2, b, axes=(0, 0))
