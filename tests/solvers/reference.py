"""What the solver tests compare with: exact flows, exact moments, and fields that watch."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from claims.moments import Counter, Impulses, moments  # noqa: F401
from tests.exact import F64
from unnoise.fields import Field, Gaussian, Prediction
from unnoise.paths import GaussianPath, VPLinear, grids

WEIGHTS, MEANS, VARIANCES = (
    torch.tensor(values, dtype=F64) for values in ((0.4, 0.6), (-1.0, 1.5), (0.09, 0.04))
)
ANCHOR_PATH = VPLinear()
ANCHOR_START = torch.linspace(-2, 2, 41, dtype=F64)[:, None]


def anchor_grid(steps: int) -> Tensor:
    """ANCHOR_PATH from 1 to 1e-2, uniform in log-SNR."""
    return grids.log_snr(ANCHOR_PATH, steps, 1.0, 0.01)


class Quick(Field):
    """The mixture of `tests.exact.mixture_1d` in few operations, for long sweeps.

    The odds of the first component are the exponential of a quadratic in x, and each component's
    answer is affine in x; the coefficients are kept, for the sweeps share their grids.
    """

    def __init__(self, path: GaussianPath) -> None:
        self.path = path
        self._known: dict[float, tuple[float, ...]] = {}

    def _coefficients(self, t: float) -> tuple[float, ...]:
        alpha, sigma = float(self.path.alpha(t)), float(self.path.sigma(t))
        total = alpha**2 * VARIANCES + sigma**2
        gain = alpha * VARIANCES / total
        # log odds = Σ ±(log w − ½·log total − ½·(x − αm)²/total)
        quadratic = -0.5 / total
        linear = alpha * MEANS / total
        level = WEIGHTS.log() - 0.5 * total.log() - 0.5 * (alpha * MEANS) ** 2 / total
        rest = MEANS * (1 - alpha * gain)
        rows = (quadratic, linear, level, gain, rest)
        return (*(float(row[0] - row[1]) for row in rows), float(gain[1]), float(rest[1]))

    def __call__(self, x_t, t, condition=None):
        time = float(t)
        if time not in self._known:
            self._known[time] = self._coefficients(time)
        a, b, c, gain, rest, gain1, rest1 = self._known[time]
        share = ((a * x_t + b) * x_t + c).sigmoid()
        return Prediction(
            x_t, t, self.path, "x0", gain1 * x_t + rest1 + share * (gain * x_t + rest)
        )


def flow_mixture(path: GaussianPath, x: Tensor, start: float, end: float) -> Tensor:
    """Where the probability flow takes x: in one dimension it keeps every quantile.

    Solved by bisection on the exact distribution functions, from whichever tail is smaller.
    """

    def tails(t: float, at: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = float(path.alpha(t)), float(path.sigma(t))
        z = (at - alpha * MEANS) / (alpha**2 * VARIANCES + sigma**2).sqrt()
        return tuple(
            (WEIGHTS * torch.special.ndtr(sign * z)).sum(-1, keepdim=True) for sign in (1, -1)
        )

    below, above = tails(start, x)
    low, high = torch.full_like(x, -1e3), torch.full_like(x, 1e3)
    for _ in range(100):
        middle = (low + high) / 2
        now_below, now_above = tails(end, middle)
        left = torch.where(below < above, now_below < below, now_above > above)
        low, high = torch.where(left, middle, low), torch.where(left, high, middle)
    return (low + high) / 2


def flow_gaussian(field: Gaussian, x: Tensor, start: float, end: float) -> Tensor:
    """Where the probability flow of an elementwise Gaussian takes x."""

    def law(t: float) -> tuple[Tensor, Tensor]:
        alpha, sigma = float(field.path.alpha(t)), float(field.path.sigma(t))
        return alpha * field.mean, (alpha**2 * field.variance + sigma**2).sqrt()

    (mean0, std0), (mean1, std1) = law(start), law(end)
    return mean1 + std1 / std0 * (x - mean0)


def exact_moments(field: Gaussian, t: float) -> tuple[Tensor, Tensor]:
    """Mean and variance of x_t for an elementwise Gaussian."""
    alpha, sigma = float(field.path.alpha(t)), float(field.path.sigma(t))
    return alpha * field.mean, alpha**2 * field.variance + sigma**2


class Watched(Field):
    """A field that notes every time it is asked at, and can answer something else."""

    def __init__(self, field: Field, change: Callable[[int, Prediction], Prediction] | None = None):
        self.field, self.path, self.change = field, field.path, change
        self.times: list[float] = []

    def __call__(self, x_t, t, condition=None):
        said = self.field(x_t, t, condition)
        if self.change is not None:
            said = self.change(len(self.times), said)
        self.times.append(float(t))
        return said


def slope(errors: list[float]) -> float:
    """The order that errors at steps N, 2N, 4N, … show: least squares on their logarithms."""
    y = [math.log2(e) for e in errors]
    x = range(len(y))
    centre = (len(y) - 1) / 2
    return -sum((i - centre) * v for i, v in zip(x, y, strict=True)) / sum(
        (i - centre) ** 2 for i in x
    )
