"""Wasserstein distances: Gaussians, one dimension, samples, slices."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import InvalidArgument
from ..randomness import Streams
from .normal import Normal, root
from .value import Estimate

MOST_PAIRS = 200_000_000  # entries of the cost matrix, 1.6 GB in float64


def wasserstein_gaussian(p: Normal, q: Normal, order: int = 2) -> Estimate:
    """Return W_order between Gaussians in closed form; covariances may be singular.

    W₂² = ‖m_p − m_q‖² + tr(Σ_p + Σ_q − 2(Σ_p^½ Σ_q Σ_p^½)^½), the Bures–Wasserstein distance, in
    any dimension; W₁ in one dimension only, E|Δ + (s_p − s_q)·Z| (or, for equal covariances, ‖Δ‖).
    Raises InvalidArgument otherwise. Source: Gelbrich 1990; Peyré & Cuturi 2019, rem. 2.31.
    """
    _check_order(order)
    if p.dimensions != q.dimensions:
        raise InvalidArgument(
            f"Gaussians in {p.dimensions} and in {q.dimensions} dimensions; give both in one space"
        )
    gap = float(((p.mean - q.mean) ** 2).sum().sqrt())
    if torch.equal(p.covariance, q.covariance):
        return Estimate(gap, 0.0, "closed form")
    if order == 2:
        half = root(p.covariance)
        # tr √(Σ_p^½ Σ_q Σ_p^½) is the nuclear norm of Σ_q^½ Σ_p^½
        shared = torch.linalg.svdvals(root(q.covariance) @ half).sum()
        bures = float(p.covariance.trace() + q.covariance.trace() - 2 * shared)
        return Estimate(math.sqrt(gap**2 + max(bures, 0.0)), 0.0, "closed form")
    if p.dimensions > 1:
        raise InvalidArgument(
            "W1 of Gaussians with different covariances is closed in one dimension only; "
            "use order 2, or `wasserstein` on samples"
        )
    s = abs(float(p.covariance.sqrt()) - float(q.covariance.sqrt()))
    value = s * math.sqrt(2 / math.pi) * math.exp(-0.5 * (gap / s) ** 2) + gap * math.erf(
        gap / (s * math.sqrt(2))
    )
    return Estimate(value, 0.0, "closed form")


def _check_order(order: int) -> None:
    if order not in (1, 2):
        raise InvalidArgument(f"Wasserstein order is {order!r}; give 1 or 2")


def _weights(given: Tensor | None, count: int) -> Tensor:
    if given is None:
        return torch.full((count,), 1 / count, dtype=torch.float64)
    given = torch.as_tensor(given, dtype=torch.float64)
    if given.shape != (count,) or bool((given < 0).any()) or not float(given.sum()) > 0:
        raise InvalidArgument(
            f"weights of shape {tuple(given.shape)} for {count} points; give one weight ≥ 0 a "
            "point, not all 0"
        )
    return given / given.sum()


def _points(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    if len(x) == 0 or len(y) == 0 or x.shape[1:] != y.shape[1:]:
        raise InvalidArgument(
            f"points of shapes {tuple(x.shape)} and {tuple(y.shape)}; give at least one of each, "
            "with events of one shape"
        )
    if not bool(torch.isfinite(x).all() and torch.isfinite(y).all()):
        raise InvalidArgument("points with NaN or infinity have no distance; remove them")
    return x.double().reshape(len(x), -1), y.double().reshape(len(y), -1)


def wasserstein_1d(
    x: Tensor,
    y: Tensor,
    order: int = 2,
    weights_x: Tensor | None = None,
    weights_y: Tensor | None = None,
) -> Estimate:
    """Return W_order between weighted points on the line, x (n,), y (m,).

    (∫|F⁻¹ − G⁻¹|^p du)^(1/p), by sorting both; exact for the samples. As an estimate of the
    distance of the distributions behind them it is biased upwards, by O(n^−½).
    """
    _check_order(order)
    (x, y), n, m = _points(x, y), len(x), len(y)
    powers = _sorted_powers(x.T, y.T, _weights(weights_x, n), _weights(weights_y, m), order)
    return Estimate(float(powers) ** (1 / order), 0.0, "exact for the samples")


def _sorted_powers(x: Tensor, y: Tensor, a: Tensor, b: Tensor, order: int) -> Tensor:
    """Return W_p^p of every row: x (k, n) against y (k, m)."""
    x, by_x = x.sort(dim=1)
    y, by_y = y.sort(dim=1)
    if x.shape == y.shape and bool((a == a[0]).all() and (b == b[0]).all()):
        return ((x - y).abs() ** order).mean(1)
    # quantile functions are constant between the merged levels of both
    below_x, below_y = a[by_x].cumsum(1), b[by_y].cumsum(1)
    levels = torch.cat([below_x, below_y], 1).clamp(max=1).sort(dim=1).values
    width = torch.diff(levels, dim=1, prepend=torch.zeros(len(x), 1, dtype=levels.dtype))
    middle = levels - width / 2

    def quantile(values: Tensor, below: Tensor) -> Tensor:
        index = torch.searchsorted(below.contiguous(), middle.contiguous())
        return values.gather(1, index.clamp(max=values.shape[1] - 1))

    return ((quantile(x, below_x) - quantile(y, below_y)).abs() ** order * width).sum(1)


def wasserstein(
    x: Tensor,
    y: Tensor,
    order: int = 2,
    weights_x: Tensor | None = None,
    weights_y: Tensor | None = None,
) -> Estimate:
    """Return W_order between weighted point clouds x (n, *event), y (m, *event).

    By linear programming, exact for the samples (network simplex, POT's emd2), cost ‖x − y‖^order;
    time about n³. As an estimate of the distance of the distributions it is biased upwards, by
    O(n^(−1/d)): compare with the value between two sample sets of one distribution. Raises
    InvalidArgument above 2·10⁸ pairs.
    """
    import ot

    _check_order(order)
    x, y = _points(x, y)
    if len(x) * len(y) > MOST_PAIRS:
        raise InvalidArgument(
            f"{len(x)} × {len(y)} pairs; the exact distance takes at most {MOST_PAIRS:.0e}: use "
            "fewer points or `sliced`"
        )
    a, b = _weights(weights_x, len(x)), _weights(weights_y, len(y))
    if x.shape[1] == 1:
        power = float(_sorted_powers(x.T, y.T, a, b, order))
    else:
        cost = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist") ** order
        power, log = ot.emd2(a.numpy(), b.numpy(), cost.numpy(), numItermax=10_000_000, log=True)
        if log["warning"]:
            raise InvalidArgument(f"the transport did not settle: {log['warning']}")
    return Estimate(max(float(power), 0.0) ** (1 / order), 0.0, "exact for the samples")


def unit_vectors(directions: Streams, dimensions: int) -> Tensor:
    """Return directions uniform on the sphere, one a stream: (streams, dimensions) in float64."""
    theta = directions.normal(dimensions).double()
    return theta / theta.norm(dim=1, keepdim=True)


def sliced(
    x: Tensor,
    y: Tensor,
    directions: Streams,
    order: int = 2,
    weights_x: Tensor | None = None,
    weights_y: Tensor | None = None,
) -> Estimate:
    """Return the sliced W_order: (mean over unit vectors θ of W_p^p(θ·x, θ·y))^(1/p).

    One direction is drawn per stream. The error is that of the choice of directions, not of the
    samples; for a shift Δ in d dimensions the order-2 value is ‖Δ‖/√d. Source: Rabin et al. 2011;
    Bonneel et al. 2015.
    """
    _check_order(order)
    x, y = _points(x, y)
    theta = unit_vectors(directions, x.shape[1])
    a, b = _weights(weights_x, len(x)), _weights(weights_y, len(y))
    powers = torch.cat([_sorted_powers(t @ x.T, t @ y.T, a, b, order) for t in theta.split(16)])
    mean = float(powers.mean())
    spread = float(powers.std()) / math.sqrt(len(powers)) if len(powers) > 1 else math.nan
    value = mean ** (1 / order)
    # d(m^(1/p)) = m^(1/p − 1)/p·dm
    error = spread if order == 1 else spread / (2 * value) if value > 0 else 0.0
    return Estimate(value, error, "Monte Carlo")
