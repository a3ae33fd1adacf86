"""Ancestral sampling with the variance that a model learned."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import Unsupported
from ..fields.field import Field
from .multistep import Multistep
from .multistep_plan import compile_plan
from .solver import Noise, OnStep, Solution, Solver, TimeGrid
from .terms import combine, in_lens

_LOW, _HIGH = Multistep(eta=1.0), Multistep(eta=1.0, variance="transition")


@dataclass(frozen=True)
class LearnedAncestral(Solver):
    """DDPM's step with variance exp(v·log β + (1−v)·log β̃), v the field's own fraction.

    β and β̃ are those of the grid's steps, also where these skip steps of the chain that was
    trained (Nichol & Dhariwal 2021, sec. 4). The step into σ = 0 adds no noise. With the fraction
    that is right for the data the marginals are exact at any number of steps where the data are
    Gaussian; weak order 1 in general. Raises Unsupported where the field has no fraction.
    """

    order = 1
    stochastic = True

    def walk(
        self, field: Field, x: Tensor, times: TimeGrid, noise: Noise | None, on_step: OnStep | None
    ) -> Solution:
        nfe, lens = 0, None
        for k in range(times.steps):
            prediction = field(x, times.tensors[k])
            fraction = prediction.variance_fraction
            if fraction is None:
                raise Unsupported(
                    f"{self} on a field that has learned no variance; train with "
                    "model.learned_variance=true, or use ddpm or ddpm:variance=transition"
                )
            if lens is None:
                lens = prediction.lens
                low, high = (
                    compile_plan(kind, field.path, lens, times.floats, x.dtype)
                    for kind in (_LOW, _HIGH)
                )
            nfe += prediction.nfe
            if on_step is not None and on_step(k, prediction) is False:
                return Solution(x, times.floats[k], k, nfe, False)
            prediction = in_lens(prediction, lens)
            x = combine(x, low[k].predict, [prediction.value])
            if low[k].noise and noise is not None:
                draw = noise.normal(*x.shape[1:]).to(device=x.device, dtype=x.dtype)
                ratio = math.log(high[k].noise / low[k].noise)
                x.addcmul_(draw, torch.exp(fraction.to(x.dtype) * ratio), value=low[k].noise)
        return Solution(x, times.floats[-1], times.steps, nfe, True)
