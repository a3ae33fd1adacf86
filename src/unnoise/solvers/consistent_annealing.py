"""Consistent annealed sampling: a Langevin step a level, with the noise that the next one has."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from ..errors import InvalidArgument
from ..fields.lenses import conversion
from ..paths import GaussianPath
from .affine import Affine, AffineStep
from .registry import preset
from .solver import Solver


@dataclass(frozen=True)
class ConsistentAnnealing(AffineStep):
    """x₁ = α₁·x0 + k·(1 − η)·σ₀·ε + √(σ₁² − (k(1 − η)σ₀)²)·ξ, k = α₁/α₀, η = `rate`.

    On VE: x + ησ₀²·score + βσ₁·ξ, β² = 1 − ((1 − η)σ₀/σ₁)² (Jolicoeur-Martineau et al. 2020,
    alg. 2, η = ε/σ_L² there): where the data is one point, every level keeps its variance, which
    Langevin's √(2h) does not. Where a step falls by more than 1 − η in σ/α no noise would do: there
    η is 1 − (σ₁/α₁)/(σ₀/α₀), a DDIM step. At a fixed rate the walk does not converge as the grid
    grows finer (order 0). Raises InvalidArgument for a rate outside (0, 1].
    """

    rate: float = 0.1
    order = 0
    stochastic = True

    def __post_init__(self) -> None:
        check_rate(self.rate)

    def plan(self, path: GaussianPath, lens: str, times: tuple[float, ...]) -> Affine:
        return compile_plan(self.rate, path, lens, times)


@lru_cache(maxsize=128)
def compile_plan(rate: float, path: GaussianPath, lens: str, times: tuple[float, ...]) -> Affine:
    """(on x, on the network's value, deviation of the noise) of every step."""
    plan = []
    for start, end in pairwise(times):
        lam0, lam1 = float(path.log_snr(start)), float(path.log_snr(end))
        alpha, sigma = float(path.alpha(end)), float(path.sigma(end))
        # what is left of ε, in units of σ₁: (1 − η)·(σ₀/α₀)/(σ₁/α₁)
        fall = math.exp(lam1 - lam0) if math.isfinite(lam1 - lam0) else math.inf
        left = min((1 - rate) * fall, 1.0) if fall < math.inf else 1.0
        (x_x0, v_x0), (x_eps, v_eps) = (
            (float(c) for c in conversion(path, lens, name, start)) for name in ("x0", "eps")
        )
        plan.append(
            (
                alpha * x_x0 + left * sigma * x_eps,
                alpha * v_x0 + left * sigma * v_eps,
                sigma * math.sqrt(1 - left**2),
            )
        )
    return tuple(plan)


def check_rate(rate: float) -> None:
    """Raise InvalidArgument unless `rate`, a Langevin step in units of σ², lies in (0, 1]."""
    if not 0 < rate <= 1:
        raise InvalidArgument(
            f"rate is {rate!r}; give a number in (0, 1]: a Langevin step in units of σ², such as "
            "0.1"
        )


@preset
def consistent_annealing(rate: float = 0.1) -> Solver:
    """Consistent annealed sampling (Jolicoeur-Martineau et al. 2020)."""
    return ConsistentAnnealing(rate)
