"""Integrals over the real line: Gauss–Legendre on panels that are halved where two rules differ."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..errors import InvalidArgument, NonFinite

_COARSE, _FINE, _PANELS, _ROUNDS = 16, 32, 48, 40


def _rule(count: int) -> tuple[Tensor, Tensor]:
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return torch.from_numpy(nodes), torch.from_numpy(weights)


_RULES = (_rule(_FINE), _rule(_COARSE))


def _line(low: float, high: float) -> tuple[float, float, Callable[[Tensor], tuple]]:
    """Return (first, last, u → (x, dx/du)): a bounded variable for any limits."""
    if math.isfinite(low) and math.isfinite(high):
        return low, high, lambda u: (u, torch.ones_like(u))
    if math.isfinite(low) or math.isfinite(high):
        foot, sign = (low, 1.0) if math.isfinite(low) else (high, -1.0)
        ends = (0.0, 1.0) if sign > 0 else (-1.0, 0.0)
        return *ends, lambda u: (foot + u / (1 - u.abs()), (1 - u.abs()) ** -2)
    return -1.0, 1.0, lambda u: (u / (1 - u**2), (1 + u**2) / (1 - u**2) ** 2)


def integrate(
    function: Callable[[Tensor], Tensor],
    low: float = -math.inf,
    high: float = math.inf,
    tolerance: float = 1e-10,
) -> tuple[Tensor, Tensor]:
    """Return ∫ function from low to high, and its error; several integrals at once.

    function: x (n,) float64 → (n,) or (n, k). The error is the summed difference of rules with 32
    and 16 points a panel (the value is the finer one's: the truth is usually far closer), at most
    `tolerance`, absolute, or relative if the integral is above 1. An infinite integrand gives an
    infinite integral, with error 0. Raises InvalidArgument for limits in the wrong order, NonFinite
    for NaN or a tolerance out of reach.
    """
    if not low < high:
        raise InvalidArgument(f"integration from {low!r} to {high!r}; give low < high")
    if not tolerance > 0:
        raise InvalidArgument(f"tolerance is {tolerance!r}; give a positive number")
    first, last, place = _line(float(low), float(high))
    edges = torch.linspace(first, last, _PANELS + 1, dtype=torch.float64)
    left, right = edges[:-1], edges[1:]
    total = error = torch.zeros((), dtype=torch.float64)
    for _ in range(_ROUNDS):
        fine, coarse = (_panels(function, place, left, right, *rule) for rule in _RULES)
        if bool(torch.isnan(fine).any()):
            raise NonFinite("the integrand is not a number somewhere; give narrower limits")
        if bool(torch.isinf(fine).any()):
            infinite = torch.where(torch.isinf(fine).any(0), math.inf, 0.0)
            return infinite + total, torch.zeros_like(infinite)
        gap = (fine - coarse).abs()
        scale = (total + fine.sum(0)).abs().clamp(min=1.0)
        allowed = tolerance * scale * ((right - left) / (last - first))[:, None]
        done = (gap <= allowed).all(1)
        if bool((error + gap.sum(0) <= tolerance * scale).all()):  # at jumps only the sum converges
            done = torch.ones_like(done)
        total, error = total + fine[done].sum(0), error + gap[done].sum(0)
        if bool(done.all()):
            return total, error
        left, right = left[~done], right[~done]
        middle = (left + right) / 2
        left, right = torch.cat([left, middle]), torch.cat([middle, right])
        if len(left) > 100_000:
            break
    raise NonFinite(
        f"the integral did not settle to {tolerance:g} on [{low:g}, {high:g}]; give limits that "
        "hold the mass, or a larger tolerance"
    )


def _panels(
    function: Callable, place: Callable, left: Tensor, right: Tensor, nodes: Tensor, weights: Tensor
) -> Tensor:
    """Return the integral over every panel, (panels, k)."""
    half = (right - left)[:, None] / 2
    u = left[:, None] + half * (1 + nodes)
    x, stretch = place(u.flatten())
    values = function(x)
    values = values.reshape(*u.shape, -1)
    factor = (half * weights * stretch.reshape(u.shape))[..., None]
    # past the last float the integrand is 0 and the stretch is not finite
    return torch.where(values == 0, torch.zeros_like(values), values * factor).sum(1)


def fixed_rule(low: float, high: float, panels: int = 128) -> tuple[Tensor, Tensor]:
    """Return points and weights of the whole line: even panels between the limits, tails beyond."""
    nodes, weights = _rule(_COARSE)
    points, shares = [], []
    for first, last, count in ((-math.inf, low, 32), (low, high, panels), (high, math.inf, 32)):
        left, right, place = _line(first, last)
        edges = torch.linspace(left, right, count + 1, dtype=torch.float64)
        half = (edges[1:] - edges[:-1])[:, None] / 2
        x, stretch = place((edges[:-1, None] + half * (1 + nodes)).flatten())
        points.append(x)
        shares.append((half * weights).flatten() * stretch)
    return torch.cat(points), torch.cat(shares)
