"""The equations that a field's densities obey, as numbers that must be zero.

For x_t = α·x0 + σ·ε with the SDE dx = f·x dt + g dw, everything divided by p_t, so that it is
finite where p_t underflows:

    Fokker–Planck          ∂t log p = −f·d − f·x·∇log p + ½g²(Δlog p + ‖∇log p‖²)
    continuity             ∂t log p = −∇·u − u·∇log p                u the probability-flow velocity
    reverse SDE, any η     ∂t log p = −∇·b − b·∇log p − ½η²g²(Δlog p + ‖∇log p‖²)
                           b = f·x − ½(1+η²)·g²·score

The left sides, ∇log p and Δlog p come from `log_density` by automatic differentiation (∂t through
α(t) and σ(t)); u and the score from the field's own predictions, f and g from the path: a wrong
rate, drift, diffusion, lens or score leaves a residual. Sources: Song et al. 2021, app. A, D;
Anderson 1982.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InvalidArgument, Unsupported
from ..paths import as_time, expand
from .derivatives import basis, products_of
from .field import Field


@dataclass(frozen=True)
class Residual:
    """The residual of an equation at each point.

    value: (batch,), 1/time; size: the sum of the absolute values of its terms.
    """

    value: Tensor
    size: Tensor

    @property
    def relative(self) -> Tensor:
        """|value|/size, (batch,): rounding if the equation holds, of order 1 if it fails."""
        return self.value.abs() / self.size.clamp(min=torch.finfo(self.size.dtype).tiny)


@dataclass(frozen=True)
class _Point:
    """log p_t at points, and its derivatives."""

    x: Tensor
    t: Tensor
    rate: Tensor
    gradient: Tensor
    laplacian: Tensor


def fokker_planck(field: Field, x: Tensor, t: Tensor | float) -> Residual:
    """Return the residual of `field.log_density` in the forward equation of its path's SDE.

    x: (batch, *event), float64; t: () or (batch,). `log_density` must be normalised at every t.
    Costs one backward pass a dimension. Raises Unsupported for a field without `log_density`,
    InvalidArgument for points not in float64.
    """
    at = _look(field, x, t)
    f, g = field.path.drift(at.t), field.path.diffusion(at.t)
    size = x[0].numel()
    return _balance(
        at.rate,
        f * size,
        f * _dot(at.x, at.gradient),
        -0.5 * g**2 * at.laplacian,
        -0.5 * g**2 * _dot(at.gradient, at.gradient),
    )


def continuity(field: Field, x: Tensor, t: Tensor | float) -> Residual:
    """Return the residual of the field's velocity in the continuity equation of its densities.

    It is zero if the probability-flow ODE carries the densities. Arguments, cost and errors as
    `fokker_planck`.
    """
    at = _look(field, x, t)
    return _carried(at, lambda y: field(y, at.t).velocity)


def reverse_sde(field: Field, x: Tensor, t: Tensor | float, eta: float = 1.0) -> Residual:
    """Return the residual of the reverse SDE with this η in the equation of the field's densities.

    dx = [f·x − ½(1+η²)g²·score]dt + η·g·dw̄: η = 1 is Anderson's reverse SDE, 0 the probability
    flow, and every η has the same marginals. Arguments, cost and errors as `fokker_planck`;
    InvalidArgument for η < 0.
    """
    if not 0 <= eta < float("inf"):
        raise InvalidArgument(f"eta is {eta!r}; give a number ≥ 0")
    at = _look(field, x, t)
    f, g = field.path.drift(at.t), field.path.diffusion(at.t)

    def drift(y: Tensor) -> Tensor:
        score = field(y, at.t).score
        return expand(f, y) * y - expand(0.5 * (1 + eta**2) * g**2, y) * score

    spread = 0.5 * eta**2 * g**2
    return _carried(at, drift, spread * at.laplacian, spread * _dot(at.gradient, at.gradient))


def _carried(at: _Point, drift: Callable[[Tensor], Tensor], *more: Tensor) -> Residual:
    with torch.enable_grad():
        y = at.x.requires_grad_()
        value = drift(y)
        divergence = _trace(value, y)
    return _balance(at.rate, divergence, _dot(value.detach(), at.gradient), *more)


def _balance(*terms: Tensor) -> Residual:
    shape = terms[0].shape
    stacked = torch.stack([term.detach().expand(shape) for term in terms])
    return Residual(stacked.sum(0), stacked.abs().sum(0))


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a.detach() * b).flatten(1).sum(1)


def _trace(vector: Tensor, x: Tensor) -> Tensor:
    """Return Σᵢ ∂vectorᵢ/∂xᵢ, (batch,), by one backward pass a dimension."""
    return products_of(vector, x, basis(x)).sum(0).detach()


def _look(field: Field, x: Tensor, t: Tensor | float) -> _Point:
    log_density = getattr(field, "log_density", None)
    if log_density is None:
        raise Unsupported(
            f"{type(field).__name__} has no log_density; its densities can only be checked on "
            "fields that know them (Gaussian, Mixture, FiniteData)"
        )
    if x.dtype != torch.float64 or x.ndim < 2:
        raise InvalidArgument(
            f"points of shape {tuple(x.shape)} in {x.dtype}; give (batch, *event) in float64: "
            "second derivatives lose half of the digits"
        )
    with torch.enable_grad():
        times = as_time(t).double().detach().expand(len(x)).clone().requires_grad_()
        y = x.detach().clone().requires_grad_()
        gradient, rate = torch.autograd.grad(
            log_density(y, times).sum(), (y, times), create_graph=True
        )
        laplacian = _trace(gradient, y)
    return _Point(x.detach(), times.detach(), rate.detach(), gradient.detach(), laplacian)
