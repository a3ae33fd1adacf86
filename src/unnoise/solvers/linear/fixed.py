"""Multistep solvers whose weights are given for every step, such as fitted ones."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch

from ...paths import GaussianPath
from .direction import Direction
from .executor import LinearSolver, Plan
from .moves import Levels, Move, Shares, corrector_plan

Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class FixedWeights:
    """Weights of g = κ·ε − x0, direction (1 : κ), in every step.

    predict[k]: of g at the starts of steps k, k−1, … in step k; correct[k]: of the starts of k,
    k−1, … in step k−1 redone (empty: not redone; correct[0] is empty). Weights of a step that sum
    to 1 are exact for data at one point.
    """

    kappa: float
    predict: Rows
    correct: Rows


class FixedMultistep(LinearSolver):
    """x₁ = (s₁/s₀)·x + ((σ₁α₀ − α₁σ₀)/s₀)·Σ ŵⱼgⱼ, s = σ + κα, with given ŵ and a corrector.

    One evaluation a step: a step is redone with that at its end, which the next step needs anyway.
    """

    @abstractmethod
    def weights(self, path: GaussianPath, times: tuple[float, ...]) -> FixedWeights:
        """Return the weights of every step of a grid; raise where there are none."""

    def plan(
        self, path: GaussianPath, lens: str, times: tuple[float, ...], dtype: torch.dtype
    ) -> Plan:
        given, t = self.weights(path, times), torch.tensor(times, dtype=torch.float64)
        levels, direction = Levels.of(path, t), (1.0, given.kappa)

        def step(k: int, newest: int, row: tuple[float, ...]) -> tuple[float, Shares]:
            nodes = range(newest, newest - len(row), -1)
            return levels.step(direction, k, nodes, row, levels.sigma[k + 1])

        corrections = [*given.correct[1:], ()]
        moves = [
            Move(*step(k, k, row), 0.0, step(k, k + 1, redo) if redo else None)
            for k, (row, redo) in enumerate(zip(given.predict, corrections, strict=True))
        ]
        return corrector_plan(Direction.of(path, lens, direction, t[:-1]), moves, dtype)
