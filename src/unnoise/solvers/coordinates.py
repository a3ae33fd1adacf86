"""Coordinates in which the probability flow is integrated: d(x/s)/dc = k, c and s by name.

t, log_snr   s = 1, k = velocity/ċ: the plain ODE
sigma        s = α, c = σ/α, k = ε (Karras et al. 2022)
signal       s = σ, c = −α/σ, k = −x0
flow         s = α + σ, c = σ/(α + σ), k = ε − x0: rectified flow's own time
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..fields.lenses import conversion
from ..paths import GaussianPath

COORDINATES = ("t", "log_snr", "sigma", "signal", "flow")
_DIRECTIONS = {"sigma": (0.0, 1.0), "signal": (1.0, 0.0), "flow": (1.0, 1.0)}


def places(path: GaussianPath, coordinate: str, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return (c, s) at times t."""
    if coordinate in ("t", "log_snr"):
        return (t if coordinate == "t" else path.log_snr(t)), torch.ones_like(t)
    alpha, sigma = path.alpha(t), path.sigma(t)
    c = {"sigma": sigma / alpha, "signal": -alpha / sigma, "flow": sigma / (alpha + sigma)}
    p, q = _DIRECTIONS[coordinate]
    return c[coordinate], p * sigma + q * alpha


def times(path: GaussianPath, coordinate: str, c: Tensor) -> Tensor:
    """Return the times at which the coordinate is c."""
    if coordinate == "t":
        return c
    log_snr = {
        "log_snr": lambda: c,
        "sigma": lambda: -c.log(),
        "signal": lambda: (-c).log(),
        "flow": lambda: torch.log1p(-c) - c.log(),
    }[coordinate]()
    return path.time(log_snr)


def rates(path: GaussianPath, coordinate: str, lens: str, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return (on_x, on_value) at times t: k = on_x·x + on_value·value for a value in `lens`."""
    if coordinate in ("t", "log_snr"):
        on_x, on_value = conversion(path, lens, "velocity", t)
        speed = torch.ones_like(t) if coordinate == "t" else path.log_snr_rate(t)
        return on_x / speed, on_value / speed
    p, q = _DIRECTIONS[coordinate]
    on_x, on_value = torch.zeros_like(t), torch.zeros_like(t)
    for weight, name in ((q, "eps"), (-p, "x0")):
        if weight:
            row = conversion(path, lens, name, t)
            on_x, on_value = on_x + weight * row[0], on_value + weight * row[1]
    return on_x, on_value
