"""The denoising objective: regress x0, ε, v, score or velocity at random noise levels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from ..errors import InvalidArgument, Unsupported
from ..fields import Condition, Field, lens_row
from ..paths import expand
from ..randomness import Streams
from .times import Times, Uniform
from .weights import Weight, weight


@dataclass(frozen=True)
class Batch:
    """Data to learn from: x0 (batch, *event), and what each sample is conditioned on."""

    x0: Tensor
    condition: Condition | None = None


@dataclass(frozen=True)
class Loss:
    """A scalar to minimise, with each sample's part (batch,) and the time it was taken at."""

    value: Tensor
    per_sample: Tensor
    t: Tensor


class Objective(Protocol):
    """What to regress: a loss from a model, a batch and the batch's noise."""

    def __call__(self, model: Field, batch: Batch, noise: Streams) -> Loss: ...


@dataclass(frozen=True)
class Denoising:
    """E_t E_ε w(λ)·mean‖network's lens − its target‖², target a·x0 + b·ε of the model's lens.

    weight: see `objectives.weights`; times: which t; drop: share of samples trained without their
    condition, which teaches the null condition that guidance needs. The squared error is averaged
    over the event. Raises InvalidArgument for a drop outside [0, 1], Unsupported for the
    likelihood weight with times that are not uniform.
    """

    weight: Weight = field(default_factory=lambda: weight("simple"))
    times: Times = field(default_factory=Uniform)
    drop: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.drop <= 1:
            raise InvalidArgument(f"drop is {self.drop!r}; give a share from 0 to 1")
        if self.weight.name == "likelihood" and not isinstance(self.times, Uniform):
            raise Unsupported(
                "the likelihood weight is a bound on log p under uniform times only; use "
                "times 'uniform' (stratified or not)"
            )

    def __call__(self, model: Field, batch: Batch, noise: Streams) -> Loss:
        x0, path = batch.x0, model.path
        t = self.times.sample(path, noise.purpose("times")).to(x0.device)
        eps = noise.normal(*x0.shape[1:]).to(device=x0.device, dtype=x0.dtype)
        condition = batch.condition
        if condition is not None and self.drop:
            dropped = noise.purpose("drop").uniform() < self.drop
            condition = condition.drop(dropped.to(condition.keep.device))
        said = model(path.diffuse(x0, eps, t), t, condition)
        a, b = (expand(c, x0) for c in lens_row(path, said.lens, t))
        miss = said.value - (a * x0 + b * eps)
        miss = miss.to(torch.promote_types(miss.dtype, torch.float32))
        error = miss.square().flatten(1).mean(1)
        per_sample = self.weight.on(said.lens, path, t).to(error.dtype) * error
        return Loss(per_sample.mean(), per_sample.detach(), t)


def condition_from_labels(labels: Tensor | None) -> Condition | None:
    """The condition {"class": labels} of a labelled batch, None where there are no labels."""
    if labels is None:
        return None
    return Condition({"class": labels}, torch.ones(len(labels), dtype=torch.bool))
