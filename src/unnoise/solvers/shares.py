"""Multistep walks whose shares are given for every step, with a corrector that costs nothing."""

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

Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Shares:
    """How each step mixes what the field said: g = κ·ε − x0, direction (1 : κ).

    predict[k]: shares of g at the starts of steps k, k−1, … in the step k; correct[k]: of the
    starts of k, k−1, … in step k−1 done again (empty: not done again; correct[0] is). Shares of
    a step that sum to 1 are exact for data at one point.
    """

    kappa: float
    predict: Rows
    correct: Rows


class SharedSteps(Solver):
    """A multistep solver that says its shares for a grid; see `Shares`.

    x₁ = (s₁/s₀)·x + ((σ₁α₀ − α₁σ₀)/s₀)·Σ ŵⱼgⱼ, s = σ + κα: one evaluation a step, the corrected
    state of a step being where its evaluation was made for.
    """

    @abstractmethod
    def shares(self, path: GaussianPath, times: tuple[float, ...]) -> Shares:
        """The shares of every step of a grid; raises where there are none."""

    def walk(
        self, field: Field, x: Tensor, times: TimeGrid, noise: Noise | None, on_step: OnStep | None
    ) -> Solution:
        shares = self.shares(field.path, times.floats)
        keep = max(map(len, (*shares.predict, *shares.correct)))
        points: list[Tensor] = []
        plan: tuple[tuple[Mark, Terms, Terms | None], ...] = ()
        nfe, lens, base, mine = 0, "", x, False
        for k in range(times.steps):
            prediction = field(x, times.tensors[k])
            if not plan:
                lens = prediction.lens
                plan = compile_shares(shares, field.path, lens, times.floats, x.dtype)
            prediction = in_lens(prediction, lens)
            nfe += prediction.nfe
            if on_step is not None and on_step(k, prediction) is False:
                return Solution(x, times.floats[k], k, nfe, False)
            mark, predict, correct = plan[k]
            points.insert(0, marked(prediction, mark))
            del points[keep:], prediction
            if correct is None:
                base, mine = x, False
            else:
                base, mine = combine(base, correct, points, mine), True
            x = combine(base, predict, points)
        return Solution(x, times.floats[-1], times.steps, nfe, True)


@lru_cache(maxsize=128)
def compile_shares(
    shares: Shares, path: GaussianPath, lens: str, times: tuple[float, ...], dtype: torch.dtype
) -> tuple[tuple[Mark, Terms, Terms | None], ...]:
    """(what to keep, prediction, correction) of every step, for states of `dtype`."""
    t = torch.tensor(times, dtype=torch.float64)
    direction = (1.0, shares.kappa)
    alpha, sigma = path.alpha(t).tolist(), path.sigma(t).tolist()
    scale = [s + shares.kappa * a for a, s in zip(alpha, sigma, strict=True)]
    rows = g_rows(path, lens, direction, t[:-1], dtype)

    def terms(k: int, newest: int, row: tuple[float, ...]) -> Terms:
        gain = (sigma[k + 1] * alpha[k] - alpha[k + 1] * sigma[k]) / scale[k]
        weights = [(newest - i, gain * share) for i, share in enumerate(row)]
        return rows.terms(scale[k + 1] / scale[k], weights, newest, False)

    return tuple(
        (
            rows.mark(k),
            terms(k, k, shares.predict[k]),
            terms(k - 1, k, shares.correct[k]) if shares.correct[k] else None,
        )
        for k in range(len(times) - 1)
    )
