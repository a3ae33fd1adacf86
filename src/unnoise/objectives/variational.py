"""The variational bound as an objective, alone or beside denoising; learned variances."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch
from torch import Tensor

from ..errors import InvalidArgument, Unsupported
from ..fields import Field, Prediction, conversion, residual
from ..likelihood.decoder import Levels, gaussian_nll, level_nll
from ..likelihood.steps import ReverseSteps, check_variance, fraction_of
from ..paths import GaussianPath, Independent, expand
from ..randomness import Streams
from .denoising import draw_source
from .dropout import Dropout, check_dropout, drop_some
from .history import LossHistory
from .objective import Batch, Loss, Objective
from .times import Uniform
from .weights import Weight


@dataclass(frozen=True)
class Variational(Objective):
    """E_n w·mean‖error‖² + scale·T·L_n: one random term of the variational bound a sample.

    L_n is the KL divergence of step n, or the decoder's −log p(x0|x_1), in bits/dim: E[T·L_n] is
    the bound without its prior term, which has no parameters (Nichol & Dhariwal 2021, eq. 4).

    weight: of the denoising loss beside it, one of `objectives.weights`; None: the bound alone.
    With a weight the bound trains the variance only: the mean in it is detached (sec. 3.1, the
    hybrid objective: weight "simple", scale 0.001). variance: "learned", or "posterior" or
    "transition" for a bound that trains the mean. steps: T even steps of any path; None for every
    step of the model's chain. times: `Uniform`, or a `LossHistory`. levels: of discrete data, None
    for a Gaussian decoder. condition_dropout: as for `Denoising`.

    Raises InvalidArgument for impossible numbers and for steps=None on a path that is no chain,
    Unsupported for a fixed variance beside denoising and for a learned one that the model lacks.
    """

    weight: Weight | None = None
    scale: float = 1.0
    variance: str = "learned"
    steps: int | None = None
    times: Uniform | LossHistory = field(default_factory=Uniform)
    levels: Levels | None = None
    condition_dropout: Dropout = 0.0

    def __post_init__(self) -> None:
        check_variance(self.variance)
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise InvalidArgument(f"scale is {self.scale!r}; give a positive number")
        check_dropout(self.condition_dropout)
        if self.weight is not None and self.variance != "learned":
            raise Unsupported(
                f"variance {self.variance!r} beside a denoising loss: the bound would train "
                "nothing, for its mean is detached; use variance 'learned', or weight None"
            )
        if not isinstance(self.times, Uniform | LossHistory):
            raise Unsupported(
                f"times {self.times} for steps of a bound; use Uniform or LossHistory"
            )

    def __call__(self, model: Field, batch: Batch, noise: Streams) -> Loss:
        x0, path = batch.x0, model.path
        steps = _steps(path, self.steps)
        terms = steps.count + 2 - steps.first  # the decoder is a term as well
        if isinstance(self.times, LossHistory):
            term, share = self.times.draw(terms, noise.purpose("times"))
        else:
            u = self.times.sample(path, noise.purpose("times"), *batch.place)
            term, share = (u * terms).ceil().clamp(min=1).long(), torch.ones_like(u)
        n = term + steps.first - 2
        t = steps.t[n].to(x0.device)
        eps = draw_source(batch, path, Independent(), noise)
        condition = drop_some(batch.condition, self.condition_dropout, noise)
        prediction = model(path.diffuse(x0, eps, t), t, condition)
        miss = residual(path, prediction.lens, prediction.value, x0, eps, t)
        bound = self._bound(steps, prediction, miss, x0.to(miss.dtype), n)
        loss = self.scale * terms / math.log(2) * bound
        if self.weight is not None:
            error = miss.square().flatten(1).mean(1)
            loss = loss + self.weight.on(prediction.lens, path, t).to(error.dtype) * error
        if isinstance(self.times, LossHistory):
            self.times.note(term, loss)
        loss = loss * share.to(loss)
        return Loss(loss.mean(), loss.detach(), t)

    def _bound(
        self, steps: ReverseSteps, prediction: Prediction, miss: Tensor, x0: Tensor, n: Tensor
    ) -> Tensor:
        """Return L_n of each sample in nats per number of the event, (batch,)."""
        if self.weight is not None:
            miss = miss.detach()
        fraction = fraction_of(self.variance, prediction)
        if isinstance(fraction, Tensor):
            fraction = fraction.to(miss.dtype)
        _, on_value = conversion(prediction.path, prediction.lens, "x0", prediction.t)
        error = (expand(on_value, miss) * miss).square()
        nats = steps.kl(n.clamp(min=steps.first), error, fraction).flatten(1).mean(1)
        rows = (n < steps.first).nonzero().flatten().to(x0.device)
        if not len(rows):
            return nats
        value = prediction.value[rows] if self.weight is None else prediction.value[rows].detach()
        mean = Prediction(
            prediction.x_t[rows], prediction.t[rows], prediction.path, prediction.lens, value
        ).x0
        spread = steps.decoder_log_variance(
            fraction[rows] if isinstance(fraction, Tensor) else fraction
        )
        if self.levels is None:
            decoded = gaussian_nll(x0[rows], mean.to(x0.dtype), spread)
        else:
            decoded = level_nll(x0[rows], mean.to(x0.dtype), spread, self.levels)
        return nats.index_put((rows,), decoded.flatten(1).mean(1))

    def held_out(self) -> Variational:
        """Return this loss for held-out data: no condition is dropped, no history is updated."""
        times = Uniform() if isinstance(self.times, LossHistory) else self.times
        return replace(self, condition_dropout=0.0, times=times)

    def state(self) -> dict[str, Tensor]:
        """Return the loss history, if there is one."""
        return self.times.state() if isinstance(self.times, LossHistory) else {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        if isinstance(self.times, LossHistory):
            self.times.load_state(state)
        else:
            super().load_state(state)


@lru_cache(maxsize=16)
def _steps(path: GaussianPath, count: int | None) -> ReverseSteps:
    return ReverseSteps.of(path, count)
