"""DDIM with x0 kept in the range of the data, and ε as the network predicts it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...fields.field import Prediction
from ...guidance.thresholds import Clip, X0Rule
from ...paths import GaussianPath
from ..solver import Noise, Steps, TimeGrid, draw
from .one_step import DDIM


@dataclass(frozen=True)
class ClippedDDIM(DDIM):
    """x₁ = α₁·rule(x0) + aim·ε + ς·ξ, with DDIM's aim and ς: ε does not follow from the new x0.

    rule: `Clip`, `Threshold` or another function of x0. It is what diffusers' DDIM does with
    clip_sample or thresholding, unless use_clipped_model_output recomputes ε too: that is `DDIM` on
    a field `shaped` by the rule. The field must determine x0 and ε wherever it is evaluated.
    """

    rule: X0Rule = field(default_factory=Clip)

    def steps(self, path: GaussianPath, x: Tensor, grid: TimeGrid, noise: Noise | None) -> Steps:
        for k in range(grid.steps):
            prediction = yield x, grid.tensors[k]
            x, std = self.kernel(prediction, grid.floats[k], grid.floats[k + 1])
            if bool(std.any()):
                x = torch.addcmul(x, draw(noise, x), std)
            del prediction
        return x

    def kernel(self, prediction: Prediction, t: float, s: float) -> tuple[Tensor, Tensor]:
        mean, std = super().kernel(prediction, t, s)
        x0 = prediction.x0
        return mean + float(prediction.path.alpha(s)) * (self.rule(x0) - x0), std
