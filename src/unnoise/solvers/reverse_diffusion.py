"""The reverse-diffusion sampler: the forward chain's own coefficients, run backwards."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from ..fields.lenses import conversion
from ..paths import GaussianPath
from .affine import Affine, AffineStep
from .registry import preset
from .solver import Solver


@dataclass(frozen=True)
class ReverseDiffusion(AffineStep):
    """x₁ = (2 − k)·x + G²·score + G·ξ, k = α₀/α₁, G² = σ₀² − k²σ₁² (Song et al. 2021, eq. 46).

    The forward step from time 1 to the noisier time 0 is x₀ = k·x₁ + G·ξ exactly; its drift and
    its noise are what the reverse step takes, where Euler–Maruyama takes those of the SDE at t₀.
    On a chain k = √(1−β) and G² = β; on VE k = 1 and G² = σ₀² − σ₁². A step into σ₁ = 0 adds no
    noise. Weak order 1.
    """

    order = 1
    stochastic = True

    def plan(self, path: GaussianPath, lens: str, times: tuple[float, ...]) -> Affine:
        return compile_plan(path, lens, times)


@lru_cache(maxsize=128)
def compile_plan(path: GaussianPath, lens: str, times: tuple[float, ...]) -> Affine:
    """(on x, on the network's value, deviation of the noise) of every step."""
    plan = []
    for start, end in pairwise(times):
        kept = float(path.alpha(start)) / float(path.alpha(end))
        sigma = float(path.sigma(end))
        gone = float(path.sigma(start)) ** 2 - (kept * sigma) ** 2
        score_x, score_value = (float(c) for c in conversion(path, lens, "score", start))
        spread = math.sqrt(gone) if sigma else 0.0
        plan.append((2 - kept + gone * score_x, gone * score_value, spread))
    return tuple(plan)


@preset
def reverse_diffusion() -> Solver:
    """Reverse diffusion (Song et al. 2021, algs. 2 and 3 without corrector)."""
    return ReverseDiffusion()
