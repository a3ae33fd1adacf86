"""Which times a batch is trained at: each distribution is the quantile function of one uniform."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InvalidArgument
from ..paths import ChainPath, GaussianPath
from ..randomness import Streams


@dataclass(frozen=True)
class Times(ABC):
    """A distribution of times in (0, 1].

    With `stratified`, sample i of a batch of B draws its uniform from [i/B, (i+1)/B): the same
    distribution, with less variance of the batch's mean loss.
    """

    stratified: bool = False

    def sample(self, path: GaussianPath, noise: Streams) -> Tensor:
        """One time a sample: (batch,) float64."""
        u = noise.uniform().double()
        if self.stratified:
            u = (torch.arange(len(u), dtype=torch.float64) + u) / len(u)
        return self.quantile(path, 1 - u)  # u in (0, 1]: t = 0 is never drawn

    @abstractmethod
    def quantile(self, path: GaussianPath, u: Tensor) -> Tensor:
        """The time below which a share u of the distribution lies."""


@dataclass(frozen=True)
class Uniform(Times):
    """t uniform in (0, 1]."""

    def quantile(self, path: GaussianPath, u: Tensor) -> Tensor:
        return u


@dataclass(frozen=True)
class LogNormal(Times):
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
class LogitNormal(Times):
    """logit(t) ~ N(mean, std²) (Esser et al. 2024)."""

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        _check(self.mean, self.std)

    def quantile(self, path: GaussianPath, u: Tensor) -> Tensor:
        z = torch.special.ndtri(u.clamp(max=1 - 1e-16))
        return torch.sigmoid(self.mean + self.std * z)


@dataclass(frozen=True)
class OnChain(Times):
    """t = n/T, n uniform on the steps 1..T of a chain."""

    def quantile(self, path: GaussianPath, u: Tensor) -> Tensor:
        if not isinstance(path, ChainPath):
            raise InvalidArgument(
                f"times on a chain, and {path} is none; use uniform times, or a chain's path"
            )
        return (u * path.chain.steps).ceil().clamp(min=1) / path.chain.steps


def _check(mean: float, std: float) -> None:
    if not (math.isfinite(mean) and math.isfinite(std) and std > 0):
        raise InvalidArgument(f"mean {mean!r} and std {std!r}; give a finite mean, a positive std")


TIMES: dict[str, type[Times]] = {
    "uniform": Uniform,
    "log_normal": LogNormal,
    "logit_normal": LogitNormal,
    "chain": OnChain,
}
