"""Empirical model statistics, from which DPM-Solver-v3 chooses its parametrisation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import InvalidArgument, need_count
from ...fields.field import Field
from ...paths import grids
from ...randomness import Streams

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class EMS:
    """l, s and b at increasing log-SNRs: plain float64 arrays, (n,) and (n, *event).

    Between the log-SNRs they are cubic splines, whose integrals are exact. Raises InvalidArgument
    where shapes disagree, numbers are not finite, or log-SNRs do not increase.
    """

    log_snr: Array
    l: Array  # noqa: E741
    s: Array
    b: Array

    def __post_init__(self) -> None:
        for name in ("log_snr", "l", "s", "b"):
            value = np.asarray(getattr(self, name), dtype=np.float64)
            object.__setattr__(self, name, value)
            if not np.isfinite(value).all():
                raise InvalidArgument(f"{name} of the model statistics is not finite everywhere")
        if self.log_snr.ndim != 1 or len(self.log_snr) < 2 or (np.diff(self.log_snr) <= 0).any():
            raise InvalidArgument("log_snr must be at least two increasing numbers")
        shapes = {value.shape for value in (self.l, self.s, self.b)}
        if len(shapes) != 1 or self.l.shape[:1] != self.log_snr.shape:
            raise InvalidArgument(
                f"l, s, b of shapes {sorted(shapes)} for {len(self.log_snr)} log-SNRs; give "
                "(n, *event) of each"
            )

    @cached_property
    def splines(self) -> dict[str, Any]:
        """Return l, s, b as functions of log-SNR, and L, S, the integrals of l and s."""
        from scipy.interpolate import CubicSpline

        out = {name: CubicSpline(self.log_snr, getattr(self, name)) for name in ("l", "s", "b")}
        return out | {"L": out["l"].antiderivative(), "S": out["s"].antiderivative()}


def empirical_statistics(
    field: Field,
    x0: Tensor,
    noise: Streams,
    grid: Tensor,
    step: float = 1e-3,
    probes: int = 1,
) -> EMS:
    """Measure l, s, b of a model from data x0 (n, *event) noised at every time of `grid`.

    Each number of an event has its own: l = E[σ·∂ε/∂x], which makes N = σ·ε − l·x least sensitive
    to x (eq. 12), by Hutchinson's estimate with `probes` random signs; s = cov(f, f')/var(f) (0
    where f does not vary) and b = E[f'] − s·E[f], the regression of f' = df/dλ along the flow on
    f = N/α (eq. 14). Derivatives are differences of `step` in λ, central except at the path's ends,
    and relative to σ in x. Costs 5 + 2·probes evaluations a time. Raises InvalidArgument where an
    end of the grid has no finite log-SNR, and for fewer than two data.
    """
    need_count("probes", probes)
    if len(x0) < 2 or len(noise) != len(x0):
        raise InvalidArgument(
            f"{len(x0)} data and noise for {len(noise)}; give as many of each, at least two"
        )
    path, times = field.path, grids.check(grid)
    lam = path.log_snr(times)
    if not bool(torch.isfinite(lam).all()):
        raise InvalidArgument(
            "the grid reaches a time without signal or without noise; keep both ends away, such "
            "as from t = 0.999 to 0.001"
        )
    knots = lam.sort().values
    with torch.no_grad():
        # the same draws at every log-SNR, so that the statistics are smooth in it
        draw = noise.normal(*x0.shape[1:]).to(device=x0.device, dtype=x0.dtype)
        signs = [(noise.uniform(*x0.shape[1:]) < 0.5).to(x0) * 2 - 1 for _ in range(probes)]
        found = [_measure(field, x0, draw, signs, place, step) for place in knots.tolist()]
    return _regress(knots.numpy(), found)


def _measure(
    field: Field, x0: Tensor, draw: Tensor, signs: list[Tensor], lam: float, step: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (l, (y, ε) and (dy/dλ, dε/dλ) along the flow) at one log-SNR; y = x/α."""
    alpha, sigma, eps = _at(field, lam)
    x = alpha * x0 + sigma * draw
    slope = torch.zeros_like(x[0])
    for sign in signs:
        ahead, behind = (eps(x + way * step * sigma * sign) for way in (1, -1))
        slope = slope + (sign * (ahead - behind) / (2 * step)).mean(0) / len(signs)
    here, y = eps(x), x / alpha
    low, high = field.path.log_snr_range()
    ends, moved = (max(lam - step, low), min(lam + step, high)), []
    for end in ends:  # dy/dλ = −e^{−λ}·ε, by the midpoint rule
        gap = end - lam
        middle_alpha, _, middle = _at(field, lam + gap / 2)
        half = y - gap / 2 * math.exp(-lam) * here
        rate = -math.exp(-(lam + gap / 2)) * middle(half * middle_alpha)
        end_alpha, _, there = _at(field, end)
        moved.append(there((y + gap * rate) * end_alpha))
    change = (moved[1] - moved[0]) / (ends[1] - ends[0])
    small = math.exp(-lam)
    return slope, torch.stack([y, here]), torch.stack([-small * here, change])


def _at(field: Field, lam: float) -> tuple[float, float, Any]:
    time = field.path.time(torch.tensor(lam, dtype=torch.float64)).clamp(0, 1)
    alpha, sigma = float(field.path.alpha(time)), float(field.path.sigma(time))
    return alpha, sigma, lambda x: field(x, time).eps


def _regress(knots: Array, found: list[tuple[Tensor, Tensor, Tensor]]) -> EMS:
    from scipy.interpolate import CubicSpline

    levels = torch.stack([slope for slope, _, _ in found]).double().cpu().numpy()
    rates = CubicSpline(knots, levels)(knots, 1)
    gains, shifts = [], []
    for small, level, rate, (_, *values) in zip(np.exp(-knots), levels, rates, found, strict=True):
        (y, eps), (y_rate, eps_rate) = (value.double().cpu().numpy() for value in values)
        f = small * eps - level * y
        f_rate = small * (eps_rate - eps) - level * y_rate - rate * y
        centred = f - f.mean(0)
        spread = (centred**2).mean(0)
        noise_floor = 1e-12 * ((small * eps) ** 2 + y**2).mean(0)
        flat = spread <= noise_floor
        gain = np.where(flat, 0.0, (centred * f_rate).mean(0) / np.where(flat, 1.0, spread))
        gains.append(gain)
        shifts.append(f_rate.mean(0) - gain * f.mean(0))
    return EMS(knots, levels, np.stack(gains), np.stack(shifts))
