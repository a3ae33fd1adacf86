"""One-step stochastic solvers: discretisations of the reverse-time SDE, each with its kernel."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import torch

from ...errors import InvalidArgument
from ...fields.lenses import conversion
from ...paths import GaussianPath
from ..registry import preset
from ..solver import Solver
from .direction import factor
from .executor import Combination, LinearSolver, Plan, StepCoefficients
from .multistep import StochasticMultistep


class OneStep(LinearSolver):
    """x₁ = a·x + b·value + ς·ξ."""

    markov = True

    @abstractmethod
    def step(
        self, path: GaussianPath, lens: str, start: float, end: float
    ) -> tuple[float, float, float]:
        """Return (a, b, ς) of the step between two times, for values in `lens`."""

    def plan(
        self, path: GaussianPath, lens: str, times: tuple[float, ...], dtype: torch.dtype
    ) -> Plan:
        return _compile(self, path, lens, times, dtype)


@lru_cache(maxsize=128)
def _compile(
    solver: OneStep, path: GaussianPath, lens: str, times: tuple[float, ...], dtype: torch.dtype
) -> Plan:
    plan = []
    for k, (start, end) in enumerate(pairwise(times)):
        on_x, on_value, noise = solver.step(path, lens, start, end)
        only = Combination(0, factor(on_x, dtype), ((1, on_value),), noise=noise)
        plan.append(StepCoefficients(k, (only,)))
    return tuple(plan)


def _conversions(path: GaussianPath, lens: str, name: str, t: float) -> tuple[float, float]:
    on_x, on_value = conversion(path, lens, name, t)
    return float(on_x), float(on_value)


@dataclass(frozen=True)
class EulerMaruyama(OneStep):
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

    def step(
        self, path: GaussianPath, lens: str, start: float, end: float
    ) -> tuple[float, float, float]:
        f, g = float(path.drift(start)), float(path.diffusion(start))
        score_x, score_value = _conversions(path, lens, "score", start)
        gain = 0.5 * (1 + self.eta**2) * g**2 * (start - end)
        on_x = 1 - f * (start - end) + gain * score_x
        return on_x, gain * score_value, self.eta * g * math.sqrt(start - end)


@dataclass(frozen=True)
class ReverseDiffusion(OneStep):
    """x₁ = (2 − k)·x + G²·score + G·ξ, k = α₀/α₁, G² = σ₀² − k²σ₁² (Song et al. 2021, eq. 46).

    The forward step from time 1 to the noisier time 0 is x₀ = k·x₁ + G·ξ exactly; the reverse step
    takes its drift and its noise, where Euler–Maruyama takes those of the SDE at t₀. On a chain
    k = √(1−β) and G² = β; on VE k = 1 and G² = σ₀² − σ₁². A step into σ₁ = 0 adds no noise. Weak
    order 1.
    """

    order = 1
    stochastic = True

    def step(
        self, path: GaussianPath, lens: str, start: float, end: float
    ) -> tuple[float, float, float]:
        kept = float(path.alpha(start)) / float(path.alpha(end))
        sigma = float(path.sigma(end))
        gone = float(path.sigma(start)) ** 2 - (kept * sigma) ** 2
        score_x, score_value = _conversions(path, lens, "score", start)
        return 2 - kept + gone * score_x, gone * score_value, math.sqrt(gone) if sigma else 0.0


@dataclass(frozen=True)
class ConsistentAnnealing(OneStep):
    """x₁ = α₁·x0 + k·(1 − η)·σ₀·ε + √(σ₁² − (k(1 − η)σ₀)²)·ξ, k = α₁/α₀, η = `rate`.

    On VE: x + ησ₀²·score + βσ₁·ξ, β² = 1 − ((1 − η)σ₀/σ₁)² (Jolicoeur-Martineau et al. 2020,
    alg. 2, η = ε/σ_L² there): where the data is one point, the variance of every level is right,
    which that of Langevin's √(2h) is not. Where a step falls by more than 1 − η in σ/α no noise
    would do: there η is 1 − (σ₁/α₁)/(σ₀/α₀), a DDIM step. At a fixed rate the samples do not
    converge as the grid grows finer (order 0). Raises InvalidArgument for a rate outside (0, 1].
    """

    rate: float = 0.1
    order = 0
    stochastic = True

    def __post_init__(self) -> None:
        check_rate(self.rate)

    def step(
        self, path: GaussianPath, lens: str, start: float, end: float
    ) -> tuple[float, float, float]:
        lam0, lam1 = float(path.log_snr(start)), float(path.log_snr(end))
        alpha, sigma = float(path.alpha(end)), float(path.sigma(end))
        # what is left of ε, in units of σ₁: (1 − η)·(σ₀/α₀)/(σ₁/α₁)
        fall = math.exp(lam1 - lam0) if math.isfinite(lam1 - lam0) else math.inf
        left = min((1 - self.rate) * fall, 1.0) if fall < math.inf else 1.0
        x_x0, v_x0 = _conversions(path, lens, "x0", start)
        x_eps, v_eps = _conversions(path, lens, "eps", start)
        on_x = alpha * x_x0 + left * sigma * x_eps
        return on_x, alpha * v_x0 + left * sigma * v_eps, sigma * math.sqrt(1 - left**2)


def check_rate(rate: float) -> None:
    """Raise InvalidArgument unless `rate`, a Langevin step in units of σ², lies in (0, 1]."""
    if not 0 < rate <= 1:
        raise InvalidArgument(
            f"rate is {rate!r}; give a number in (0, 1]: a Langevin step in units of σ², such as "
            "0.1"
        )


_LOW, _HIGH = StochasticMultistep(), StochasticMultistep(variance="transition")


@dataclass(frozen=True)
class LearnedAncestral(LinearSolver):
    """DDPM's step with variance exp(v·log β + (1−v)·log β̃), v the field's own fraction.

    β and β̃ are those of the grid's steps, also where these skip steps of the chain that was
    trained (Nichol & Dhariwal 2021, sec. 4). The step into σ = 0 adds no noise. With the fraction
    that is right for the data the marginals are exact at any number of steps where the data are
    Gaussian; weak order 1 in general. Raises Unsupported where the field has no fraction.
    """

    order = 1
    stochastic = True
    markov = True
    needs_learned_variance = True

    def plan(
        self, path: GaussianPath, lens: str, times: tuple[float, ...], dtype: torch.dtype
    ) -> Plan:
        return _compile_learned(path, lens, times, dtype)


@lru_cache(maxsize=128)
def _compile_learned(
    path: GaussianPath, lens: str, times: tuple[float, ...], dtype: torch.dtype
) -> Plan:
    plan = []
    for steps in zip(*(kind.plan(path, lens, times, dtype) for kind in (_LOW, _HIGH)), strict=True):
        (low,), (high,) = (step.combinations for step in steps)
        assert low is not None
        assert high is not None
        ratio = math.log(high.noise / low.noise) if low.noise else 0.0
        plan.append(replace(steps[0], combinations=(replace(low, learned=ratio),)))
    return tuple(plan)


@preset
def reverse_diffusion() -> Solver:
    """Reverse diffusion (Song et al. 2021, algs. 2 and 3 without corrector)."""
    return ReverseDiffusion()


@preset
def consistent_annealing(rate: float = 0.1) -> Solver:
    """Consistent annealed sampling (Jolicoeur-Martineau et al. 2020)."""
    return ConsistentAnnealing(rate)
