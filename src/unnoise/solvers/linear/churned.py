"""EDM's noise before each step, around any deterministic one-step solver."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import InvalidArgument
from ...paths import GaussianPath
from ..relay import as_stages
from ..solver import Noise, Outcome, Solver, Steps, TimeGrid, draw


@dataclass(frozen=True)
class Churn:
    """EDM's noise before each step (Karras et al. 2022, alg. 2).

    Where t_min ≤ σ/α ≤ t_max the state is first taken up to σ̂ = (1 + γ)σ, at most the path's
    own start, with γ = min(amount/steps, √2 − 1), by noise of `scale` times the deviation due.
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

    def raised(self, path: GaussianPath, t: float, steps: int) -> tuple[float, float, float] | None:
        """Return (time, scale of x, deviation of the noise) of going up from t, or None."""
        alpha, sigma = float(path.alpha(t)), float(path.sigma(t))
        if alpha == 0 or not self.t_min <= sigma / alpha <= self.t_max:
            return None
        before = float(path.log_snr(t))
        up = math.log1p(min(self.amount / steps, math.sqrt(2) - 1))
        lam = max(before - up, path.log_snr_range()[0])
        if lam >= before:
            return None
        high = float(path.time(lam))
        scale = float(path.alpha(high)) / alpha
        added = math.sqrt(float(path.sigma(high)) ** 2 - (scale * sigma) ** 2)
        return high, scale, self.scale * added


@dataclass(frozen=True)
class Churned(Solver):
    """Every step of `solver`, a deterministic one-step solver, begins with the noise of `churn`."""

    solver: Solver
    churn: Churn
    stochastic = True

    def __post_init__(self) -> None:
        if self.solver.stochastic:
            raise InvalidArgument("churn and eta both add noise; give one of them")

    @property
    def order(self) -> int:  # type: ignore[override]
        return self.solver.order

    def why_unsupported(self, path: GaussianPath, start: float, end: float) -> str | None:
        return self.solver.why_unsupported(path, start, end)

    def steps(self, path: GaussianPath, x: Tensor, grid: TimeGrid, noise: Noise | None) -> Steps:
        for k in range(grid.steps):
            pair, begin = grid.part(k, k + 2), x
            raised = self.churn.raised(path, pair.floats[0], grid.steps)
            if raised is not None:
                high, scale, deviation = raised
                x = torch.mul(x, scale).add_(draw(noise, x), alpha=deviation)
                moment = torch.tensor(high, dtype=torch.float64)
                pair = TimeGrid((high, pair.floats[1]), (moment, pair.tensors[1]))
            walk = self.solver.steps(path, x, pair, None)
            try:
                x = yield from as_stages(walk, k, states=0 if raised else 1)
            except GeneratorExit:  # before any noise was added
                return Outcome(begin, fields={"t": grid.floats[k], "steps": k})
        return x
