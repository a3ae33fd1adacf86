"""Discrete chains: q(x_n | x_{n−1}) = N(√(1−β_n)·x_{n−1}, β_n·I), n = 1..T (Ho et al. 2020)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ..errors import InvalidArgument, need_count
from ..randomness import moved
from .path import GaussianPath, as_time


@dataclass(frozen=True)
class Posterior:
    """q(x_m | x_n, x0) = N(on_x0·x0 + on_x·x_n, variance·I), m < n."""

    on_x0: float
    on_x: float
    variance: float


@dataclass(frozen=True)
class Chain:
    """A diffusion chain of T steps, given by β_1..β_T.

    ᾱ_n = Π_{i≤n}(1 − β_i), ᾱ_0 = 1; x_n = √ᾱ_n·x0 + √(1−ᾱ_n)·ε. Steps are counted n = 1..T; n = 0
    is the data. Raises InvalidArgument if a β is outside (0, 1], or is 1 before the last step.
    """

    betas: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(float(beta) for beta in self.betas))
        for n, beta in enumerate(self.betas, start=1):
            if not 0 < beta <= 1 or (beta == 1 and n < len(self.betas)):
                raise InvalidArgument(
                    f"beta of step {n} is {beta!r}; each must lie in (0, 1), the last in (0, 1]"
                )
        need_count("number of steps of the chain", len(self.betas))

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(self.betas)

    @staticmethod
    def linear(steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> Chain:
        """Return the chain with β evenly spaced from `first` to `last` (Ho et al. 2020)."""
        return Chain(tuple(np.linspace(first, last, need_count("steps", steps)).tolist()))

    @staticmethod
    def scaled_linear(steps: int = 1000, first: float = 0.00085, last: float = 0.012) -> Chain:
        """Return the chain with √β evenly spaced (latent diffusion, Rombach et al. 2022)."""
        roots = np.linspace(math.sqrt(first), math.sqrt(last), need_count("steps", steps))
        return Chain(tuple((roots**2).tolist()))

    @staticmethod
    def sigmoid(
        steps: int = 1000, first: float = 1e-4, last: float = 0.02, reach: float = 6.0
    ) -> Chain:
        """Return the chain with β along a logistic curve from `first` to `last`.

        The argument of the logistic function runs from −reach to reach.
        """
        s = 1 / (1 + np.exp(-np.linspace(-reach, reach, need_count("steps", steps))))
        return Chain(tuple((s * (last - first) + first).tolist()))

    @staticmethod
    def cosine(steps: int = 1000, offset: float = 0.008, clip: float = 0.999) -> Chain:
        """Return the cosine chain, β_n = min(1 − f(n/T)/f((n−1)/T), clip).

        f(t) = cos²(π/2·(t+s)/(1+s)), s = `offset` (Nichol & Dhariwal 2021, eq. 17).
        """
        t = np.arange(need_count("steps", steps) + 1) / steps
        f = np.sin(np.pi / 2 * (1 - t) / (1 + offset)) ** 2
        return Chain(tuple(np.minimum(1 - f[1:] / f[:-1], clip).tolist()))

    def with_zero_terminal_snr(self) -> Chain:
        """Return this chain with √ᾱ shifted and scaled so that ᾱ_T = 0 and ᾱ_1 is unchanged.

        Source: Lin et al. 2024, alg. 1.
        """
        root = np.sqrt(self._alpha_bar[1:])
        if len(root) < 2:
            raise InvalidArgument("zero terminal SNR needs a chain of at least 2 steps")
        root = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
        bar = np.concatenate([[1.0], root**2])
        return Chain(tuple((1 - bar[1:] / bar[:-1]).tolist()))

    @property
    def steps(self) -> int:
        """The number of steps T."""
        return len(self.betas)

    @cached_property
    def _alpha_bar(self) -> np.ndarray:
        return np.concatenate([[1.0], np.cumprod(1 - np.asarray(self.betas))])

    @cached_property
    def _one_minus(self) -> np.ndarray:
        # 1 − ᾱ without cancellation: 1 − ᾱ_n = (1 − ᾱ_{n−1}) + ᾱ_{n−1}·β_n
        added = self._alpha_bar[:-1] * np.asarray(self.betas)
        return np.concatenate([[0.0], np.cumsum(added)])

    def _step(self, n: int, least: int = 1) -> int:
        if isinstance(n, bool) or not isinstance(n, int) or not least <= n <= self.steps:
            raise InvalidArgument(f"step {n!r} of a chain; steps run from {least} to {self.steps}")
        return n

    def beta(self, n: int) -> float:
        """Return β_n, the variance added by step n."""
        return self.betas[self._step(n) - 1]

    def alpha(self, n: int) -> float:
        """Return 1 − β_n."""
        return 1 - self.beta(n)

    def alpha_bar(self, n: int) -> float:
        """Return ᾱ_n, the share of the data's variance left after n steps; ᾱ_0 = 1."""
        return float(self._alpha_bar[self._step(n, 0)])

    def beta_tilde(self, n: int) -> float:
        """Return β̃_n = (1 − ᾱ_{n−1})/(1 − ᾱ_n)·β_n, the posterior's variance; 0 at n = 1."""
        return float(self._one_minus[self._step(n) - 1] / self._one_minus[n] * self.beta(n))

    def posterior(self, n: int, m: int | None = None) -> Posterior:
        """Return q(x_m | x_n, x0), m = n − 1 unless given (Ho et al. 2020, eq. 7, for any m < n).

        mean = √ᾱ_m·β/(1−ᾱ_n)·x0 + √(1−β)·(1−ᾱ_m)/(1−ᾱ_n)·x_n with 1 − β = ᾱ_n/ᾱ_m.
        """
        m = self._step(n) - 1 if m is None else self._step(m, 0)
        if not m < self._step(n):
            raise InvalidArgument(f"posterior from step {n} to {m!r}; need 0 ≤ m < n")
        alpha = float(self._alpha_bar[n] / self._alpha_bar[m])
        gone_m, gone_n = float(self._one_minus[m]), float(self._one_minus[n])
        beta = self.beta(n) if m == n - 1 else (gone_n - alpha * gone_m)
        return Posterior(
            on_x0=math.sqrt(self.alpha_bar(m)) * beta / gone_n,
            on_x=math.sqrt(alpha) * gone_m / gone_n,
            variance=gone_m / gone_n * beta,
        )

    def as_path(self) -> ChainPath:
        """Return the chain as a path: n = t·T, exact at whole n."""
        return ChainPath(self)


@dataclass(frozen=True)
class ChainPath(GaussianPath):
    """A chain's marginals at t = n/T, joined in between at constant speed on the circle.

    (α, σ) = (cos φ, sin φ) with φ linear in t between whole steps: variance preserving
    everywhere, with finite rates even where ᾱ_T = 0.
    """

    chain: Chain

    @cached_property
    def _nodes(self) -> Tensor:
        c = self.chain
        return torch.from_numpy(np.arctan2(np.sqrt(c._one_minus), np.sqrt(c._alpha_bar)))

    @cached_property
    def _ends(self) -> Tensor:
        # the same angles measured from π/2, so that small α lose no digits
        c = self.chain
        return torch.from_numpy(np.arctan2(np.sqrt(c._alpha_bar), np.sqrt(c._one_minus)))

    def _locate(self, t: Tensor | float) -> tuple[Tensor, Tensor, Tensor]:
        position = as_time(t).double() * self.chain.steps
        near = position.round()
        position = torch.where((position - near).abs() <= 1e-12 * near, near, position)
        low = position.floor().clamp(0, self.chain.steps - 1)
        return low.long(), low.long() + 1, position - low

    def _between(self, nodes: Tensor, t: Tensor | float) -> Tensor:
        low, high, share = self._locate(t)
        nodes = moved(nodes, low.device)
        return torch.lerp(nodes[low], nodes[high], share)

    def _like(self, value: Tensor, t: Tensor | float) -> Tensor:
        t = as_time(t)
        return value.to(device=t.device, dtype=t.dtype)

    def alpha(self, t: Tensor | float) -> Tensor:
        return self._like(self._between(self._ends, t).sin(), t)

    def sigma(self, t: Tensor | float) -> Tensor:
        return self._like(self._between(self._nodes, t).sin(), t)

    def _speed(self, t: Tensor | float) -> Tensor:
        low, high, _ = self._locate(t)
        nodes = moved(self._nodes, low.device)
        return (nodes[high] - nodes[low]) * self.chain.steps

    def alpha_rate(self, t: Tensor | float) -> Tensor:
        return self._like(-self._between(self._nodes, t).sin() * self._speed(t), t)

    def sigma_rate(self, t: Tensor | float) -> Tensor:
        return self._like(self._between(self._ends, t).sin() * self._speed(t), t)

    def log_snr(self, t: Tensor | float) -> Tensor:
        alpha, sigma = self._between(self._ends, t).sin(), self._between(self._nodes, t).sin()
        return self._like(alpha.log() - sigma.log(), t)

    def time(self, log_snr: Tensor | float) -> Tensor:
        given = as_time(log_snr).double().cpu()
        phi = torch.atan((-given.abs()).exp())  # the smaller of the angle and its complement
        by_noise = _interpolate(phi, self._nodes)
        by_signal = self.chain.steps - _interpolate(phi, self._ends.flip(0))
        return self._like(torch.where(given >= 0, by_noise, by_signal) / self.chain.steps, log_snr)


def _interpolate(value: Tensor, nodes: Tensor) -> Tensor:
    """Return the fractional index at which increasing `nodes`, joined by lines, have `value`."""
    high = torch.searchsorted(nodes, value.contiguous()).clamp(1, len(nodes) - 1)
    low_value = nodes[high - 1]
    return (high - 1) + (value - low_value) / (nodes[high] - low_value)
