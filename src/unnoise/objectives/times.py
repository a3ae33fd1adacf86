"""Distributions of training times, each the quantile function of one uniform number."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InvalidArgument, need_count
from ..paths import ChainPath, GaussianPath, grids
from ..randomness import Streams


@dataclass(frozen=True)
class TimeDistribution(ABC):
    """A distribution of times in (0, 1]; `OneLevel(0)` alone is at t = 0.

    With `stratified`, sample i of a batch of B draws its uniform from [i/B, (i+1)/B): the same
    distribution, with less variance of the batch's mean loss. B is the whole batch, also if
    processes or accumulation take it in parts.
    """

    stratified: bool = False

    def sample(
        self, path: GaussianPath, noise: Streams, start: int = 0, whole: int | None = None
    ) -> Tensor:
        """Draw one time a sample: (batch,) float64.

        Samples that are a part of a batch of `whole`, from its position `start` on, take their
        strata of the whole batch, as `Batch.place` gives them.
        """
        u = noise.uniform().double()
        if self.stratified:
            strata = torch.arange(start, start + len(u), dtype=torch.float64)
            u = (strata + u) / (len(u) if whole is None else whole)
        return self.quantile(path, 1 - u)  # u in (0, 1]: t = 0 is never drawn

    @abstractmethod
    def quantile(self, path: GaussianPath, u: Tensor) -> Tensor:
        """Return the time below which a share u of the distribution lies."""


@dataclass(frozen=True)
class Uniform(TimeDistribution):
    """t uniform in (0, 1]."""

    def quantile(self, path: GaussianPath, u: Tensor) -> Tensor:
        return u


@dataclass(frozen=True)
class LogNormal(TimeDistribution):
    """log(σ/α) ~ N(mean, std²), truncated to the path's range (Karras et al. 2022: −1.2, 1.2)."""

    mean: float = -1.2
    std: float = 1.2

    def __post_init__(self) -> None:
        _check(self.mean, self.std)

    def quantile(self, path: GaussianPath, u: Tensor) -> Tensor:
        low, high = (-lam for lam in reversed(path.log_snr_range()))
        bounds = torch.tensor([low, high], dtype=torch.float64)
        a, b = torch.special.ndtr((bounds - self.mean) / self.std).tolist()
        z = torch.special.ndtri((a + (b - a) * u).clamp(1e-300, 1 - 1e-16))
        log_sigma = (self.mean + self.std * z).clamp(low, high)
        return path.time(-log_sigma).clamp(min=torch.finfo(torch.float64).tiny, max=1.0)


@dataclass(frozen=True)
class LogitNormal(TimeDistribution):
    """logit(t) ~ N(mean, std²) (Esser et al. 2024)."""

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        _check(self.mean, self.std)

    def quantile(self, path: GaussianPath, u: Tensor) -> Tensor:
        z = torch.special.ndtri(u.clamp(max=1 - 1e-16))
        return torch.sigmoid(self.mean + self.std * z)


@dataclass(frozen=True)
class OnChain(TimeDistribution):
    """t = n/T, n uniform on the steps 1..T of a chain."""

    def quantile(self, path: GaussianPath, u: Tensor) -> Tensor:
        if not isinstance(path, ChainPath):
            raise InvalidArgument(
                f"times on a chain, and {path} is none; use uniform times, or a chain's path"
            )
        return (u * path.chain.steps).ceil().clamp(min=1) / path.chain.steps


@dataclass(frozen=True)
class Ladder(TimeDistribution):
    """Noise levels σ/α in geometric progression, each as likely as the others (Song & Ermon 2019).

    levels: number of levels, 2 at least; None is the continuous ladder, log(σ/α) uniform. From
    `sigma_max` down to `sigma_min`, by default the path's own ends (80 and 0.002 if those are
    infinite and zero, as in `grids.spaced`). `quantile` raises InvalidArgument for limits that the
    path does not reach.
    """

    levels: int | None = 10
    sigma_min: float | None = None
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        if self.levels is not None:
            need_count("levels", self.levels, 2)

    def quantile(self, path: GaussianPath, u: Tensor) -> Tensor:
        limits = grids.level_limits(path, sigma_min=self.sigma_min, sigma_max=self.sigma_max)
        low, high = (math.log(sigma) for sigma in limits)
        if self.levels is not None:
            u = ((u * self.levels).ceil().clamp(min=1) - 1) / (self.levels - 1)
        time = path.time(-(low + (high - low) * u))
        return time.clamp(min=torch.finfo(torch.float64).tiny, max=1.0)


@dataclass(frozen=True)
class OneLevel(TimeDistribution):
    """Always the time at which σ/α = `sigma`; 0 is the data itself, on paths that reach it.

    Raises InvalidArgument for a sigma that is negative or that the path does not reach.
    """

    sigma: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.sigma) and self.sigma >= 0):
            raise InvalidArgument(f"noise level is {self.sigma!r}; give a number ≥ 0")

    def quantile(self, path: GaussianPath, u: Tensor) -> Tensor:
        low, high = (math.exp(-lam) for lam in reversed(path.log_snr_range()))
        if not low * (1 - 1e-9) <= self.sigma <= high * (1 + 1e-9):
            raise InvalidArgument(
                f"noise level σ/α = {self.sigma!r} on {path}, which reaches from {low:.6g} to "
                f"{high:.6g}; give a level between, or another path"
            )
        if self.sigma == 0:
            return torch.zeros_like(u)
        return path.time(torch.full_like(u, -math.log(self.sigma))).clamp(0, 1)


def _check(mean: float, std: float) -> None:
    if not (math.isfinite(mean) and math.isfinite(std) and std > 0):
        raise InvalidArgument(f"mean {mean!r} and std {std!r}; give a finite mean, a positive std")


TIMES: dict[str, type[TimeDistribution]] = {
    "uniform": Uniform,
    "log_normal": LogNormal,
    "logit_normal": LogitNormal,
    "chain": OnChain,
    "ladder": Ladder,
    "one_level": OneLevel,
}
