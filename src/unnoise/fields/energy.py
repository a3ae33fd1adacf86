"""A field whose score is the gradient of a scalar."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..errors import InvalidArgument
from ..paths import GaussianPath, as_time
from .condition import Condition
from .field import Conditions, Field, Prediction
from .lenses import require_lens


class Energy(nn.Module, Field):
    """p_t(x) ∝ exp(−E(x, t)), score = −∂E/∂x.

    energy(x, t, condition) returns one number a sample, (batch,), from x (batch, *event), t
    (batch,) and a Condition or None; it may be a module, whose parameters are then this one's. The
    score can be differentiated again if gradients are on. Raises Unsupported if the path has no
    score to predict, InvalidArgument if the energy is not one number a sample.
    """

    def __init__(
        self, energy: Callable[[Tensor, Tensor, Condition | None], Tensor], path: GaussianPath
    ) -> None:
        super().__init__()
        require_lens(path, "score")
        self.energy, self.path = energy, path

    def log_density(self, x: Tensor, t: Tensor | float, condition: Conditions = None) -> Tensor:
        """Return −E(x, t), (batch,): log p_t(x) up to a constant of its own at every t."""
        if condition is not None:
            condition = Condition.of(condition, len(x)).to(x.device)
        value = self.energy(x, as_time(t).to(x.device).expand(len(x)), condition)
        if value.shape != (len(x),):
            raise InvalidArgument(
                f"an energy of shape {tuple(value.shape)} for {len(x)} samples; give one number a "
                f"sample, shape ({len(x)},)"
            )
        return -value

    def forward(self, x_t: Tensor, t: Tensor, condition: Conditions = None) -> Prediction:
        """Return the prediction at x_t: (batch, *event), t: () or (batch,)."""
        score = torch.func.grad(lambda x: self.log_density(x, t, condition).sum())(x_t)
        return Prediction.of("score", score, x_t, t, self.path)
