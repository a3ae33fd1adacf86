"""Stochastic interpolants: bridges between two data sets, with noise in between."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import InvalidArgument, Unsupported, unknown
from ..fields.field import Conditions
from ..paths import Flow, GaussianPath, as_time, expand


def _root(t: Tensor) -> Tensor:
    return (t * (1 - t)).sqrt()


def _bump(t: Tensor) -> Tensor:
    return torch.sin(math.pi * torch.minimum(t, 1 - t))


# name: γ and its rate at scale 1
LATENTS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "none": (torch.zeros_like, torch.zeros_like),
    "root": (_root, lambda t: (1 - 2 * t) / (2 * _root(t))),  # a Brownian bridge's deviation
    "quadratic": (lambda t: t * (1 - t), lambda t: 1 - 2 * t),
    "sine": (lambda t: _bump(t) ** 2, lambda t: math.pi * torch.sin(2 * math.pi * t)),
}


@dataclass(frozen=True)
class Interpolant:
    """x_t = α(t)·x0 + β(t)·x1 + γ(t)·z, z ~ N(0, I) independent of the pair (x0, x1).

    x0 is data (t = 0), x1 a sample of the source (t = 1), of any distribution and coupling. α and
    β are α and σ of `path`; γ = scale·{root: √(t(1−t)), quadratic: t(1−t), sine: sin²(πt), none:
    0}, zero at both ends. Raises InvalidArgument for an unknown latent or a scale that is not
    positive, Unsupported for a path that does not run from x0 alone to x1 alone.
    Source: Albergo, Boffi & Vanden-Eijnden 2023, section 2 (there x0 is the source, t runs the
    other way).
    """

    path: GaussianPath = field(default_factory=Flow)
    latent: str = "quadratic"
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.latent not in LATENTS:
            raise unknown("latent", self.latent, LATENTS)
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise InvalidArgument(f"latent scale is {self.scale!r}; give a positive number")
        ends = [float(f(t)) for f in (self.path.alpha, self.path.sigma) for t in (0.0, 1.0)]
        if ends != [1.0, 0.0, 0.0, 1.0]:
            raise Unsupported(
                f"{self.path} runs from {ends[0]:g}·x0 + {ends[2]:g}·x1 to {ends[1]:g}·x0 + "
                f"{ends[3]:g}·x1; an interpolant ends at x0 and at x1 alone: use Flow or "
                "Trigonometric"
            )

    def alpha(self, t: Tensor | float) -> Tensor:
        """Return the scale of the data x0."""
        return self.path.alpha(t)

    def beta(self, t: Tensor | float) -> Tensor:
        """Return the scale of the source x1."""
        return self.path.sigma(t)

    def gamma(self, t: Tensor | float) -> Tensor:
        """Return the scale of the latent noise z."""
        return self.scale * LATENTS[self.latent][0](as_time(t))

    def alpha_rate(self, t: Tensor | float) -> Tensor:
        """Return dα/dt."""
        return self.path.alpha_rate(t)

    def beta_rate(self, t: Tensor | float) -> Tensor:
        """Return dβ/dt."""
        return self.path.sigma_rate(t)

    def gamma_rate(self, t: Tensor | float) -> Tensor:
        """Return dγ/dt; infinite at both ends of a root."""
        return self.scale * LATENTS[self.latent][1](as_time(t))

    def between(self, x0: Tensor, x1: Tensor, z: Tensor, t: Tensor | float) -> Tensor:
        """Return x_t. x0, x1, z: (batch, *event); t: () or (batch,)."""
        a, b, g = (expand(c(as_time(t)), x0) for c in (self.alpha, self.beta, self.gamma))
        return a * x0 + b * x1 + g * z

    def drift(self, x0: Tensor, x1: Tensor, t: Tensor | float) -> Tensor:
        """Return α̇·x0 + β̇·x1, the rate of x_t at fixed z."""
        a, b = (expand(c(as_time(t)), x0) for c in (self.alpha_rate, self.beta_rate))
        return a * x0 + b * x1


class Bridge:
    """The prediction of a field at (x_t, t) of an interpolant: two conditional means.

    drift: E[α̇·x0 + β̇·x1 | x_t]; z: E[z | x_t]; each (batch, *event). nfe: network evaluations per
    sample.
    """

    __slots__ = ("drift", "interpolant", "nfe", "t", "x_t", "z")

    def __init__(
        self,
        x_t: Tensor,
        t: Tensor,
        interpolant: Interpolant,
        drift: Tensor,
        z: Tensor,
        nfe: int = 1,
    ) -> None:
        self.x_t, self.t, self.interpolant = x_t, as_time(t), interpolant
        self.drift, self.z, self.nfe = drift, z, nfe

    def _scaled(self, factor: Tensor, what: str) -> Tensor:
        if not bool(torch.isfinite(factor).all()):
            raise Unsupported(
                f"the {what} at t = {self.t.flatten()[:1].item():g} of {self.interpolant}: its "
                "coefficient on E[z|x] is infinite there; stop short of that end, or choose the "
                "latent 'quadratic' or 'sine'"
            )
        return expand(factor, self.x_t) * self.z

    @property
    def velocity(self) -> Tensor:
        """dx/dt of the flow with these marginals: E[α̇·x0 + β̇·x1 + γ̇·z | x_t]."""
        if self.interpolant.latent == "none":
            return self.drift
        return self.drift + self._scaled(self.interpolant.gamma_rate(self.t), "velocity")

    @property
    def score(self) -> Tensor:
        """∇ log p_t(x_t) = −E[z|x_t]/γ; raises Unsupported where γ = 0."""
        return self._scaled(-1 / self.interpolant.gamma(self.t), "score")


class BridgeField(ABC):
    """A function that returns a Bridge at any (x_t, t) of an interpolant."""

    interpolant: Interpolant

    @abstractmethod
    def __call__(self, x_t: Tensor, t: Tensor, condition: Conditions = None) -> Bridge:
        """Return the Bridge at x_t: (batch, *event), t: () or (batch,)."""
