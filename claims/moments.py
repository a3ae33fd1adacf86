"""Exact moments of a solver's samples of Gaussian data, without sampling noise."""

from __future__ import annotations

import torch
from torch import Tensor

from unnoise.fields import Gaussian
from unnoise.solvers import Solver


class Counter:
    """Noise of one sample that is always zero and counts how often it is drawn."""

    drawn = 0

    def normal(self, *event: int) -> Tensor:
        self.drawn += 1
        return torch.zeros(1, *event, dtype=torch.float64)

    def mark(self) -> int:
        return self.drawn

    def rewound(self, mark: int = 0) -> Counter:
        return Counter()


class Impulses:
    """Noise whose draw k is 1 in row k + `first` and 0 elsewhere: reads off a linear solver."""

    def __init__(self, rows: int, first: int, drawn: int = 0):
        self.rows, self.first, self.drawn = rows, first, drawn

    def normal(self, *event: int) -> Tensor:
        out = torch.zeros(self.rows, *event, dtype=torch.float64)
        out[self.first + self.drawn] = 1.0
        self.drawn += 1
        return out

    def mark(self) -> int:
        return self.drawn

    def rewound(self, mark: int = 0) -> Impulses:
        return Impulses(self.rows, self.first, mark)


def moments(
    solver: Solver, field: Gaussian, grid: Tensor, mean: Tensor, variance: Tensor
) -> tuple[Tensor, Tensor]:
    """Exact mean and variance that `solver` gives N(mean, variance) at grid[0].

    On an elementwise Gaussian field a solve is affine in its start and in every ξ, so unit
    impulses give its matrix: row 0 is the mean, row 1 moves the start, row 2 + k the k-th draw.
    mean, variance: (*event) in float64.
    """
    counter = Counter()
    solver.solve(field, mean.expand(1, *mean.shape).clone(), grid, counter)
    draws = counter.drawn
    x = mean.expand(draws + 2, *mean.shape).clone()
    x[1] += 1.0
    out = solver.solve(field, x, grid, Impulses(draws + 2, 2)).x
    gains = out[1:] - out[0]
    return out[0], gains[0] ** 2 * variance + (gains[1:] ** 2).sum(0)
