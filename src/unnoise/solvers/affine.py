"""Solvers of one evaluation a step without history: x₁ = a·x + b·value + ς·ξ."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from ..fields.field import Field
from ..paths import GaussianPath
from .solver import Noise, OnStep, Solution, Solver, TimeGrid, stir

Affine = tuple[tuple[float, float, float], ...]  # (on x, on value, deviation) of every step


class AffineStep(Solver):
    """Walks a plan of (on x, on the network's own value, deviation of the noise)."""

    @abstractmethod
    def plan(self, path: GaussianPath, lens: str, times: tuple[float, ...]) -> Affine:
        """The coefficients of every step, kept by the caller's arguments."""

    def walk(
        self, field: Field, x: Tensor, times: TimeGrid, noise: Noise | None, on_step: OnStep | None
    ) -> Solution:
        nfe, plan = 0, None
        for k in range(times.steps):
            prediction = field(x, times.tensors[k])
            if plan is None:
                lens = prediction.lens
                plan = self.plan(field.path, lens, times.floats)
            nfe += prediction.nfe
            if on_step is not None and on_step(k, prediction) is False:
                return Solution(x, times.floats[k], k, nfe, False)
            on_x, on_value, spread = plan[k]
            value = prediction.value if prediction.lens == lens else prediction.as_lens(lens)
            x = torch.mul(x, on_x).add_(value, alpha=on_value)
            if spread and noise is not None:
                stir(x, noise, spread)
        return Solution(x, times.floats[-1], times.steps, nfe, True)
