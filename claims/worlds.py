"""The worlds that claims are measured in: exact fields, distances, intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache

import torch
from torch import Tensor

from unnoise.divergences import sliced
from unnoise.evaluation.intervals import Interval
from unnoise.fields import Field, Gaussian, Mixture, Prediction
from unnoise.fields.exact import LOG_2PI
from unnoise.fields.field import Conditions
from unnoise.paths import Flow, GaussianPath, as_time, expand
from unnoise.randomness import Streams
from unnoise.solvers import Solver, get

from .claim import FAILS, HOLDS, Finding, Value
from .moments import moments

F64 = torch.float64
T_QUANTILE = {3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 8: 2.365, 10: 2.262}  # 97.5 %, n − 1


class Blobs(Mixture):
    """A mixture of round Gaussians of one size, in a few operations: for long trajectories."""

    def __init__(self, weights: Tensor, means: Tensor, size: float, path: GaussianPath) -> None:
        super().__init__(weights, means, torch.full_like(means, size**2), path)
        self.means, self.size = means, size

    def _sizes(self, x: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor]:
        times = as_time(t).double()
        alpha = expand(self.path.alpha(times), x)
        return alpha, alpha**2 * self.size**2 + expand(self.path.sigma(times), x) ** 2

    def _joint(self, x: Tensor, t: Tensor | float) -> Tensor:
        alpha, total = self._sizes(x, t)
        gap = x[:, None] - (alpha * torch.ones_like(x[:1]))[:, None] * self.means
        square = gap.square().sum(2) / total
        return self.log_weights - 0.5 * (square + self.means.shape[1] * (total.log() + LOG_2PI))

    def __call__(self, x_t: Tensor, t: Tensor, condition: Conditions = None) -> Prediction:
        alpha, total = self._sizes(x_t, t)
        gain = alpha * self.size**2 / total
        centre = self._joint(x_t, t).softmax(1) @ self.means
        return Prediction(x_t, t, self.path, "x0", centre + gain * (x_t - alpha * centre))


def ring(path: GaussianPath) -> Blobs:
    """Return eight narrow modes of unequal weight on a circle, in the plane.

    The deviation is about 0.7 a coordinate.
    """
    angle = torch.arange(8, dtype=F64) * (math.pi / 4)
    weights = torch.tensor([4, 1, 2, 1, 3, 1, 2, 2], dtype=F64)
    return Blobs(weights, torch.stack([angle.cos(), angle.sin()], 1), 0.08, path)


def pair(path: GaussianPath) -> Mixture:
    """Return 0.4·N(−1, 0.3²) + 0.6·N(1.5, 0.2²) on the line."""
    return Mixture(
        torch.tensor([0.4, 0.6], dtype=F64),
        torch.tensor([[-1.0], [1.5]], dtype=F64),
        torch.tensor([[0.09], [0.04]], dtype=F64),
        path,
    )


def spectrum(path: GaussianPath, scale: float = 1.0) -> Gaussian:
    """Return nine independent Gaussians of deviation 1 … 0.01 times `scale`.

    The spectrum of a picture falls off alike.
    """
    deviations = scale * torch.logspace(0, -2, 9, dtype=F64)
    return Gaussian(torch.zeros(9, dtype=F64), deviations**2, path)


def spectrum_error(solver: Solver | str, grid: Tensor, path: GaussianPath) -> float:
    """Return the exact W₂ between a solver's result on `spectrum` and the data, over their rms."""
    return field_error(spectrum(path), solver, grid)


def field_error(field: Gaussian, solver: Solver | str, grid: Tensor) -> float:
    """Return the exact W₂ of a solver's result and an elementwise Gaussian, over the data's rms.

    Sampling starts from the true marginal, so that only the solver's own error counts.
    """
    start, path = float(grid[0]), field.path
    scale = float(path.alpha(start)) ** 2
    variance = scale * field.variance + float(path.sigma(start)) ** 2
    mean, made = moments(get(solver), field, grid, math.sqrt(scale) * field.mean, variance)
    gap = (mean - field.mean) ** 2 + (made.sqrt() - field.variance.sqrt()) ** 2
    return float((gap.sum() / (field.mean**2 + field.variance).sum()).sqrt())


def walk(
    solver: Solver | str, field: Field, grid: Tensor, n: int, event: tuple[int, ...], seed: int = 0
) -> Tensor:
    """Return n samples, float64: noise of `seed`, solved along the grid."""
    noise = Streams(seed, range(n))
    x = field.path.prior(noise, event, float(grid[0]), 0.7).double()
    return get(solver).solve(field, x, grid, noise).x


def quality(made: Tensor, batches: int = 4) -> Interval:
    """Return the sliced W₂ of samples of the ring against 20,000 exact ones.

    The mean of batches, with Student's interval.
    """
    values = [
        sliced(part, _reference(), Streams(7, range(48), "directions")).value
        for part in made.chunk(batches)
    ]
    return interval(values)


@cache
def _reference() -> Tensor:
    return ring(Flow()).sample(Streams(1_000_003, range(20_000)))


def floor(n: int, batches: int = 4) -> Interval:
    """Return `quality` of n exact samples: the cost of sampling noise alone."""
    return quality(ring(Flow()).sample(Streams(2_000_003, range(n))), batches)


def interval(values: Sequence[float]) -> Interval:
    """Return the mean of independent repetitions and its 95 % interval (Student's t)."""
    x = torch.tensor(values, dtype=F64)
    half = T_QUANTILE[len(values)] * float(x.std()) / math.sqrt(len(values))
    centre = float(x.mean())
    return Interval(centre, centre - half, centre + half)


def mean(values: Tensor) -> Interval:
    """Return the mean of many draws and its 95 % interval (normal)."""
    centre, half = float(values.mean()), 1.96 * float(values.std()) / math.sqrt(len(values))
    return Interval(centre, centre - half, centre + half)


def share(hits: Tensor) -> Interval:
    """Return a share and its 95 % interval (Wilson)."""
    n, p, z = len(hits), float(hits.double().mean()), 1.96
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return Interval(p, min(p, centre - half), max(p, centre + half))


def below(a: Interval, b: Interval) -> bool:
    """Return whether a is smaller than b beyond both intervals."""
    return a.high < b.low


def exactly(measured: Mapping[str, Value], gap: float, wrong: str, limit: float = 1e-9) -> Finding:
    """Return a finding on an identity: it holds if the difference is rounding."""
    return Finding(measured, HOLDS if gap < limit else FAILS, remark="" if gap < limit else wrong)


class Disturbed(Field):
    """A field whose ε is off by a constant while first ≤ t < last: an error of the network."""

    def __init__(self, field: Field, by: float, first: float, last: float) -> None:
        self.field, self.path = field, field.path
        self.by, self.first, self.last = by, first, last

    def __call__(self, x_t: Tensor, t: Tensor, condition: Conditions = None) -> Prediction:
        said = self.field(x_t, t, condition)
        if not self.first <= float(t) < self.last:
            return said
        return said.with_value("eps", said.eps + self.by)
