"""Every solver that is linear in its evaluations: coefficients of each one, and their executor.

A solve keeps tensors: the state, and what later steps need of the start of a step and of past
evaluations. After an evaluation the network's value joins the tensors, some linear combinations of
them are taken, and some of all these are kept, the next state first.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ...fields.field import Prediction
from ...paths import GaussianPath
from ..solver import Noise, Solver, Steps, TimeGrid, draw


@dataclass(frozen=True, slots=True, eq=False)
class Combination:
    """scale·tensors[first] + Σ weight·tensors[index] over the (index, weight) in `rest` + noise·ξ.

    scale: a 0-dim tensor (which multiplies in half of a Python number's time), or None for 1;
    reuse: the first tensor is the solver's own and not needed again, so the result takes its
    memory.
    """

    first: int
    scale: Tensor | None
    rest: tuple[tuple[int, float], ...] = ()
    reuse: bool = False
    noise: float = 0.0

    def of(self, tensors: Sequence[Tensor]) -> Tensor:
        """Return the combination's value, without the noise."""
        first, rest = tensors[self.first], self.rest
        if self.reuse and first.dtype == tensors[0].dtype:
            out = first if self.scale is None else first.mul_(self.scale)
        elif self.scale is not None:
            out = torch.mul(first, self.scale)
        else:
            out, rest = torch.add(first, tensors[rest[0][0]], alpha=rest[0][1]), rest[1:]
        for index, weight in rest:
            out.add_(tensors[index], alpha=weight)
        return out


DRAW = None  # in place of a combination: fresh noise


@dataclass(frozen=True, slots=True, eq=False)
class StepCoefficients:
    """What follows one evaluation.

    k: the grid step it belongs to; t: its time where it is a stage, None at time k of the grid;
    combinations: each may use the results of those before it; keep: indices of what stays, the
    next state (or stage) first.
    """

    k: int
    combinations: tuple[Combination | None, ...]
    keep: tuple[int, ...] = (2,)
    t: Tensor | None = None


Plan = tuple[StepCoefficients, ...]


class LinearSolver(Solver):
    """A solver given by the coefficients of every evaluation on a grid."""

    @abstractmethod
    def plan(
        self, path: GaussianPath, lens: str, times: tuple[float, ...], dtype: torch.dtype
    ) -> Plan:
        """Return the coefficients, for states of `dtype` and values in `lens`."""

    def steps(self, path: GaussianPath, x: Tensor, grid: TimeGrid, noise: Noise | None) -> Steps:
        def plan(lens: str) -> Plan:
            return cached_plan(self, path, lens, grid.floats, x.dtype)

        return (yield from execute(plan, [x], grid, noise))


@lru_cache(maxsize=512)
def cached_plan(
    solver: LinearSolver,
    path: GaussianPath,
    lens: str,
    times: tuple[float, ...],
    dtype: torch.dtype,
    *first: int,
) -> Plan:
    """Return the solver's plan, made once."""
    return solver.plan(path, lens, times, dtype, *first)


def execute(
    plan: Callable[[str], Plan],
    tensors: list[Tensor],
    grid: TimeGrid,
    noise: Noise | None,
    first: int = 0,
) -> Steps:
    """Take the state tensors[0] from time `first` of the grid to its last.

    plan: as a function of the lens of the first Prediction, in which the coefficients are.
    """
    prediction: Prediction | None = yield tensors[0], grid.tensors[first]
    assert prediction is not None
    lens = prediction.lens
    for step in plan(lens):
        if prediction is None:
            t = step.t
            prediction = (
                yield (tensors[0], grid.tensors[step.k]) if t is None else (tensors[0], t, step.k)
            )
        tensors.append(prediction.value if prediction.lens == lens else prediction.as_lens(lens))
        for combination in step.combinations:
            if combination is DRAW:
                tensors.append(draw(noise, tensors[0]))
            else:
                tensors.append(combination.of(tensors))
                if combination.noise:
                    tensors[-1].add_(draw(noise, tensors[0]), alpha=combination.noise)
        tensors[:] = [tensors[i] for i in step.keep]
        prediction = None  # nothing stays that is not needed again
    return tensors[0]
