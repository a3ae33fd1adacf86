"""The arena of the contest: one start noise, exact reference ends, counted evaluations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from unnoise.randomness import Streams

from .mixtures import Problem

VP_START = 157.40723  # σ/α of the last step of DDPM's linear chain of 1000
VE_START = 80.0


class OverBudget(Exception):
    """A contestant's request for one evaluation too many."""


class Evaluations:
    """The exact denoiser, with a count of its evaluations."""

    def __init__(self, problem: Problem, most: int) -> None:
        self.problem, self.most, self.count = problem, most, 0

    def __call__(self, z: Tensor, ratio: float) -> Tensor:
        """Return E[x0 | z] for z = x/α at σ/α = ratio."""
        self.count += 1
        if self.count > self.most:
            raise OverBudget
        return self.problem.denoise(z, ratio)


@dataclass
class Arena:
    """A problem, its start noise, and the exact ends of its trajectories."""

    problem: Problem
    count: int = 256
    tolerance: float = 1e-10
    ends: dict[tuple[float, float], Tensor] = field(default_factory=dict)

    def start(self, ratio: float) -> Tensor:
        """Return z at σ/α = ratio: the same standard noise, as large as the marginal."""
        noise = Streams(11, range(self.count), "contest").normal(self.problem.dim).double()
        return noise * math.hypot(ratio, self.problem.rms)

    def on_the_way(self, start: float, ratio: float) -> Tensor:
        """Return the state at σ/α = ratio of the exact trajectory from σ/α = start."""
        if (start, ratio) not in self.ends:
            (self.ends[start, ratio],) = self.problem.solve(
                self.start(start), start, [ratio], self.tolerance
            )
        return self.ends[start, ratio]

    def figures(self, z: Tensor, start: float, end: float) -> dict[str, float]:
        """Return the errors ‖z − exact‖/(√d·rms) and the share of ends in another mode.

        The errors are given by median, 90th percentile and rms.
        """
        exact = self.on_the_way(start, end)
        error = (z - exact).norm(dim=1) / (math.sqrt(self.problem.dim) * self.problem.rms)
        if not bool(torch.isfinite(error).all()):
            return {}
        near = max(end, 1e-8)
        mode, wanted = (self.problem.shares(s, near).argmax(1) for s in (z, exact))
        return {
            "median": float(error.median()),
            "p90": float(error.quantile(0.9)),
            "rms": float(error.square().mean().sqrt()),
            "wrong_mode": float((mode != wanted).double().mean()),
        }


@dataclass(frozen=True)
class Contestant:
    """A sampler: walk(evaluations, arena, budget) → (z, first σ/α, last σ/α)."""

    name: str
    walk: Callable[[Evaluations, Arena, int], tuple[Tensor, float, float]]
    default: bool = False  # a peer's documented default

    def run(self, arena: Arena, budget: int) -> dict[str, float]:
        """Return its figures at this budget, with the evaluations used; {} if it cannot run."""
        evaluations = Evaluations(arena.problem, budget)
        z, start, end = self.walk(evaluations, arena, budget)
        figures = arena.figures(z, start, end)
        return {**figures, "evaluations": evaluations.count} if figures else {}
