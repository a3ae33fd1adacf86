"""A solver whose order, coordinates, grid and weights follow from the number of steps."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ...errors import InvalidArgument, need_count
from ...paths import GaussianPath, grids
from ..linear import FixedMultistep, FixedWeights
from ..linear.weights import lagrange
from ..registry import preset
from ..solver import Solver
from .auto_table import GRID_POWER, GRID_SCALE, ROWS, Anchor, anchors

Array = np.ndarray
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)
LEAST_START, MOST_END = 10.0, 0.1  # σ/α by the data's deviation: walks that the shares were fit on
CLOSE = 1e-6


@dataclass(frozen=True)
class Auto(FixedMultistep):
    """Step by Adams–Bashforth–Moulton in u = σ/(σ + κα), its numbers set by N and the data's scale.

    Each step predicts with up to 5 past evaluations and is corrected with up to 6 when the next
    evaluation is made: N steps are N evaluations. κ, the coordinates σ/(σ + cα) of the two
    polynomials, and the grid are those of `auto_table` at N, interpolated in log N, in units of
    `data_std` (given by `solvers.sample` and models; else 1). On `own_grid` from noise to data,
    below 30 steps, the table adds deviations to the weights' exact integrals. The deviations sum
    to 0, so that data at one point stay exact.

    Everything is a function of σ/α: the trajectory is the same on every Gaussian path. `order` is
    that of 50 steps and more. Raises InvalidArgument unless data_std is positive.
    """

    data_std: float | None = None
    order = 6

    def __post_init__(self) -> None:
        if self.data_std is not None and not 0 < self.data_std < math.inf:
            raise InvalidArgument(f"data_std is {self.data_std!r}; give a positive number")

    @property
    def scale(self) -> float:
        """Return the data's deviation, 1 where none was given."""
        return 1.0 if self.data_std is None else self.data_std

    def for_data(self, data_std: float) -> Solver:
        return self if self.data_std is not None else replace(self, data_std=float(data_std))

    def own_grid(
        self, path: GaussianPath, steps: int, start: float = 1.0, end: float = 0.0
    ) -> Tensor:
        """Return the grid of N steps: (σ/(σ + cα))^(1/p) as spaced in the table, ends included."""
        need_count("steps", steps)
        ends = torch.tensor([start, end], dtype=torch.float64)
        high, low = (
            s / (s + GRID_SCALE * self.scale * a)
            for a, s in zip(path.alpha(ends).tolist(), path.sigma(ends).tolist(), strict=True)
        )
        high, low = high ** (1 / GRID_POWER), low ** (1 / GRID_POWER)
        inner = (low + (high - low) * places(steps)[1:-1]) ** GRID_POWER
        ratio = GRID_SCALE * self.scale * inner / (1 - inner)
        times = path.time(-torch.from_numpy(ratio).log())
        return grids.check(torch.cat([ends[:1], times, ends[1:]]))

    def weights(self, path: GaussianPath, times: tuple[float, ...]) -> FixedWeights:
        return _shares(self, path, times)


@preset
def auto(data_std: float | None = None) -> Solver:
    """Choose order, coordinate, grid and shares by the number of steps and the data's scale."""
    return Auto(data_std)


def anchor(steps: int) -> Anchor:
    """Return the table at this number of steps, interpolated in log N between anchors."""
    table = anchors()
    below = max((n for n in table if n <= steps), default=min(table))
    above = min((n for n in table if n >= steps), default=max(table))
    low, high = table[below], table[above]
    if below == above or low.points != high.points:
        return low
    share = math.log(steps / below) / math.log(above / below)
    names = ("scales", "gaps", "predict", "correct")
    mixed = {n: (1 - share) * getattr(low, n) + share * getattr(high, n) for n in names}
    return replace(low, **mixed)


def chebyshev(x: Array, count: int) -> Array:
    """Return the Chebyshev polynomials 0 … count − 1 of [0, 1] at x: (len(x), count)."""
    return np.stack([np.cos(k * np.arccos(np.clip(2 * x - 1, -1, 1))) for k in range(count)], 1)


def places(steps: int) -> Array:
    """Return where the times of the own grid lie between its ends, from 1 to 0."""
    k = np.arange(steps)
    gaps = anchor(steps).gaps
    first_last = np.stack([k == 0, k == steps - 1], 1)
    basis = np.concatenate([chebyshev(k / max(steps - 1, 1), len(gaps) - 1)[:, 1:], first_last], 1)
    size = np.exp(basis @ gaps)
    return 1 - np.concatenate([[0.0], np.cumsum(size / size.sum())])


def deviations(steps: int, table: Array) -> Array:
    """Return what the table adds to each step's weights, less its mean later: (steps, points)."""
    k = np.arange(steps)
    special = np.stack([k == 1, k == 2, k == steps - 1], 1)
    basis = np.concatenate([chebyshev(k / max(steps - 1, 1), ROWS - 3), special], 1)
    return basis @ table


@lru_cache(maxsize=128)
def _shares(solver: Auto, path: GaussianPath, times: tuple[float, ...]) -> FixedWeights:
    steps = len(times) - 1
    table = anchor(steps)
    kappa, predict_scale, correct_scale = np.exp(table.scales) * solver.scale
    t = torch.tensor(times, dtype=torch.float64)
    alpha, sigma = path.alpha(t).numpy(), path.sigma(t).numpy()
    u = sigma / (sigma + kappa * alpha)

    def row(nodes: range, begin: int, scale: float, extra: Array) -> tuple[float, ...]:
        inside = u[begin] + (u[begin + 1] - u[begin]) * (1 + _NODES) / 2
        at = inside * kappa / (inside * kappa + scale * (1 - inside))
        own = sigma[nodes] / (sigma[nodes] + scale * alpha[nodes])
        extra = extra[: len(nodes)]
        return tuple((lagrange(own, at) @ (_WEIGHTS / 2) + (extra - extra.mean())).tolist())

    given = _is_own(solver, path, times, alpha, sigma)
    more = [deviations(steps, rows * given) for rows in (table.predict, table.correct)]
    predict, correct = [], list[tuple[float, ...]]([()])
    for k in range(steps):
        nodes = range(k, max(k - table.points, -1), -1)
        predict.append(row(nodes, k, predict_scale, more[0][k]))
        nodes = range(k, max(k - 1 - table.corrector, -1), -1)
        if k:
            correct.append(row(nodes, k - 1, correct_scale, more[1][k]))
    return FixedWeights(float(kappa), tuple(predict), tuple(correct))


def _is_own(
    solver: Auto, path: GaussianPath, times: tuple[float, ...], alpha: Array, sigma: Array
) -> bool:
    """Return whether these are the times of the own grid, from noise to data."""
    if sigma[0] < LEAST_START * solver.scale * alpha[0]:
        return False
    if sigma[-1] > MOST_END * solver.scale * alpha[-1]:
        return False
    own = solver.own_grid(path, len(times) - 1, times[0], times[-1])
    return bool((own - torch.tensor(times, dtype=torch.float64)).abs().max() < CLOSE)
