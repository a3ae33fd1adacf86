"""Gaussian paths: x_t = α(t)·x0 + σ(t)·ε with t = 0 at the data and t = 1 at the noise."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import InvalidArgument

if TYPE_CHECKING:
    from ..randomness import Streams


def as_time(t: Tensor | float) -> Tensor:
    """Return times as a tensor of at least float32; Python numbers become float64."""
    if not isinstance(t, Tensor):
        return torch.tensor(t, dtype=torch.float64)
    return t if t.dtype in (torch.float32, torch.float64) else t.float()


def expand(coefficient: Tensor, x: Tensor) -> Tensor:
    """Return a coefficient of shape () or (batch,), shaped to multiply x of shape (batch, *event).

    The result has the dtype of x: coefficients are computed in their own precision and rounded
    once.
    """
    if coefficient.ndim == 0:
        return coefficient.to(dtype=x.dtype)
    if coefficient.shape[0] not in (1, x.shape[0]) or coefficient.ndim != 1:
        raise InvalidArgument(
            f"times of shape {tuple(coefficient.shape)} do not fit a batch of "
            f"{x.shape[0]}; give one time, or one per sample"
        )
    return coefficient.to(device=x.device, dtype=x.dtype).reshape(-1, *(1,) * (x.ndim - 1))


class GaussianPath(ABC):
    """x_t = α(t)·x0 + σ(t)·ε, ε ~ N(0, I); immutable, hashable, holds no tensors.

    `log_snr` is λ = log(α/σ), half of log(α²/σ²): the DPM-Solver papers' half log-SNR. Every method
    takes times of any shape and returns their dtype (at least float32).
    """

    @property
    def independent(self) -> bool:
        """Whether ε is standard normal and independent of x0; the score and the SDE need both."""
        return True

    @abstractmethod
    def alpha(self, t: Tensor | float) -> Tensor:
        """Return the signal scale α(t)."""

    @abstractmethod
    def sigma(self, t: Tensor | float) -> Tensor:
        """Return the noise scale σ(t)."""

    @abstractmethod
    def alpha_rate(self, t: Tensor | float) -> Tensor:
        """Return dα/dt."""

    @abstractmethod
    def sigma_rate(self, t: Tensor | float) -> Tensor:
        """Return dσ/dt."""

    @abstractmethod
    def log_snr(self, t: Tensor | float) -> Tensor:
        """Return λ(t) = log(α/σ), strictly decreasing; +∞ where σ = 0, −∞ where α = 0."""

    @abstractmethod
    def time(self, log_snr: Tensor | float) -> Tensor:
        """Return the time at which the path has this log-SNR; the inverse of `log_snr`."""

    def log_snr_rate(self, t: Tensor | float) -> Tensor:
        """Return dλ/dt = α̇/α − σ̇/σ, negative."""
        return self.alpha_rate(t) / self.alpha(t) - self.sigma_rate(t) / self.sigma(t)

    def diffuse(self, x0: Tensor, eps: Tensor, t: Tensor | float) -> Tensor:
        """Return x_t = α(t)·x0 + σ(t)·ε, the forward process in one jump.

        x0, eps: (batch, *event); t: () or (batch,).
        """
        t = as_time(t)
        return expand(self.alpha(t), x0) * x0 + expand(self.sigma(t), x0) * eps

    def drift(self, t: Tensor | float) -> Tensor:
        """Return f(t) = α̇/α of the SDE dx = f·x dt + g dw of these marginals.

        Source: Song et al. 2021.
        """
        return self.alpha_rate(t) / self.alpha(t)

    def diffusion(self, t: Tensor | float) -> Tensor:
        """Return g(t) of the same SDE: g² = 2σ(σ̇ − σ·α̇/α) = −2σ²·dλ/dt."""
        t, sigma = as_time(t), self.sigma(t)
        return (2 * sigma * (self.sigma_rate(t) - sigma * self.drift(t))).sqrt()

    def prior(
        self, noise: Streams, event: tuple[int, ...], t: float = 1.0, data_std: float = 0.0
    ) -> Tensor:
        """Draw the start of sampling from N(0, σ(t)² + α(t)²·s²), s = `data_std`.

        Returns (n, *event) float32. Against the true marginal the mean is off by α(t)·E[x0] and the
        variance by α(t)²·(Var[x0] − s²): nothing where α(t) = 0.
        """
        scale = math.hypot(float(self.sigma(t)), float(self.alpha(t)) * data_std)
        return noise.normal(*event) * scale

    def log_snr_range(self) -> tuple[float, float]:
        """Return (λ(1), λ(0)): the least and the largest log-SNR of the path."""
        return _log_snr_range(self)

    def shifted(self, factor: float) -> GaussianPath:
        """Return the same curve on another clock, with SNR (α²/σ²) `factor` times as large."""
        return Shifted(self, factor)

    def restricted(self, first: float = 0.0, last: float = 1.0) -> GaussianPath:
        """Return the piece of this path between two of its times, as a path of its own."""
        return Restricted(self, first, last)


@lru_cache(maxsize=256)
def _log_snr_range(path: GaussianPath) -> tuple[float, float]:
    return float(path.log_snr(1.0)), float(path.log_snr(0.0))


@dataclass(frozen=True)
class Shifted(GaussianPath):
    """A path run on another clock, so that SNR'(t) = factor·SNR(t): λ' = λ + ½·log(factor).

    The pairs (α, σ) are those of `base`: a VP path stays VP, a flow stays a flow, for which this
    is the time shift s·t/(1 + (s−1)·t) with s = factor^(−½) (Esser et al. 2024; Hoogeboom et al.
    2023 shift by 2·log of a resolution ratio). Raises InvalidArgument for factor ≤ 0.
    """

    base: GaussianPath
    factor: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.factor) and self.factor > 0):
            raise InvalidArgument(f"SNR factor is {self.factor!r}; give a positive number")

    @property
    def independent(self) -> bool:
        return self.base.independent

    def _base_time(self, t: Tensor | float) -> Tensor:
        return self.base.time(self.base.log_snr(as_time(t)) + 0.5 * math.log(self.factor))

    def _clock_rate(self, t: Tensor | float) -> Tensor:
        # dτ/dt = λ̇(t)/λ̇(τ) with λ̇ = −W/(ασ), W = ασ̇ − σα̇; α_τ/σ_τ = √factor·α/σ keeps it
        # finite at both ends.
        t, b, k = as_time(t), self.base, math.sqrt(self.factor)
        tau = self._base_time(t)

        def wronskian(s: Tensor) -> Tensor:
            return b.alpha(s) * b.sigma_rate(s) - b.sigma(s) * b.alpha_rate(s)

        by_alpha = (b.alpha(tau) / b.alpha(t)) ** 2 / k
        by_sigma = (b.sigma(tau) / b.sigma(t)) ** 2 * k
        ratio = torch.where(b.alpha(t) > b.sigma(t), by_alpha, by_sigma)
        return wronskian(t) / wronskian(tau) * ratio

    def alpha(self, t: Tensor | float) -> Tensor:
        return self.base.alpha(self._base_time(t))

    def sigma(self, t: Tensor | float) -> Tensor:
        return self.base.sigma(self._base_time(t))

    def alpha_rate(self, t: Tensor | float) -> Tensor:
        return self.base.alpha_rate(self._base_time(t)) * self._clock_rate(t)

    def sigma_rate(self, t: Tensor | float) -> Tensor:
        return self.base.sigma_rate(self._base_time(t)) * self._clock_rate(t)

    def log_snr(self, t: Tensor | float) -> Tensor:
        return self.base.log_snr(t) + 0.5 * math.log(self.factor)

    def time(self, log_snr: Tensor | float) -> Tensor:
        return self.base.time(as_time(log_snr) - 0.5 * math.log(self.factor))


@dataclass(frozen=True)
class Restricted(GaussianPath):
    """The piece of `base` from time `first` to time `last`, its time stretched to [0, 1].

    Raises InvalidArgument unless 0 ≤ first < last ≤ 1.
    """

    base: GaussianPath
    first: float = 0.0
    last: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.first < self.last <= 1:
            raise InvalidArgument(
                f"path restricted to [{self.first!r}, {self.last!r}]; need 0 ≤ first < last ≤ 1"
            )

    @property
    def independent(self) -> bool:
        return self.base.independent

    def _base_time(self, t: Tensor | float) -> Tensor:
        return self.first + (self.last - self.first) * as_time(t)

    def alpha(self, t: Tensor | float) -> Tensor:
        return self.base.alpha(self._base_time(t))

    def sigma(self, t: Tensor | float) -> Tensor:
        return self.base.sigma(self._base_time(t))

    def alpha_rate(self, t: Tensor | float) -> Tensor:
        return (self.last - self.first) * self.base.alpha_rate(self._base_time(t))

    def sigma_rate(self, t: Tensor | float) -> Tensor:
        return (self.last - self.first) * self.base.sigma_rate(self._base_time(t))

    def log_snr(self, t: Tensor | float) -> Tensor:
        return self.base.log_snr(self._base_time(t))

    def time(self, log_snr: Tensor | float) -> Tensor:
        return (self.base.time(log_snr) - self.first) / (self.last - self.first)
