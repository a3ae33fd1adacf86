"""Continuous normalising flows by maximum likelihood, the predecessor of flow matching."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import InvalidArgument, Unsupported, need_count, unknown
from ..fields import Field
from ..fields.derivatives import basis, curvatures
from ..fields.exact import LOG_2PI
from ..likelihood.decoder import Levels
from ..likelihood.dequantise import dequantise_with, uniform_dequantiser
from ..paths import Coupled
from ..randomness import Streams
from ..solvers.adaptive import integrate
from ..solvers.tableaux import TABLEAUX
from .dropout import Dropout, check_dropout, drop_some
from .objective import Batch, Loss, Objective

TRACES = ("exact", "hutchinson")


@dataclass(frozen=True)
class MaximumLikelihood(Objective):
    """−log p(x0) in nats, log p(x0) = log N(x(1); 0, σ(1)²I) + ∫₀¹ tr(∂v/∂x) dt, dx/dt = v.

    v is the model's velocity, integrated from the data at t = 0 to the noise at t = 1 in `steps`
    equal steps of `tableau`; gradients go back through every step, so the minimised number is the
    likelihood of the discrete flow, to the tableau's order. trace: "exact" (forward mode, one
    tangent a dimension) or "hutchinson" (one ±1 direction a sample, the same along the trajectory:
    unbiased). Each step takes as many evaluations as the tableau has stages, against one of flow
    matching. The model must be on a `Coupled` path: a flow fitted so has a velocity and no score.
    condition_dropout: as for `Denoising`. levels: the levels of x0 if it is discrete: its values
    are then spread evenly over a step (Theis et al. 2016), without which the likelihood has no
    upper bound.

    Raises InvalidArgument for unknown names, no steps, a share outside [0, 1], or a path that
    starts from data; Unsupported on a path with independent noise, or whose α(1) is not zero, so
    that its prior is not N(0, σ²).
    Source: Chen et al. 2018, theorem 1; Grathwohl et al. 2019 (FFJORD; an adaptive solver there).
    """

    derivatives: ClassVar[int] = 2  # the divergence is one

    steps: int = 8
    tableau: str = "rk4"
    trace: str = "exact"
    condition_dropout: Dropout = 0.0
    levels: Levels | None = None

    def __post_init__(self) -> None:
        check_dropout(self.condition_dropout)
        need_count("steps", self.steps)
        if self.tableau not in TABLEAUX:
            raise unknown("tableau", self.tableau, TABLEAUX)
        if self.trace not in TRACES:
            raise unknown("trace", self.trace, TRACES)

    def __call__(self, model: Field, batch: Batch, noise: Streams) -> Loss:
        x0, path = batch.x0, model.path
        if path.independent:
            raise Unsupported(
                f"maximum likelihood of a flow on {path}, whose lenses promise a score; build the "
                "model on Coupled(path)"
            )
        if isinstance(path, Coupled) and path.source == "data":
            raise InvalidArgument(f"{path} ends at data, whose density is unknown; use 'gaussian'")
        if float(path.alpha(1.0)) != 0:
            raise Unsupported(f"{path} ends with signal left, not at a known density; use Flow()")
        if batch.source is not None:
            raise InvalidArgument("maximum likelihood takes no source; give Batch(x0)")
        if self.levels is not None:
            x0 = dequantise_with(
                x0, uniform_dequantiser(x0, noise.purpose("dequantise"))[0], self.levels
            )
        condition = drop_some(batch.condition, self.condition_dropout, noise)
        field = model if condition is None else model.conditioned(condition)
        if self.trace == "exact":
            directions = basis(x0)
        else:
            draw = noise.purpose("trace").normal(*x0.shape[1:]).to(x0)
            directions = torch.where(draw >= 0, 1.0, -1.0).to(x0)[None]

        def rate(state: tuple[Tensor, ...], t: Tensor) -> tuple[Tensor, ...]:
            v, curved = curvatures(lambda x: field(x, t).velocity, state[0], directions)
            return v, curved.sum(0)

        times = torch.linspace(0, 1, self.steps + 1, dtype=torch.float64)
        x1, gained = integrate(rate, (x0, x0.new_zeros(len(x0))), times, self.tableau)
        sigma = path.sigma(1.0).to(x0)
        size = x0[0].numel()
        square = (x1 / sigma).flatten(1).square().sum(1)
        nats = 0.5 * square + size * (sigma.log() + 0.5 * LOG_2PI) - gained
        return Loss(nats.mean(), nats.detach(), x0.new_zeros(len(x0)))

    def held_out(self) -> MaximumLikelihood:
        """Return this loss for held-out data: no condition is dropped."""
        return replace(self, condition_dropout=0.0)
