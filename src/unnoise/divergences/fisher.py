"""The Fisher divergence: the mean squared distance of two scores."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import InvalidArgument
from .normal import Normal
from .quadrature import integrate
from .value import Density, Estimate, monte_carlo


def score_of(density: Density, x: Tensor) -> Tensor:
    """Return ∇ log p at points x (n, *event), by automatic differentiation."""
    at = x.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(density(at).sum(), at)
    return gradient


def fisher(
    p: Density,
    q: Density,
    low: float | None = None,
    high: float | None = None,
    from_p: Tensor | None = None,
) -> Estimate:
    """Return E_p‖∇log p − ∇log q‖², twice the objective of score matching.

    p, q: `Normal`s or log-densities of points (n, *event). With samples `from_p` a Monte Carlo
    mean; with two Normals and no limits the closed form tr((Q−P)Σ_p(Q−P)) + ‖Q(m_p − m_q)‖², P
    and Q the precisions; else quadrature over the real line. Unlike an f-divergence it does not
    depend on how much mass lies in each of several modes far apart. Raises InvalidArgument for
    limits and samples together. Source: Hyvärinen 2005; Lyu 2009.
    """
    limits = low is not None or high is not None
    if from_p is not None:
        if limits:
            raise InvalidArgument("limits are for quadrature, samples for Monte Carlo; give one")
        gap = score_of(p, from_p).double() - score_of(q, from_p).double()
        return monte_carlo([(gap**2).flatten(1).sum(1)])
    if isinstance(p, Normal) and isinstance(q, Normal) and not limits:
        own, other = (torch.cholesky_inverse(law._factor()) for law in (p, q))
        bend = other - own
        drift = other @ (p.mean - q.mean)
        value = float((bend @ p.covariance @ bend).trace() + (drift**2).sum())
        return Estimate(value, 0.0, "closed form")
    if isinstance(p, Normal) and p.dimensions > 1:
        raise InvalidArgument(
            f"the Fisher divergence in {p.dimensions} dimensions is no quadrature; give samples "
            "from_p"
        )

    def values(x: Tensor) -> Tensor:
        at = x[:, None]
        gap = (score_of(p, at) - score_of(q, at)).flatten().double()
        weight = p(at).double().exp()
        return torch.where(weight == 0, torch.zeros_like(weight), weight * gap**2)

    total, error = integrate(
        values, -math.inf if low is None else low, math.inf if high is None else high
    )
    return Estimate(float(total), float(error), "quadrature")
