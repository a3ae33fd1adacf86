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
from .auto_table import ANCHORS, GRID_POWER, GRID_SCALE, Anchor, Rows

Array = np.ndarray
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)
LEAST_START, MOST_END = 10.0, 0.1  # σ/α by the data's deviation: walks that the shares were fit on
CLOSE = 1e-6


@dataclass(frozen=True)
class Auto(FixedMultistep):
    """Adams–Bashforth–Moulton in u = σ/(σ + κα), its numbers chosen by steps and data's scale.

    Each step predicts with up to 5 past evaluations and is corrected with up to 6 when the next
    evaluation is made, which costs nothing: N steps are N evaluations. κ, the coordinates c of
    the two polynomials (σ/(σ + cα)), and the grid are those of `auto_table` at N, interpolated in
    log N, in units of `data_std` (given by `solvers.sample` and models; else 1). Below 30 steps the
    table adds small deviations to the weights' exact integrals. The deviations sum to 0, so that
    data at one point stay exact; they hold for `own_grid` from noise to data, and on any other grid
    the weights are the exact integrals.

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
    """Chooses order, coordinate, grid and shares from the number of steps and the data's scale."""
    return Auto(data_std)


def anchor(steps: int) -> Anchor:
    """Return the table at this number of steps, interpolated in log N between anchors."""
    known = sorted(ANCHORS)
    if steps in ANCHORS:
        return ANCHORS[steps]
    below = max((n for n in known if n <= steps), default=known[0])
    above = min((n for n in known if n >= steps), default=known[-1])
    low, high = ANCHORS[below], ANCHORS[above]
    if below == above or low.points != high.points:
        return low
    share = math.log(steps / below) / math.log(above / below)

    def mixed(name: str) -> tuple:
        a, b = (np.array(getattr(each, name)) for each in (low, high))
        a, b = (np.zeros_like(c) if e.size == 0 else e for e, c in ((a, b), (b, a)))
        return _tuples((1 - share) * a + share * b)

    names = ("scales", "gaps", "predict", "correct")
    return Anchor(low.points, low.corrector, *map(mixed, names))


def _tuples(values: Array) -> tuple:
    return tuple(map(_tuples, values)) if values.ndim > 1 else tuple(values.tolist())


def chebyshev(x: Array, count: int) -> Array:
    """Return the Chebyshev polynomials 0 … count − 1 of [0, 1] at x: (len(x), count)."""
    return np.stack([np.cos(k * np.arccos(np.clip(2 * x - 1, -1, 1))) for k in range(count)], 1)


def places(steps: int) -> Array:
    """Return where the times of the own grid lie between its ends, from 1 to 0."""
    k = np.arange(steps)
    gaps = np.array(anchor(steps).gaps)
    first_last = np.stack([k == 0, k == steps - 1], 1)
    basis = np.concatenate([chebyshev(k / max(steps - 1, 1), len(gaps) - 1)[:, 1:], first_last], 1)
    size = np.exp(basis @ gaps)
    return 1 - np.concatenate([[0.0], np.cumsum(size / size.sum())])


def deviations(steps: int, table: Rows) -> Array:
    """Return what the table adds to each step's weights, less its mean later: (steps, points)."""
    k, rows = np.arange(steps), np.array(table)
    if not table:
        return np.zeros((steps, 1))
    special = np.stack([k == 1, k == 2, k == steps - 1], 1)
    basis = np.concatenate([chebyshev(k / max(steps - 1, 1), len(rows) - 3), special], 1)
    return basis @ rows


@lru_cache(maxsize=128)
def _shares(solver: Auto, path: GaussianPath, times: tuple[float, ...]) -> FixedWeights:
    steps = len(times) - 1
    table = anchor(steps)
    kappa, predict_scale, correct_scale = np.exp(table.scales) * solver.scale
    t = torch.tensor(times, dtype=torch.float64)
    alpha, sigma = path.alpha(t).numpy(), path.sigma(t).numpy()
    u = sigma / (sigma + kappa * alpha)

    def row(nodes: list[int], begin: int, scale: float, extra: Array | None) -> tuple[float, ...]:
        inside = u[begin] + (u[begin + 1] - u[begin]) * (1 + _NODES) / 2
        at = inside * kappa / (inside * kappa + scale * (1 - inside))
        own = sigma[nodes] / (sigma[nodes] + scale * alpha[nodes])
        out = lagrange(own, at) @ (_WEIGHTS / 2)
        if extra is not None:
            out += extra[: len(nodes)] - extra[: len(nodes)].mean()
        return tuple(out.tolist())

    extra = _is_own(solver, path, times, alpha, sigma)
    predict_extra = deviations(steps, table.predict) if extra and table.predict else None
    correct_extra = deviations(steps, table.correct) if extra and table.correct else None
    predict, correct = [], []
    for k in range(steps):
        nodes = list(range(k, max(k - table.points, -1), -1))
        predict.append(
            row(nodes, k, predict_scale, None if predict_extra is None else predict_extra[k])
        )
        nodes = list(range(k, max(k - 1 - table.corrector, -1), -1))
        again = None if correct_extra is None else correct_extra[k]
        correct.append(row(nodes, k - 1, correct_scale, again) if k else ())
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
