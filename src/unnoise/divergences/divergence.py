"""Any f-divergence of any two densities: closed form, quadrature in one dimension, Monte Carlo."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import InvalidArgument
from .generators import Generator, generator
from .normal import Normal, between_normals, has_closed_form
from .quadrature import integrate
from .value import Density, Estimate, monte_carlo


def divergence(
    which: str | Generator,
    p: Density,
    q: Density,
    low: float | None = None,
    high: float | None = None,
    from_p: Tensor | None = None,
    from_q: Tensor | None = None,
) -> Estimate:
    """Return D(p‖q), in nats if the divergence has a logarithm.

    p, q: `Normal`s, or log-densities of points (n, *event). With samples `from_p`, `from_q` the
    result is that of `sampled`; with limits `low`, `high` of `integrated`; with neither the closed
    form if there is one, else quadrature over the real line (events of shape (1,)).

    which: kl, reverse_kl, js, tv, chi2, hellinger, "alpha:0.5", or a Generator. Raises
    InvalidArgument for limits and samples together, and the errors of these three functions.
    """
    chosen = generator(which)
    samples = from_p is not None or from_q is not None
    limits = low is not None or high is not None
    if samples and limits:
        raise InvalidArgument("limits are for quadrature, samples for Monte Carlo; give one kind")
    if samples:
        return sampled(chosen, p, q, from_p, from_q)
    normals = isinstance(p, Normal) and isinstance(q, Normal)
    if normals and not limits and has_closed_form(chosen, p, q):  # type: ignore[arg-type]
        return between_normals(chosen, p, q)  # type: ignore[arg-type]
    if isinstance(p, Normal) and p.dimensions > 1:
        raise InvalidArgument(
            f"{chosen.name} in {p.dimensions} dimensions is no quadrature; give samples from_p "
            "and from_q"
        )
    return integrated(
        chosen, p, q, -math.inf if low is None else low, math.inf if high is None else high
    )


def integrated(
    which: str | Generator,
    p: Density,
    q: Density,
    low: float = -math.inf,
    high: float = math.inf,
    tolerance: float = 1e-10,
) -> Estimate:
    """Return D(p‖q) of two densities on the real line, by quadrature between `low` and `high`.

    p, q: log-densities of points (n, 1). Both are checked to integrate to 1 (within 1e-6): raises
    InvalidArgument otherwise, which is also the sign of a spike that the panels missed. Infinite if
    one density is zero where the divergence is infinite for it.
    """
    chosen = generator(which)

    def values(x: Tensor) -> Tensor:
        log_p, log_q = (density(x[:, None]).double() for density in (p, q))
        return torch.stack([log_p.exp(), log_q.exp(), chosen(log_p, log_q)], 1)

    totals, errors = integrate(values, low, high, tolerance)
    mass_p, mass_q, value = totals.tolist()
    for name, mass in (("p", mass_p), ("q", mass_q)):
        if math.isfinite(value) and not abs(mass - 1) < 1e-6:
            raise InvalidArgument(
                f"{name} has mass {mass:.8g} between {low:g} and {high:g}, not 1; give normalised "
                "log-densities, and limits that hold and resolve them"
            )
    # mass outside the limits is missing from φ too
    error = float(errors[2]) + abs(mass_p - 1) + abs(mass_q - 1)
    return Estimate(value, 0.0 if math.isinf(value) else error, "quadrature")


def sampled(
    which: str | Generator,
    p: Density,
    q: Density,
    from_p: Tensor | None = None,
    from_q: Tensor | None = None,
) -> Estimate:
    """Return D(p‖q) by Monte Carlo, with its standard error; unbiased.

    from_p, from_q: samples (n, *event) of p and of q. With both, the mean of φ/m over both, m =
    ½(p + q), whose weights stay bounded; with one, the plain mean of log p/q over samples of p
    (kl) or of log q/p over samples of q (reverse_kl). Raises InvalidArgument if the samples do not
    determine the divergence.
    """
    chosen = generator(which)
    if from_p is not None and from_q is not None:
        parts = []
        for x in (from_p, from_q):
            log_p, log_q = p(x).double(), q(x).double()
            log_m = torch.logaddexp(log_p, log_q) - math.log(2)
            parts.append(chosen(log_p - log_m, log_q - log_m))
        return monte_carlo(parts)
    side = "p" if from_p is not None else "q" if from_q is not None else None
    if side is None or chosen.one_sided != side:
        need = {"p": "samples of p, or of both", "q": "samples of q, or of both"}
        raise InvalidArgument(
            f"{chosen.name} from samples of {side or 'nothing'}; it needs "
            f"{need.get(chosen.one_sided or '', 'samples of p and of q')}"
        )
    if from_p is not None:
        return monte_carlo([p(from_p).double() - q(from_p).double()])
    assert from_q is not None
    return monte_carlo([q(from_q).double() - p(from_q).double()])
