"""Learned interpolants: networks for the two conditional means, and their loss."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..errors import InvalidArgument
from ..fields.condition import Condition
from ..fields.field import Conditions
from ..objectives import Batch, Loss, Objective, TimeDistribution, Uniform, draw_source
from ..objectives.dropout import Dropout, check_dropout, drop_some
from ..paths import Coupled, Coupling, Independent, as_time, expand
from ..randomness import Streams, moved
from .interpolant import Bridge, BridgeField, Interpolant


class Translator(nn.Module, BridgeField):
    """Two networks as a BridgeField: one for E[α̇x0 + β̇x1 | x_t], the other for E[z | x_t].

    Both are called `network(x, t, condition)` with x = x_t/√(α²s₀² + β²s₁² + γ²), s = `stds` the
    deviations of data and source. Without a latent (`latent="none"`) there is one network. Raises
    InvalidArgument if the networks do not fit the interpolant.
    """

    def __init__(
        self,
        interpolant: Interpolant,
        drift: nn.Module,
        latent: nn.Module | None = None,
        stds: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        super().__init__()
        if (latent is None) != (interpolant.latent == "none"):
            raise InvalidArgument(
                f"{'no' if latent is None else 'a'} network for z on {interpolant}; give one "
                "exactly where the latent is not 'none'"
            )
        if not all(0 < std < math.inf for std in stds):
            raise InvalidArgument(f"stds are {stds!r}; give two positive numbers")
        self.interpolant, self.drift, self.latent, self.stds = interpolant, drift, latent, stds

    def forward(self, x_t: Tensor, t: Tensor, condition: Conditions = None) -> Bridge:
        """Return the Bridge at x_t: (batch, *event), t: () or (batch,)."""
        times, path = as_time(t).to(x_t.device), self.interpolant
        size = torch.hypot(path.alpha(times) * self.stds[0], path.beta(times) * self.stds[1])
        size = torch.hypot(size, path.gamma(times))
        if condition is not None:
            condition = Condition.of(condition, len(x_t)).to(x_t.device)
        dtype = next((p.dtype for p in self.parameters()), x_t.dtype)
        x, level = (x_t * expand(1 / size, x_t)).to(dtype), times.float().expand(len(x_t))
        drift = self.drift(x, level, condition).to(x_t.dtype)
        if self.latent is None:
            return Bridge(x_t, times, path, drift, torch.zeros_like(drift))
        z = self.latent(x, level, condition).to(x_t.dtype)
        return Bridge(x_t, times, path, drift, z, nfe=2)


@dataclass(frozen=True)
class InterpolantMatching(Objective):
    """E_t [ mean‖drift − (α̇x0 + β̇x1)‖² + mean‖ẑ − z‖² ] at x_t = αx0 + βx1 + γz.

    The minimiser is the pair of conditional means that give velocity and score (Albergo et al.
    2023, section 2; they regress the velocity with γ̇z in one, whose variance is infinite at the
    ends of a root). times: distribution of t; coupling: rearranges the batch's `source` x1, which
    `Batch(x0, source=x1)` must hold; condition_dropout: as for `Denoising`.
    Raises InvalidArgument for a share outside [0, 1] or a batch without a source.
    """

    times: TimeDistribution = field(default_factory=Uniform)
    coupling: Coupling = field(default_factory=Independent)
    condition_dropout: Dropout = 0.0

    def __post_init__(self) -> None:
        check_dropout(self.condition_dropout)

    def __call__(self, model: BridgeField, batch: Batch, noise: Streams) -> Loss:
        x0, path = batch.x0, model.interpolant
        t = moved(self.times.sample(path.path, noise.purpose("times"), *batch.place), x0.device)
        z = moved(noise.normal(*x0.shape[1:]), x0.device).to(x0.dtype)
        x1 = draw_source(batch, Coupled(path.path, "data"), self.coupling, noise)
        condition = drop_some(batch.condition, self.condition_dropout, noise)
        prediction = model(path.between(x0, x1, z, t), t, condition)
        error = _square(prediction.drift - path.drift(x0, x1, t))
        if path.latent != "none":
            error = error + _square(prediction.z - z)
        return Loss(error.mean(), error.detach(), t)


def _square(miss: Tensor) -> Tensor:
    miss = miss.to(torch.promote_types(miss.dtype, torch.float32))
    return miss.square().flatten(1).mean(1)
