"""Reflow: pairs of noise and a field's sample from it, as data for a straighter field."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InvalidArgument, Unsupported, need_count
from ..fields import Condition, Field
from ..objectives import Batch
from ..randomness import Streams
from ..solvers import Solver, sample


@dataclass(frozen=True)
class Pairs:
    """Joined ends x0 (data) and x1 (source), (n, *event) each, and the condition of each pair."""

    x0: Tensor
    x1: Tensor
    condition: Condition | None = None

    def __post_init__(self) -> None:
        if self.x0.shape != self.x1.shape:
            raise InvalidArgument(
                f"pairs of shapes {tuple(self.x0.shape)} and {tuple(self.x1.shape)}; they must "
                "agree"
            )

    def __len__(self) -> int:
        return len(self.x0)

    def batch(self, rows: Tensor | slice) -> Batch:
        """Return some of the pairs as a Batch for an objective."""
        condition = None if self.condition is None else self.condition[rows]
        return Batch(self.x0[rows], condition, self.x1[rows])


@torch.no_grad()
def reflow(
    field: Field,
    noise: Streams,
    event: tuple[int, ...],
    solver: Solver,
    grid: Tensor,
    condition: Condition | None = None,
    data_std: float = 1.0,
    chunk: int = 1024,
) -> Pairs:
    """Return pairs of x1 ~ N(0, I) and `solver`'s x0 from it: (n, *event), float32.

    A model on `Coupled(Flow())` trained on these pairs (`Denoising` on `pairs.batch(rows)`) has
    the same marginals and straighter trajectories (Liu et al. 2023, section 3; from any
    teacher, on any path). x1 is the unit noise that sampling scales to its prior. Raises
    Unsupported for a solver that draws noise: then x0 is no function of x1.
    """
    if solver.stochastic:
        raise Unsupported(
            f"{solver} draws noise, so a sample is no function of where it began; reflow needs a "
            "deterministic solver"
        )
    need_count("chunk", chunk)
    if condition is not None and len(condition) != len(noise):
        raise InvalidArgument(
            f"a condition for {len(condition)} samples, and noise for {len(noise)}; give as many"
        )
    first, last = [], []
    for begin in range(0, len(noise), chunk):
        rows = slice(begin, begin + chunk)
        bound = field if condition is None else field.conditioned(condition[rows])
        first.append(sample(bound, noise[rows], event, solver, grid, data_std).x)
        last.append(noise[rows].normal(*event))
    return Pairs(torch.cat(first), torch.cat(last), condition)
