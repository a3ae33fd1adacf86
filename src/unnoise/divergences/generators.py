"""f-divergences: D_f(p‖q) = ∫ q·f(p/q), f convex with f(1) = 0.

Every generator is given by its integrand φ(log p, log q) = q·f(p/q) + c·(q − p), c = f′(1): the
same integral for normalised densities, nowhere negative, and flat where p = q, so quadrature and
Monte Carlo lose no digits to cancelling halves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InvalidArgument, unknown

LOG_2 = math.log(2)


@dataclass(frozen=True)
class Generator:
    """One f-divergence.

    integrand: (log p, log q) → φ ≥ 0, finite logarithms; at_zero: φ/q where p = 0; at_infinity:
    φ/p where q = 0 (both may be infinite: the divergence then is infinite where p or q alone has
    mass). one_sided: the density whose samples alone determine it, "p" for E_p[log p/q].
    """

    name: str
    formula: str
    integrand: Callable[[Tensor, Tensor], Tensor]
    at_zero: float
    at_infinity: float
    one_sided: str | None = None

    def __call__(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return φ at points, (n,); −∞ is a density of zero, and φ is 0 where both are zero."""
        no_p, no_q = torch.isneginf(log_p), torch.isneginf(log_q)
        safe_p, safe_q = log_p.masked_fill(no_p, 0.0), log_q.masked_fill(no_q, 0.0)
        value = self.integrand(safe_p, safe_q)
        value = torch.where(no_p, _times(safe_q.exp(), self.at_zero), value)
        value = torch.where(no_q, _times(safe_p.exp(), self.at_infinity), value)
        return torch.where(no_p & no_q, torch.zeros_like(value), value)


def _times(density: Tensor, factor: float) -> Tensor:
    return density * factor if math.isfinite(factor) else torch.full_like(density, math.inf)


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    r = log_p - log_q
    near = r.abs() < 1e-2  # r − 1 + e⁻ʳ by its series, where the terms cancel
    series = r**2 * (0.5 - r / 6 + r**2 / 24 - r**3 / 120)
    whole = log_p.exp() * r - log_p.exp() + log_q.exp()
    return torch.where(near, log_p.exp() * series, whole)


def _reverse_kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    return _kl(log_q, log_p)


def _js(log_p: Tensor, log_q: Tensor) -> Tensor:
    middle = torch.logaddexp(log_p, log_q) - LOG_2
    return 0.5 * (_kl(log_p, middle) + _kl(log_q, middle))


def _tv(log_p: Tensor, log_q: Tensor) -> Tensor:
    return 0.5 * (log_p.exp() - log_q.exp()).abs()


def _chi2(log_p: Tensor, log_q: Tensor) -> Tensor:
    r = log_p - log_q
    return torch.where(
        r > 0,
        (log_p + r).exp() * torch.expm1(-r) ** 2,  # (p − q)²/q without the square of a ratio
        log_q.exp() * torch.expm1(r.clamp(max=0)) ** 2,
    )


def _hellinger(log_p: Tensor, log_q: Tensor) -> Tensor:
    return 0.5 * ((0.5 * log_p).exp() - (0.5 * log_q).exp()) ** 2


GENERATORS: dict[str, Generator] = {
    g.name: g
    for g in (
        Generator("kl", "∫ p·log(p/q)", _kl, 1.0, math.inf, "p"),
        Generator("reverse_kl", "∫ q·log(q/p)", _reverse_kl, math.inf, 1.0, "q"),
        Generator(
            "js", "½·KL(p‖m) + ½·KL(q‖m), m = ½(p + q); at most log 2", _js, *(LOG_2 / 2,) * 2
        ),
        Generator("tv", "½·∫ |p − q|; at most 1", _tv, 0.5, 0.5),
        Generator("chi2", "∫ (p − q)²/q", _chi2, 1.0, math.inf),
        Generator("hellinger", "½·∫ (√p − √q)² = 1 − ∫ √(p·q); at most 1", _hellinger, 0.5, 0.5),
    )
}


def alpha(a: float) -> Generator:
    """Return the α-divergence, ∫ (p^α·q^(1−α) − α·p − (1−α)·q)/(α(α−1)).

    α → 1 is KL(p‖q), α → 0 KL(q‖p), ½ four times the squared Hellinger distance, 2 half of χ².
    Raises InvalidArgument for an α that is not finite. Source: Amari 1985; Minka 2005.
    """
    if not math.isfinite(a):
        raise InvalidArgument(f"alpha is {a!r}; give a finite number")
    if a in (0, 1):
        return GENERATORS["kl" if a else "reverse_kl"]

    def integrand(log_p: Tensor, log_q: Tensor) -> Tensor:
        power = (a * log_p + (1 - a) * log_q).exp()
        return (power - a * log_p.exp() - (1 - a) * log_q.exp()) / (a * (a - 1))

    return Generator(
        f"alpha:{a:g}",
        f"∫ (p^{a:g}·q^{1 - a:g} − …)/{a * (a - 1):g}",
        integrand,
        at_zero=1 / a if a > 0 else math.inf,
        at_infinity=1 / (1 - a) if a < 1 else math.inf,
    )


def from_f(
    f: Callable[[Tensor], Tensor],
    at_zero: float,
    at_infinity: float,
    slope: float = 0.0,
    name: str = "f",
) -> Generator:
    """Return the generator of a function f(u), convex, f(1) = 0, u = p/q.

    at_zero: f(0); at_infinity: lim f(u)/u; slope: f′(1), subtracted so that the integrand is never
    negative (0 leaves f as it is). Raises InvalidArgument for a name that is taken, if f(1) is not
    0 or if f is not convex on a few points.
    """
    if name in GENERATORS or name.startswith("alpha:"):
        raise InvalidArgument(f"the name {name!r} is taken; give your generator another")
    u = torch.logspace(-3, 3, 61, dtype=torch.float64)
    if abs(float(f(torch.ones((), dtype=torch.float64)))) > 1e-12:
        raise InvalidArgument(f"f(1) is {float(f(torch.ones(())))!r}; a generator has f(1) = 0")
    middle = f((u[:-1] + u[1:]) / 2)
    if bool((middle > (f(u[:-1]) + f(u[1:])) / 2 + 1e-9 * middle.abs()).any()):
        raise InvalidArgument("f is not convex; a generator must be")

    def integrand(log_p: Tensor, log_q: Tensor) -> Tensor:
        p, q, ratio = log_p.exp(), log_q.exp(), (log_p - log_q).exp()
        far, none = torch.isinf(ratio), ratio == 0
        value = torch.where(far, _times(p, at_infinity), q * f(ratio.masked_fill(far | none, 1.0)))
        return torch.where(none, _times(q, at_zero), value) + slope * (q - p)

    return Generator(name, "∫ q·f(p/q)", integrand, at_zero + slope, at_infinity - slope)


def generator(which: str | Generator) -> Generator:
    """Return the generator of a name: kl, reverse_kl, js, tv, chi2, hellinger, or "alpha:0.5"."""
    if isinstance(which, Generator):
        return which
    if which.startswith("alpha:"):
        number = None
        with suppress(ValueError):
            number = float(which.removeprefix("alpha:"))
        if number is not None:
            return alpha(number)
    if which not in GENERATORS:
        raise unknown("divergence", which, [*GENERATORS, "alpha:0.5"])
    return GENERATORS[which]
