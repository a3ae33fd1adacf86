"""Spacings of other programs: the same noise levels as theirs, as times of a path.

Spacings on a chain give the levels of those programs' `sigmas` tables. Between two whole steps
they interpolate log σ linearly, and a ChainPath has constant speed on the circle; so `normal`
and `sgm_uniform` match levels, not fractional step numbers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import InvalidArgument, unknown
from .chains import ChainPath
from .grids import chain_length, check, level_limits, on_chain, spaced
from .path import GaussianPath


def polyexponential(
    path: GaussianPath,
    steps: int,
    start: float = 1.0,
    end: float = 0.0,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    rho: float = 1.0,
) -> Tensor:
    """Return times with log(σ/α) along ramp^ρ, the ramp evenly from 1 to 0: k-diffusion's spacing.

    ρ = 1 is even log-SNR. For infinite ends see `grids.spaced`. Raises InvalidArgument for ρ ≤ 0.
    """
    if not (math.isfinite(rho) and rho > 0):
        raise InvalidArgument(f"rho is {rho!r}; give a positive number")
    low, high = level_limits(path, start, end, sigma_min, sigma_max)
    span = math.log(high / low)
    return spaced(
        path,
        steps,
        start,
        end,
        sigma_min,
        sigma_max,
        lambda s: ((s / low).log().clamp(min=0) / span) ** (1 / rho),
        lambda u: low * (span * u**rho).exp(),
    )


def kl_optimal(
    path: GaussianPath,
    steps: int,
    start: float = 1.0,
    end: float = 0.0,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
) -> Tensor:
    """Return times with atan(σ/α), the path's angle, evenly spaced.

    Source: Sabour et al. 2024, sec. 3.2.
    """
    return spaced(path, steps, start, end, sigma_min, sigma_max, torch.atan, torch.tan)


def beta(
    path: GaussianPath,
    steps: int,
    start: float = 1.0,
    end: float = 0.0,
    a: float = 0.6,
    b: float = 0.6,
) -> Tensor:
    """Return quantiles of a Beta(a, b) distribution of times: finer at both ends (Lee et al. 2024).

    On a chain from 1 to 0: steps 1 + (T − 1)·quantile, rounded, then 0. Raises InvalidArgument if
    two steps are rounded to one (other programs leave one out, and take fewer steps than
    requested).
    """
    from scipy.stats import beta as distribution

    for name, value in (("a", a), ("b", b)):
        if not (math.isfinite(value) and value > 0):
            raise InvalidArgument(f"{name} of the Beta distribution is {value!r}; give it positive")
    shares = [1 - i / steps for i in range(steps + 1)]
    places = distribution.ppf(shares, a, b).tolist()
    if isinstance(path, ChainPath) and (start, end) == (1.0, 0.0):
        length = chain_length(path, steps)
        numbers = [1 + round(place * (length - 1)) for place in places[:-1]]
        if len(set(numbers)) < steps:
            raise InvalidArgument(
                f"{steps} steps of the beta grid fall on {len(set(numbers))} of {length} chain "
                "steps; give fewer steps, or another grid"
            )
        return on_chain(numbers, length)
    times = torch.tensor([end + (start - end) * place for place in places], dtype=torch.float64)
    times[0], times[-1] = start, end
    return check(times)


def simple(path: ChainPath, steps: int) -> Tensor:
    """Return chain steps T − ⌊i·T/steps⌋, then 0: ComfyUI's simple."""
    length = chain_length(path, steps)
    return on_chain([length - i * length // steps for i in range(steps)], length)


def normal(path: ChainPath, steps: int) -> Tensor:
    """Return chain steps evenly from T to 1, not rounded, then 0.

    It is ComfyUI's normal and A1111's default.
    """
    return _between(path, steps, max(steps - 1, 1))


def sgm_uniform(path: ChainPath, steps: int) -> Tensor:
    """Return chain steps evenly from T towards 1, which itself is left out, then 0."""
    return _between(path, steps, steps)


def _between(path: ChainPath, steps: int, gaps: int) -> Tensor:
    length = chain_length(path, steps)
    times = []
    for i in range(steps):
        place = length - i * (length - 1) / gaps
        whole = round(place)
        if abs(place - whole) < 1e-9:
            times.append(whole / length)
            continue
        near = math.floor(place)
        low, high = (float(path.log_snr(n / length)) for n in (near, near + 1))
        times.append(float(path.time(low + (place - near) * (high - low))))
    return check([*times, 0.0])


# σ/α tuned by Sabour et al. 2024 for three models, at 10 steps
ALIGNED = {
    "sd15": (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029),
    "sdxl": (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029),
    "svd": (700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002),
}


def align_your_steps(
    path: GaussianPath, steps: int, model: str = "sd15", start: float = 1.0, end: float = 0.0
) -> Tensor:
    """Return the tuned levels σ/α of Align Your Steps, then `end`.

    At other step counts log σ is interpolated linearly. Levels above that of `start` or below that
    of `end` are replaced by the path's own. Raises InvalidArgument for unknown models.
    """
    if model not in ALIGNED:
        raise unknown("model of align_your_steps", model, ALIGNED)
    import numpy as np

    known = -np.log(ALIGNED[model])
    low, high = level_limits(path, start, end)
    places = np.interp(np.linspace(0, 1, steps), np.linspace(0, 1, len(known)), known)
    inside = np.clip(places, -math.log(high), -math.log(low))
    times = path.time(torch.from_numpy(inside))
    if float(path.log_snr(end)) <= inside[-1]:
        raise InvalidArgument(
            f"align_your_steps ends at σ/α = {ALIGNED[model][-1]}, and this walk at "
            f"{math.exp(-float(path.log_snr(end))):.4g} already; use karras or log_snr"
        )
    return check([*times.tolist(), end])
