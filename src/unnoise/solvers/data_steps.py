"""Stochastic multistep walks on x0: what SA-Solver and ER-SDE-Solver have in common."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..fields.field import Field
from ..paths import GaussianPath
from .solver import Noise, OnStep, Solution, Solver, TimeGrid
from .terms import Mark, Terms, combine, g_rows, in_lens, marked

X0 = (1.0, 0.0)


@dataclass(frozen=True)
class Move:
    """Step k aims at `aim` in σ with weights on x0 at the nodes, and adds `noise`·ξ.

    predict: ŵ for x0 at times k, k − 1, …; correct: ŵ for x0 at times k + 1, k, k − 1, …, with
    which the step is done again (same ξ) when its end has been evaluated; None: it is not.
    """

    aim: float
    noise: float
    predict: tuple[float, ...]
    correct: tuple[float, ...] | None = None


@dataclass(frozen=True)
class _Step:
    mark: Mark
    predict: Terms
    correct: Terms | None
    noise: float


class DataSteps(Solver):
    """x₁ = (aim/σ₀)·x + (α₁ − α₀·aim/σ₀)·Σ ŵⱼ·x0ⱼ + ς·ξ: see `Move`. One pass a step."""

    points: int

    @abstractmethod
    def moves(self, times: tuple[float, ...], sigma: list[float], lam: list[float]) -> list[Move]:
        """Every step of a walk, from the times and their σ and log-SNR."""

    def walk(
        self, field: Field, x: Tensor, times: TimeGrid, noise: Noise | None, on_step: OnStep | None
    ) -> Solution:
        nfe, points, plan, lens = 0, list[Tensor](), None, ""
        before, drawn = x, None
        for k in range(times.steps):
            prediction = field(x, times.tensors[k])
            if plan is None:
                lens = prediction.lens
                plan = compile_plan(self, field.path, lens, times.floats, x.dtype)
            prediction = in_lens(prediction, lens)
            nfe += prediction.nfe
            if on_step is not None and on_step(k, prediction) is False:
                return Solution(x, times.floats[k], k, nfe, False)
            points.insert(0, marked(prediction, plan[k].mark))
            del prediction
            last = plan[k - 1]
            if k and last.correct is not None:
                x = combine(before, last.correct, points)
                if drawn is not None:
                    x.add_(drawn, alpha=last.noise)
            del points[self.points :]
            before, drawn = x, None
            x = combine(before, plan[k].predict, points)
            if plan[k].noise and noise is not None:
                drawn = noise.normal(*x.shape[1:]).to(device=x.device, dtype=x.dtype)
                x.add_(drawn, alpha=plan[k].noise)
        return Solution(x, times.floats[-1], times.steps, nfe, True)


@lru_cache(maxsize=128)
def compile_plan(
    solver: DataSteps, path: GaussianPath, lens: str, times: tuple[float, ...], dtype: torch.dtype
) -> tuple[_Step, ...]:
    """Every coefficient of a walk, on states of `dtype` and what is kept of Predictions."""
    t = torch.tensor(times, dtype=torch.float64)
    alpha, sigma, lam = (f(t).tolist() for f in (path.alpha, path.sigma, path.log_snr))
    rows = g_rows(path, lens, X0, t[:-1], dtype)

    def terms(k: int, aim: float, nodes: list[int], weights: tuple[float, ...]) -> Terms:
        gain = aim * alpha[k] / sigma[k] - alpha[k + 1]
        shares = ((j, gain * weight) for j, weight in zip(nodes, weights, strict=True))
        return rows.terms(aim / sigma[k], shares, nodes[0], False)

    plan = []
    for k, move in enumerate(solver.moves(times, sigma, lam)):
        predict = terms(k, move.aim, list(range(k, k - len(move.predict), -1)), move.predict)
        correct = None
        if move.correct is not None:
            nodes = list(range(k + 1, k + 1 - len(move.correct), -1))
            correct = terms(k, move.aim, nodes, move.correct)
        plan.append(_Step(rows.mark(k), predict, correct, move.noise))
    return tuple(plan)
