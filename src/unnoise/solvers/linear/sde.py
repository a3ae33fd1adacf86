"""Discretisations of the reverse-time SDE, each with its kernel."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...errors import InvalidArgument
from ...fields.lenses import conversion
from ...paths import GaussianPath
from ..registry import preset
from ..solver import Solver
from .one_step import OneStep, Transition


def _row(path: GaussianPath, lens: str, name: str, t: float) -> tuple[float, float]:
    """Return `conversion` as numbers: (on_x, on_value) of `name` for a value in `lens`."""
    on_x, on_value = conversion(path, lens, name, t)
    return float(on_x), float(on_value)


@dataclass(frozen=True)
class EulerMaruyama(OneStep):
    """dx = [f·x − ½(1+η²)·g²·score]dt + η·g·dw run backwards (Anderson 1982; Song et al. 2021).

    x₁ = x − [f·x − ½(1+η²)g²·score]·Δ + η·g·√Δ·ξ, Δ = t₀ − t₁. η = 1 is the reverse SDE, η = 0
    the probability flow; every η has the same marginals. Weak order 1.
    """

    eta: float = 1.0

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

    def transition(self, path: GaussianPath, lens: str, t: float, s: float) -> Transition:
        f, g = float(path.drift(t)), float(path.diffusion(t))
        score_x, score_value = _row(path, lens, "score", t)
        gain = 0.5 * (1 + self.eta**2) * g**2 * (t - s)
        on_x = 1 - f * (t - s) + gain * score_x
        return Transition(on_x, gain * score_value, self.eta * g * math.sqrt(t - s))


@dataclass(frozen=True)
class ReverseDiffusion(OneStep):
    """x₁ = (2 − k)·x + G²·score + G·ξ, k = α₀/α₁, G² = σ₀² − k²σ₁² (Song et al. 2021, eq. 46).

    The drift and the noise are those of the forward step, x₀ = k·x₁ + G·ξ exactly, where
    Euler–Maruyama takes those of the SDE at t₀. On a chain k = √(1−β) and G² = β; on VE k = 1 and
    G² = σ₀² − σ₁². A step into σ₁ = 0 adds no noise. Weak order 1.
    """

    stochastic = True

    def transition(self, path: GaussianPath, lens: str, t: float, s: float) -> Transition:
        kept = float(path.alpha(t)) / float(path.alpha(s))
        sigma = float(path.sigma(s))
        gone = float(path.sigma(t)) ** 2 - (kept * sigma) ** 2
        score_x, score_value = _row(path, lens, "score", t)
        std = math.sqrt(gone) if sigma else 0.0
        return Transition(2 - kept + gone * score_x, gone * score_value, std)


@dataclass(frozen=True)
class ConsistentAnnealing(OneStep):
    """x₁ = α₁·x0 + k·(1 − η)·σ₀·ε + √(σ₁² − (k(1 − η)σ₀)²)·ξ, k = α₁/α₀, η = `rate`.

    On VE: x + ησ₀²·score + βσ₁·ξ, β² = 1 − ((1 − η)σ₀/σ₁)² (Jolicoeur-Martineau et al. 2020,
    alg. 2, η = ε/σ_L² there): where the data is one point, the variance of every level is right.
    Where a step falls by more than 1 − η in σ/α it is DDIM's, η = 1 − (σ₁/α₁)/(σ₀/α₀). At a fixed
    rate the samples do not converge as the grid grows finer (order 0). Raises InvalidArgument for a
    rate outside (0, 1].
    """

    rate: float = 0.1
    order = 0
    stochastic = True

    def __post_init__(self) -> None:
        check_rate(self.rate)

    def transition(self, path: GaussianPath, lens: str, t: float, s: float) -> Transition:
        lam0, lam1 = float(path.log_snr(t)), float(path.log_snr(s))
        alpha, sigma = float(path.alpha(s)), float(path.sigma(s))
        # what is left of ε, in units of σ₁: (1 − η)·(σ₀/α₀)/(σ₁/α₁)
        fall = math.exp(lam1 - lam0) if math.isfinite(lam1 - lam0) else math.inf
        left = min((1 - self.rate) * fall, 1.0) if fall < math.inf else 1.0
        (x_x0, v_x0), (x_eps, v_eps) = (_row(path, lens, name, t) for name in ("x0", "eps"))
        on_x = alpha * x_x0 + left * sigma * x_eps
        std = sigma * math.sqrt(1 - left**2)
        return Transition(on_x, alpha * v_x0 + left * sigma * v_eps, std)


def check_rate(rate: float) -> None:
    """Raise InvalidArgument unless `rate`, a Langevin step in units of σ², lies in (0, 1]."""
    if not 0 < rate <= 1:
        raise InvalidArgument(f"rate is {rate!r}, a step in units of σ²; give a number in (0, 1]")


@preset
def reverse_diffusion() -> Solver:
    """Reverse diffusion (Song et al. 2021, algs. 2 and 3 without corrector)."""
    return ReverseDiffusion()


@preset
def consistent_annealing(rate: float = 0.1) -> Solver:
    """Consistent annealed sampling (Jolicoeur-Martineau et al. 2020)."""
    return ConsistentAnnealing(rate)
