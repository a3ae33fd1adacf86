"""Solvers of one evaluation a step and no memory: DDIM, DDPM, and the base of their kind.

x₁ = a·x + b·value + ς·ξ, value the network's own: such a step is a Gaussian transition, whose mean
and deviation `kernel` returns.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from ...errors import InvalidArgument, Unsupported, need_known
from ...fields.field import Prediction
from ...fields.lenses import conversion
from ...paths import GaussianPath
from ..solver import Noise, Solver, Steps, TimeGrid, draw


class Transition(NamedTuple):
    """a·x + b·value + ς·ξ; where the field's variance fraction v counts, ς·e^(v·ratio)·ξ."""

    on_x: float
    on_value: float
    std: float
    ratio: float | None = None

    def deviation(self, prediction: Prediction) -> float | Tensor:
        """Return the deviation of the noise; raise Unsupported where v is needed and missing."""
        if self.ratio is None:
            return self.std
        fraction = prediction.variance_fraction
        if fraction is None:
            raise Unsupported(
                "ddpm:variance=learned on a field that has learned no variance; train with "
                "model.learned_variance=true, or use ddpm or ddpm:variance=transition"
            )
        return self.std * torch.exp(fraction.to(prediction.x_t.dtype) * self.ratio)


class OneStep(Solver):
    """A solver given by the transition from a time to the next."""

    order = 1

    @abstractmethod
    def transition(self, path: GaussianPath, lens: str, t: float, s: float) -> Transition:
        """Return the step from time t to s, for values in `lens`."""

    def steps(self, path: GaussianPath, x: Tensor, grid: TimeGrid, noise: Noise | None) -> Steps:
        lens, plan = "", tuple[tuple[Tensor, Transition], ...]()
        for k in range(grid.steps):
            prediction = yield x, grid.tensors[k]
            if not plan:
                lens = prediction.lens
                plan = _plan(self, path, lens, grid.floats, x.dtype)
            on_x, step = plan[k]
            value = prediction.value if prediction.lens == lens else prediction.as_lens(lens)
            x = torch.mul(x, on_x).add_(value, alpha=step.on_value)
            if step.std or step.ratio is not None:
                std = step.deviation(prediction)
                if isinstance(std, float):
                    x.add_(draw(noise, x), alpha=std)
                else:
                    x.addcmul_(draw(noise, x), std)
            del prediction, value
        return x

    def kernel(self, prediction: Prediction, t: float, s: float) -> tuple[Tensor, Tensor]:
        step = self.transition(prediction.path, prediction.lens, t, s)
        x, std = prediction.x_t, step.deviation(prediction)
        mean = torch.mul(x, step.on_x).add_(prediction.value, alpha=step.on_value)
        return mean, torch.as_tensor(std, dtype=x.dtype, device=x.device)


@lru_cache(maxsize=128)
def _plan(
    solver: OneStep, path: GaussianPath, lens: str, times: tuple[float, ...], dtype: torch.dtype
) -> tuple[tuple[Tensor, Transition], ...]:
    """Return every step; what multiplies x as a tensor, in half of a Python number's time."""
    steps = [solver.transition(path, lens, t, s) for t, s in pairwise(times)]
    return tuple((factor(step.on_x, dtype), step) for step in steps)


def factor(value: float, dtype: torch.dtype) -> Tensor:
    """Return the 0-dim tensor that multiplies states of `dtype` as the number itself does."""
    kind = torch.float32 if dtype == torch.float32 else torch.float64
    with torch.inference_mode(False):  # plans outlive the solve that makes them
        return torch.tensor(value, dtype=kind, device="cpu")


@dataclass(frozen=True)
class DDIM(OneStep):
    """x₁ = (aim/σ₀)·x + (α₁ − α₀·aim/σ₀)·x0 + ς·ξ: α₁·x0 + aim·ε, and noise.

    eta: noise as a share of that of the posterior q(x₁|x₀, x0), 0 DDIM (Song et al. 2021), 1
    ancestral DDPM (Ho et al. 2020); aim = √(σ₁² − ς²). variance "transition" adds DDPM's larger β
    instead, which does not keep the marginals; "sde" takes η as the share of the reverse SDE's
    noise, ς² = σ₁²·(1 − e^(−2ηh)), any η: SDE-DPM-Solver++ 1. "learned": ς² = exp(v·log β +
    (1−v)·log β̃), v the field's own fraction (Nichol & Dhariwal 2021, sec. 4), β and β̃ those of the
    grid's steps; raises Unsupported where the field has no fraction. The step into σ = 0 adds no
    noise. Weak order 1.
    """

    eta: float = 0.0
    variance: str = "posterior"

    def __post_init__(self) -> None:
        check_noise(self.eta, self.variance, ("posterior", "transition", "sde", "learned"))
        if self.variance in ("transition", "learned") and self.eta != 1:
            raise InvalidArgument(f"variance {self.variance!r} is DDPM's: it needs eta=1")

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        return self.eta > 0

    @property
    def needs_learned_variance(self) -> bool:  # type: ignore[override]
        return self.variance == "learned"

    def transition(self, path: GaussianPath, lens: str, t: float, s: float) -> Transition:
        (a0, a1), (s0, s1), lam = (
            [float(f(at)) for at in (t, s)] for f in (path.alpha, path.sigma, path.log_snr)
        )
        aim, std = noise_added(self.eta, s1, lam[1] - lam[0], self.variance)
        ratio = 0.0 if self.variance == "learned" else None
        if self.variance in ("transition", "learned") and s1 > 0:
            largest = math.sqrt(s0**2 - (a0 / a1 * s1) ** 2)
            std, ratio = (std, math.log(largest / std)) if ratio == 0 else (largest, None)
        x0_x, x0_value = (float(c) for c in conversion(path, lens, "x0", t))
        gain = (a1 * s0 - a0 * aim) / s0
        return Transition(aim / s0 + gain * x0_x, gain * x0_value, std, ratio)


def check_noise(eta: float, variance: str, variances: tuple[str, ...]) -> None:
    """Raise InvalidArgument unless eta and variance go together."""
    need_known("variance", variance, variances)
    if not (math.isfinite(eta) and eta >= 0):
        raise InvalidArgument(f"eta is {eta!r}; give a number ≥ 0")
    if eta > 1 and variance != "sde":
        raise InvalidArgument(f"eta is {eta!r}; give a number from 0 to 1, or variance='sde'")
    if variance == "sde" and not eta:
        raise InvalidArgument("variance 'sde' changes nothing where eta is 0; give eta > 0")


def noise_added(eta: float, sigma: float, h: float, variance: str = "") -> tuple[float, float]:
    """Return (the deviation a step to σ₁ = `sigma` aims at, the deviation of the noise it adds).

    h: the step in log-SNR. ς = η·σ₁·√(1 − e^(−2h)): η = 1 is the posterior q(x₁|x₀, x0); the aim is
    √(σ₁² − ς²).
    """
    if variance == "sde":
        return sigma * math.exp(-eta * h), sigma * math.sqrt(-math.expm1(-2 * eta * h))
    added = eta * sigma * math.sqrt(-math.expm1(-2 * h)) if eta else 0.0
    if eta == 1:
        return sigma * math.exp(-h), added
    return math.sqrt(max(sigma**2 - added**2, 0.0)) if eta else sigma, added
