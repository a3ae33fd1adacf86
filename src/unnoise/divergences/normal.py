"""Gaussians: every divergence that has a closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import InvalidArgument, Unsupported
from ..randomness import Streams
from .generators import Generator, generator
from .value import Estimate

LOG_2PI = math.log(2 * math.pi)


Numbers = Tensor | float | Sequence[float] | Sequence[Sequence[float]]


class Normal:
    """N(mean, covariance) on vectors of length d; computed in float64.

    mean: (d,); covariance: (d, d), or variances (d,); one number each on the line. A singular
    covariance is allowed if no density is needed. Raises InvalidArgument for shapes that disagree,
    a matrix that is not symmetric or a negative variance.
    """

    def __init__(self, mean: Numbers, covariance: Numbers) -> None:
        mean = torch.as_tensor(mean, dtype=torch.float64)
        covariance = torch.as_tensor(covariance, dtype=torch.float64)
        if mean.ndim == 0:
            mean, covariance = mean[None], covariance.reshape(1)
        if covariance.ndim == 1:
            covariance = covariance.diag_embed()
        if mean.ndim != 1 or covariance.shape != (len(mean),) * 2:
            raise InvalidArgument(
                f"a mean of shape {tuple(mean.shape)} and a covariance of shape "
                f"{tuple(covariance.shape)}; give (d,) and (d, d) or (d,)"
            )
        if not torch.allclose(covariance, covariance.T, rtol=1e-9, atol=0):
            raise InvalidArgument("a covariance must be symmetric; this one is not")
        least = float(torch.linalg.eigvalsh(covariance).min())
        if not least >= -1e-10 * float(covariance.diagonal().max()):
            raise InvalidArgument(f"a covariance has the eigenvalue {least!r}; give variances ≥ 0")
        self.mean, self.covariance = mean, covariance

    @property
    def dimensions(self) -> int:
        """The length d of a vector."""
        return len(self.mean)

    def log_density(self, x: Tensor) -> Tensor:
        """Return log p(x) of x (n, d), in nats; raises Unsupported on a singular covariance."""
        factor = self._factor()
        z = torch.linalg.solve_triangular(factor, (x - self.mean).T, upper=False)
        level = 2 * factor.diagonal().log().sum() + self.dimensions * LOG_2PI
        return -0.5 * ((z**2).sum(0) + level)

    __call__ = log_density

    def sample(self, noise: Streams) -> Tensor:
        """Draw one sample a stream: (n, d), float64."""
        return self.mean + noise.normal(self.dimensions).double() @ root(self.covariance)

    def _factor(self) -> Tensor:
        factor, failed = torch.linalg.cholesky_ex(self.covariance)
        if int(failed):
            raise Unsupported(
                "a Gaussian with a singular covariance has no density; use wasserstein_gaussian, "
                "or add a small variance"
            )
        return factor


def root(matrix: Tensor) -> Tensor:
    """Return the symmetric square root of a covariance."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def between_normals(which: str | Generator, p: Normal, q: Normal) -> Estimate:
    """Return D(p‖q) of two Gaussians in closed form.

    kl, reverse_kl, hellinger, chi2 and every alpha; tv if the covariances are equal, or in one
    dimension. chi2 and alpha > 1 or < 0 are infinite if αP + (1−α)Q is not positive definite (P, Q
    the precisions). Raises Unsupported for a divergence without closed form (js), InvalidArgument
    if the dimensions differ. Source: Gil et al. 2013, table 2.
    """
    chosen = generator(which)
    if p.dimensions != q.dimensions:
        raise InvalidArgument(
            f"Gaussians in {p.dimensions} and in {q.dimensions} dimensions; give both in one space"
        )
    name = chosen.name
    if name == "kl":
        value = _kl(p, q)
    elif name == "reverse_kl":
        value = _kl(q, p)
    elif name == "hellinger":
        value = -math.expm1(_log_affinity(0.5, p, q))
    elif name == "chi2":
        value = _expm1(_log_affinity(2.0, p, q))
    elif name.startswith("alpha:"):
        a = float(name.removeprefix("alpha:"))
        value = _expm1(_log_affinity(a, p, q)) / (a * (a - 1))
    elif name == "tv" and has_closed_form(chosen, p, q):
        value = _tv(p, q)
    else:
        raise Unsupported(
            f"{name} between these Gaussians has no closed form; closed: kl, reverse_kl, "
            "hellinger, chi2, alpha, tv of equal covariances or in one dimension; use "
            "quadrature in one dimension or samples"
        )
    return Estimate(value, 0.0, "closed form")


def has_closed_form(which: str | Generator, p: Normal, q: Normal) -> bool:
    """Return whether `between_normals` has a formula for this divergence."""
    name = generator(which).name
    if name == "tv":
        return p.dimensions == 1 or torch.equal(p.covariance, q.covariance)
    return name in ("kl", "reverse_kl", "hellinger", "chi2") or name.startswith("alpha:")


def _expm1(x: float) -> float:
    return math.inf if x > 700 else math.expm1(x)


def _kl(p: Normal, q: Normal) -> float:
    """Return ½[tr(Σ_q⁻¹Σ_p) − d + Δᵀ Σ_q⁻¹ Δ + log det Σ_q/det Σ_p]; ∞ if p is singular."""
    factor = q._factor()
    turned = torch.linalg.solve_triangular(factor, root(p.covariance), upper=False)
    ratios = torch.linalg.svdvals(turned) ** 2  # eigenvalues of Σ_q⁻¹Σ_p
    gap = torch.linalg.solve_triangular(factor, (p.mean - q.mean)[:, None], upper=False)
    return float(0.5 * ((ratios - 1 - ratios.log()).sum() + (gap**2).sum()))


def _log_affinity(a: float, p: Normal, q: Normal) -> float:
    """Return log ∫ p^α·q^(1−α); ∞ if it diverges."""
    mixed = a * q.covariance + (1 - a) * p.covariance  # Σ_p(αP + (1−α)Q)Σ_q
    factor_p, factor_q = p._factor(), q._factor()
    whole = a * torch.cholesky_inverse(factor_p) + (1 - a) * torch.cholesky_inverse(factor_q)
    if float(torch.linalg.eigvalsh(whole).min()) <= 0:
        return math.inf
    gap = p.mean - q.mean
    _, log_mixed = torch.linalg.slogdet(mixed)
    log_p, log_q = (2 * f.diagonal().log().sum() for f in (factor_p, factor_q))
    square = gap @ torch.linalg.solve(mixed, gap)
    return float(-0.5 * a * (1 - a) * square - 0.5 * (log_mixed - (1 - a) * log_p - a * log_q))


def _tv(p: Normal, q: Normal) -> float:
    gap = (p.mean - q.mean)[:, None]
    if torch.equal(p.covariance, q.covariance):  # 2Φ(½·Mahalanobis) − 1
        z = torch.linalg.solve_triangular(p._factor(), gap, upper=False)
        return math.erf(float((z**2).sum().sqrt()) / math.sqrt(8))
    m, s, mu, tau = (float(v) for v in (p.mean, p._factor(), q.mean, q._factor()))
    # the two points where the densities cross: roots of log p = log q
    a = 0.5 / tau**2 - 0.5 / s**2
    b = m / s**2 - mu / tau**2
    c = 0.5 * (mu / tau) ** 2 - 0.5 * (m / s) ** 2 + math.log(tau / s)
    bend = -0.5 * (b + math.copysign(math.sqrt(b**2 - 4 * a * c), b))
    low, high = sorted((bend / a, c / bend))

    def inside(mean: float, deviation: float) -> float:
        scale = deviation * math.sqrt(2)
        return 0.5 * (math.erf((high - mean) / scale) - math.erf((low - mean) / scale))

    return abs(inside(m, s) - inside(mu, tau))
