"""The Gaussian that minimises a divergence from any density."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InvalidArgument, NonFinite
from .generators import Generator, generator
from .normal import LOG_2PI, Normal
from .quadrature import fixed_rule
from .value import Density

_STEPS = 200


def fit_normal(
    p: Density,
    which: str | Generator = "kl",
    low: float = -10.0,
    high: float = 10.0,
    start: tuple[float, float] = (0.0, 1.0),
) -> Normal:
    """Return the N(m, s²) on the line with the least D(p‖N), from (mean, deviation) = `start`.

    p: log-density of points (n, 1), its structure between `low` and `high`. "kl" is maximum
    likelihood in the limit of infinite data: E_p[−log N] is KL(p‖N) plus the entropy of p, and
    the best Gaussian has the mean and the variance of p (it covers the modes). "reverse_kl" has
    several local minima, each on a mode (it seeks one); `start` decides which is found.

    Newton's method on a fixed Gauss–Legendre rule of the whole line. Raises InvalidArgument for
    bad limits or start, NonFinite if the iteration does not converge.
    """
    if not low < start[0] < high or not start[1] > 0:
        raise InvalidArgument(
            f"start {start!r} for limits {low!r} to {high!r}; give a mean between them and a "
            "positive deviation"
        )
    chosen = generator(which)
    x, weight = fixed_rule(low, high)
    log_p = p(x[:, None]).double().detach()

    def loss(at: Tensor) -> Tensor:
        mean, log_s = at[0], at[1]
        log_q = -0.5 * (((x - mean) / log_s.exp()) ** 2 + LOG_2PI) - log_s
        return (weight * chosen(log_p, log_q)).sum()

    at = torch.tensor([start[0], torch.tensor(start[1]).log()], dtype=torch.float64)
    for _ in range(_STEPS):
        slope = torch.autograd.functional.jacobian(loss, at)
        values, vectors = torch.linalg.eigh(torch.autograd.functional.hessian(loss, at))
        # |eigenvalues|: downhill where the curvature is negative
        step = -vectors @ ((vectors.T @ slope) / values.abs().clamp(min=1e-6))
        step, now, size = step.clamp(-1, 1), loss(at), 1.0
        while not loss(at + size * step) <= now + 1e-14 * now.abs() and size > 1e-10:
            size /= 2
        at = at + size * step
        if float(step.abs().max()) < 1e-11 or size <= 1e-10:
            return Normal(at[0], (2 * at[1]).exp())
    raise NonFinite(f"the fit did not settle in {_STEPS} steps from {start!r}; give another start")
