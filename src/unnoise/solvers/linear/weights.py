"""The one multistep formula, as numbers: weights of a step from time 0 to time 1.

With a direction (p : q), s = p·σ + q·α and g = q·ε − p·x0, the step

    x₁ = (s₁/s₀)·x + ((σ₁α₀ − α₁σ₀)/s₀) · Σ ŵⱼ gⱼ,   Σ ŵⱼ = 1,

is exact for constant g. ŵ integrates the Lagrange polynomial through the g's, in a chosen
coordinate, against dr = dφ/(p·sin φ + q·cos φ)², tan φ = σ/α. Everything here is float64 numpy.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from ...paths import GaussianPath

Array = np.ndarray
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(40)


def _angle(log_snr: Array) -> Array:
    return np.arctan2(np.exp(-np.maximum(log_snr, 0)), np.exp(np.minimum(log_snr, 0)))


def time_of(path: GaussianPath, log_snr: Array) -> Array:
    """Return path.time of numpy arrays."""
    return path.time(torch.from_numpy(np.asarray(log_snr, dtype=np.float64))).numpy()


# a coordinate as a function of (path, λ); each is monotone in λ
COORDINATES: dict[str, Callable[[GaussianPath, Array], Array]] = {
    "log_snr": lambda path, lam: lam,
    "t": time_of,
    "sigma": lambda path, lam: np.exp(-lam),  # σ/α
    "flow": lambda path, lam: np.exp(-np.logaddexp(0, lam)),  # σ/(σ + α)
    "angle": lambda path, lam: _angle(lam),
}

# the λ at which a coordinate has a value
LOG_SNRS: dict[str, Callable[[GaussianPath, float], float]] = {
    "log_snr": lambda path, c: c,
    "t": lambda path, c: float(path.log_snr(c)),
    "sigma": lambda path, c: -math.log(c),
    "flow": lambda path, c: math.log1p(-c) - math.log(c),
    "angle": lambda path, c: -math.log(math.tan(c)),
}


def measure(lam0: float, lam1: float, p: float, q: float, stretch: float) -> tuple[Array, Array]:
    """Return Gauss–Legendre points (as λ) of the step and their share of ∫dr.

    `stretch` ≥ 1 is a stochastic step's: λ goes from λ0 to λ1, and the measure on to
    λ0 + stretch·(λ1 − λ0), direction (1:0).
    """
    if math.isfinite(lam0) and math.isfinite(lam1):
        lam = lam0 + (lam1 - lam0) * (1 + _NODES) / 2
        if stretch == 1:
            phi = _angle(lam)
            with np.errstate(divide="ignore"):
                # cosφ·sinφ/(p·sinφ + q·cosφ)²
                density = 1 / (p**2 * np.tan(phi) + q**2 / np.tan(phi) + 2 * p * q)
        else:
            density = np.exp(stretch * (lam - lam1))
    else:
        phi0, phi1 = _angle(np.array([lam0, lam1]))
        phi = phi0 + (phi1 - phi0) * (1 + _NODES) / 2
        lam = -np.log(np.tan(phi))
        density = 1 / (p * np.sin(phi) + q * np.cos(phi)) ** 2
    weights = _WEIGHTS * density
    return lam, weights / weights.sum()


def lagrange(points: Array, at: Array) -> Array:
    """Return ℓⱼ(at): (len(points), len(at))."""
    out = np.ones((len(points), len(at)))
    for j, own in enumerate(points):
        for k, other in enumerate(points):
            if k != j:
                out[j] *= (at - other) / (own - other)
    return out


def step_weights(
    path: GaussianPath,
    coordinate: str,
    nodes: list[float],
    target: float,
    direction: tuple[float, float],
    rule: str,
    stretch: float = 1.0,
) -> list[float]:
    """Return ŵ, of sum 1, for g's at log-SNRs `nodes` (the first is where the step starts).

    Nodes whose coordinate is infinite get weight 0; where that of the start or of the target is,
    only the start counts (a step of order 1).
    """
    weights = [1.0] + [0.0] * (len(nodes) - 1)
    with np.errstate(over="ignore", divide="ignore"):
        place = COORDINATES[coordinate](path, np.array([*nodes, target]))
    if len(nodes) == 1 or not (np.isfinite(place[0]) and np.isfinite(place[-1])):
        return weights
    kept = [j for j in range(len(nodes)) if np.isfinite(place[j])]
    lam, share = measure(nodes[0], target, *direction, stretch)
    published = RULES[rule](place[kept], place[-1], lam, share, direction)
    if published is None:
        published = (lagrange(place[kept], COORDINATES[coordinate](path, lam)) @ share).tolist()
    for j, weight in zip(kept, published, strict=True):
        weights[j] = weight
    return weights


def _two_points(place: Array, target: float, slope_share: float) -> list[float]:
    ratio = (place[1] - place[0]) / (target - place[0])
    return [1 - slope_share / ratio, slope_share / ratio]


def _midpoint(place: Array, target: float, lam: Array, share: Array, direction) -> list | None:
    """Return DPM-Solver's and DPM-Solver++'s second order: the slope times ½, whatever h."""
    return _two_points(place, target, 0.5) if len(place) == 2 else None


def _bh1(place: Array, target: float, lam: Array, share: Array, direction) -> list | None:
    """Return UniPC's B(h) = h for two points: half of h/(e^h − 1) (Zhao et al. 2023)."""
    if len(place) != 2:
        return None
    h = (target - place[0]) * (-1 if direction[0] else 1)
    return _two_points(place, target, 0.5 * h / math.expm1(h))


def _half_curvature(
    place: Array, target: float, lam: Array, share: Array, direction
) -> list | None:
    """Return the published third-order DPM-Solver++'s: half of the integral's curvature term."""
    if len(place) == 2:
        return _two_points(place, target, 0.5)
    if len(place) != 3:
        return None
    theta = (lam - place[0]) / (target - place[0])
    slope, curvature = float(theta @ share), float(theta**2 @ share)
    a, b = (place[1:] - place[0]) / (target - place[0])  # both negative, b < a
    # divided differences of (0, g0), (a, g1), (b, g2)
    second = np.array([1 / (a * b), 1 / (a * (a - b)), 1 / (b * (b - a))])
    first = np.array([-1 / a, 1 / a, 0.0]) - a * second
    return (np.array([1.0, 0, 0]) + slope * first + 0.5 * curvature * second).tolist()


def _half_curvature_only(
    place: Array, target: float, lam: Array, share: Array, direction
) -> list | None:
    """Return k-diffusion's dpmpp_3m_sde: the curvature halved, two points by their integral."""
    return _half_curvature(place, target, lam, share, direction) if len(place) == 3 else None


EVEN = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


def _even(place: Array, target: float, lam: Array, share: Array, direction) -> list | None:
    """Return (i)PNDM's: Adams–Bashforth's for even steps, whatever the steps (Liu et al. 2022)."""
    return list(EVEN[len(place) - 1])


RULES: dict[str, Callable[..., list | None]] = {
    "exact": lambda *_: None,
    "even": _even,
    "half_curvature_only": _half_curvature_only,
    "midpoint": _midpoint,
    "bh1": _bh1,
    "bh2": _midpoint,
    "half_curvature": _half_curvature,
}
