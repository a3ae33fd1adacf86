"""The field's named paths, each with closed-form rates and an exact inverse of its log-SNR."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ..errors import InvalidArgument
from .path import GaussianPath, as_time

HALF_PI = math.pi / 2


@dataclass(frozen=True)
class VPLinear(GaussianPath):
    """Variance preserving with β(t) linear: log α = −¼t²(β₁−β₀) − ½t·β₀, σ² = 1 − α².

    Song et al. 2021, eq. 33; the limit of DDPM's linear chain.
    """

    beta_first: float = 0.1
    beta_last: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.beta_first <= self.beta_last < math.inf:
            raise InvalidArgument(
                f"VPLinear({self.beta_first!r}, {self.beta_last!r}); "
                "need 0 < beta_first ≤ beta_last"
            )

    def beta(self, t: Tensor | float) -> Tensor:
        """Return β(t) = β₀ + t(β₁ − β₀), the rate at which noise is added per unit of time."""
        return self.beta_first + as_time(t) * (self.beta_last - self.beta_first)

    def _log_alpha(self, t: Tensor | float) -> Tensor:
        t = as_time(t)
        return -0.25 * t**2 * (self.beta_last - self.beta_first) - 0.5 * t * self.beta_first

    def alpha(self, t: Tensor | float) -> Tensor:
        return self._log_alpha(t).exp()

    def sigma(self, t: Tensor | float) -> Tensor:
        return (-torch.expm1(2 * self._log_alpha(t))).sqrt()

    def alpha_rate(self, t: Tensor | float) -> Tensor:
        return -0.5 * self.beta(t) * self.alpha(t)

    def sigma_rate(self, t: Tensor | float) -> Tensor:
        return 0.5 * self.beta(t) * self.alpha(t) ** 2 / self.sigma(t)

    def drift(self, t: Tensor | float) -> Tensor:
        return -0.5 * self.beta(t)

    def diffusion(self, t: Tensor | float) -> Tensor:
        return self.beta(t).sqrt()

    def log_snr(self, t: Tensor | float) -> Tensor:
        return self._log_alpha(t) - self.sigma(t).log()

    def time(self, log_snr: Tensor | float) -> Tensor:
        return self._time_of_log_alpha(-0.5 * softplus_exact(-2 * as_time(log_snr)))

    def _time_of_log_alpha(self, log_alpha: Tensor) -> Tensor:
        slope, c = self.beta_last - self.beta_first, -4 * log_alpha
        return c / (self.beta_first + (self.beta_first**2 + slope * c).sqrt())


@dataclass(frozen=True)
class SubVP(VPLinear):
    """Sub-variance preserving: α as in VPLinear, σ = 1 − α² (Song et al. 2021, eq. 34)."""

    def sigma(self, t: Tensor | float) -> Tensor:
        return -torch.expm1(2 * self._log_alpha(t))

    def sigma_rate(self, t: Tensor | float) -> Tensor:
        return self.beta(t) * self.alpha(t) ** 2

    def diffusion(self, t: Tensor | float) -> Tensor:
        return (self.beta(t) * -torch.expm1(4 * self._log_alpha(t))).sqrt()

    def time(self, log_snr: Tensor | float) -> Tensor:
        # α/(1 − α²) = e^λ, solved for α; where α is near 1, log α = ½·log(1 − σ) is used.
        inverse = (-as_time(log_snr)).exp()
        alpha = 2 / (inverse + (inverse**2 + 4).sqrt())
        log_alpha = torch.where(alpha > 0.7, 0.5 * torch.log1p(-alpha * inverse), alpha.log())
        return self._time_of_log_alpha(log_alpha)


@dataclass(frozen=True)
class Cosine(GaussianPath):
    """α = cos(φ(t))/cos(φ(0)), φ = π/2·(t+s)/(1+s), σ² = 1 − α² (Nichol & Dhariwal 2021)."""

    offset: float = 0.008

    def __post_init__(self) -> None:
        if not 0 <= self.offset < math.inf:
            raise InvalidArgument(f"Cosine offset is {self.offset!r}; give a number ≥ 0")

    def _angles(self, t: Tensor | float) -> tuple[Tensor, Tensor, float]:
        t, unit = as_time(t), HALF_PI / (1 + self.offset)
        return unit * (1 - t), unit * t, unit * self.offset  # π/2 − φ, φ − φ(0), φ(0)

    def alpha(self, t: Tensor | float) -> Tensor:
        rest, _, first = self._angles(t)
        return rest.sin() / math.cos(first)

    def sigma(self, t: Tensor | float) -> Tensor:
        _, gone, first = self._angles(t)
        return (gone.sin() * (gone + 2 * first).sin()).sqrt() / math.cos(first)

    def alpha_rate(self, t: Tensor | float) -> Tensor:
        _, gone, first = self._angles(t)
        return -HALF_PI / (1 + self.offset) * (gone + first).sin() / math.cos(first)

    def sigma_rate(self, t: Tensor | float) -> Tensor:
        if self.offset == 0:  # σ = sin(πt/2): finite at t = 0, where the form below is 0/0
            return HALF_PI * self.alpha(t)
        return -self.alpha(t) * self.alpha_rate(t) / self.sigma(t)

    def diffusion(self, t: Tensor | float) -> Tensor:
        return (-2 * self.drift(t)).sqrt()  # any path with α² + σ² = 1

    def log_snr(self, t: Tensor | float) -> Tensor:
        return self.alpha(t).log() - self.sigma(t).log()

    def time(self, log_snr: Tensor | float) -> Tensor:
        # sin²(gone) + … : cos 2φ(0) − cos 2φ = 2·cos²φ(0)·σ², so φ = asin of the half-angle form.
        first = HALF_PI * self.offset / (1 + self.offset)
        sigma2 = torch.sigmoid(-2 * as_time(log_snr))
        alpha2 = torch.sigmoid(2 * as_time(log_snr))
        sine = (sigma2 * math.cos(first) ** 2 + math.sin(first) ** 2).sqrt()
        phi = torch.atan2(sine, alpha2.sqrt() * math.cos(first))
        # φ − φ(0) from sin(φ−φ0)·sin(φ+φ0) = cos²φ0·σ²: no cancellation near the data.
        sum_sine = (phi + first).sin().clamp(min=torch.finfo(phi.dtype).tiny)
        gone = (sigma2 * math.cos(first) ** 2 / sum_sine).clamp(max=1).asin()
        gone = torch.where(phi < 1, gone, phi - first)
        rest = torch.asin((alpha2.sqrt() * math.cos(first)).clamp(max=1))
        unit = HALF_PI / (1 + self.offset)
        return torch.where(phi < 1, gone / unit, 1 - rest / unit)


@dataclass(frozen=True)
class Trigonometric(GaussianPath):
    """α = cos(πt/2), σ = sin(πt/2): constant speed on the circle (Albergo & Vanden-Eijnden)."""

    def alpha(self, t: Tensor | float) -> Tensor:
        return (HALF_PI * (1 - as_time(t))).sin()

    def sigma(self, t: Tensor | float) -> Tensor:
        return (HALF_PI * as_time(t)).sin()

    def alpha_rate(self, t: Tensor | float) -> Tensor:
        return -HALF_PI * self.sigma(t)

    def sigma_rate(self, t: Tensor | float) -> Tensor:
        return HALF_PI * self.alpha(t)

    def log_snr(self, t: Tensor | float) -> Tensor:
        return self.alpha(t).log() - self.sigma(t).log()

    def time(self, log_snr: Tensor | float) -> Tensor:
        small = torch.atan((-as_time(log_snr).abs()).exp()) / HALF_PI
        return torch.where(as_time(log_snr) >= 0, small, 1 - small)


@dataclass(frozen=True)
class Flow(GaussianPath):
    """α = 1 − t, σ = t: the straight path of rectified flow and flow matching."""

    def alpha(self, t: Tensor | float) -> Tensor:
        return 1 - as_time(t)

    def sigma(self, t: Tensor | float) -> Tensor:
        return as_time(t) + 0.0

    def alpha_rate(self, t: Tensor | float) -> Tensor:
        return -torch.ones_like(as_time(t))

    def sigma_rate(self, t: Tensor | float) -> Tensor:
        return torch.ones_like(as_time(t))

    def log_snr(self, t: Tensor | float) -> Tensor:
        return torch.log1p(-as_time(t)) - as_time(t).log()

    def time(self, log_snr: Tensor | float) -> Tensor:
        return torch.sigmoid(-as_time(log_snr))


@dataclass(frozen=True)
class VE(GaussianPath):
    """Variance exploding: α = 1, σ = σ_min·(σ_max/σ_min)^t (Song & Ermon 2019; Song et al. 2021).

    The path ends at σ_min > 0, so sampling ends with one denoising step (see `solvers.sample`).
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max < math.inf:
            raise InvalidArgument(
                f"VE({self.sigma_min!r}, {self.sigma_max!r}); need 0 < sigma_min < sigma_max"
            )

    @property
    def _log_ratio(self) -> float:
        return math.log(self.sigma_max / self.sigma_min)

    def alpha(self, t: Tensor | float) -> Tensor:
        return torch.ones_like(as_time(t))

    def sigma(self, t: Tensor | float) -> Tensor:
        return self.sigma_min * (as_time(t) * self._log_ratio).exp()

    def alpha_rate(self, t: Tensor | float) -> Tensor:
        return torch.zeros_like(as_time(t))

    def sigma_rate(self, t: Tensor | float) -> Tensor:
        return self.sigma(t) * self._log_ratio

    def log_snr(self, t: Tensor | float) -> Tensor:
        return -math.log(self.sigma_min) - as_time(t) * self._log_ratio

    def time(self, log_snr: Tensor | float) -> Tensor:
        return (-math.log(self.sigma_min) - as_time(log_snr)) / self._log_ratio


@dataclass(frozen=True)
class EDM(GaussianPath):
    """α = 1, σ = σ_max·t: noise level as time, down to exactly 0 (Karras et al. 2022)."""

    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_max < math.inf:
            raise InvalidArgument(f"EDM sigma_max is {self.sigma_max!r}; give a positive number")

    def alpha(self, t: Tensor | float) -> Tensor:
        return torch.ones_like(as_time(t))

    def sigma(self, t: Tensor | float) -> Tensor:
        return self.sigma_max * as_time(t)

    def alpha_rate(self, t: Tensor | float) -> Tensor:
        return torch.zeros_like(as_time(t))

    def sigma_rate(self, t: Tensor | float) -> Tensor:
        return torch.full_like(as_time(t), self.sigma_max)

    def log_snr(self, t: Tensor | float) -> Tensor:
        return -self.sigma(t).log()

    def time(self, log_snr: Tensor | float) -> Tensor:
        return (-as_time(log_snr)).exp() / self.sigma_max


def softplus_exact(x: Tensor) -> Tensor:
    """Return log(1 + eˣ) without torch's switch to the identity above its threshold."""
    return torch.where(x > 0, x + torch.log1p((-x.abs()).exp()), softplus(x, threshold=1e9))
