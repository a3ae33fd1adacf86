"""Euler–Maruyama on the reverse-time SDE."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from ..errors import InvalidArgument
from ..fields.lenses import conversion
from ..paths import GaussianPath
from .affine import Affine, AffineStep


@dataclass(frozen=True)
class EulerMaruyama(AffineStep):
    """dx = [f·x − ½(1+η²)·g²·score]dt + η·g·dw run backwards (Anderson 1982; Song et al. 2021).

    x₁ = x − [f·x − ½(1+η²)g²·score]·Δ + η·g·√Δ·ξ, Δ = t₀ − t₁. η = 1 is the reverse SDE, η = 0
    the probability flow; every η has the same marginals. Weak order 1.
    """

    eta: float = 1.0
    order = 1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.eta) and self.eta >= 0):
            raise InvalidArgument(f"eta is {self.eta!r}; give a number ≥ 0")

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        return self.eta > 0

    def why_unsupported(self, path: GaussianPath, start: float, end: float) -> str | None:
        if not (
            math.isfinite(float(path.drift(start))) and math.isfinite(float(path.diffusion(start)))
        ):
            return (
                f"the SDE's coefficients are infinite at t = {start:g}, where α = 0; start below "
                "that (start=0.999), or use a multistep solver"
            )
        return None

    def plan(self, path: GaussianPath, lens: str, times: tuple[float, ...]) -> Affine:
        return compile_plan(self, path, lens, times)


@lru_cache(maxsize=128)
def compile_plan(
    solver: EulerMaruyama, path: GaussianPath, lens: str, times: tuple[float, ...]
) -> Affine:
    """(on x, on the network's value, deviation of the noise) of every step."""
    plan = []
    for start, end in pairwise(times):
        f, g = float(path.drift(start)), float(path.diffusion(start))
        score_x, score_value = (float(c) for c in conversion(path, lens, "score", start))
        gain = 0.5 * (1 + solver.eta**2) * g**2 * (start - end)
        plan.append(
            (
                1 - f * (start - end) + gain * score_x,
                gain * score_value,
                solver.eta * g * math.sqrt(start - end),
            )
        )
    return tuple(plan)
