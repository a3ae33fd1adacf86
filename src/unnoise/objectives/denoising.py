"""The denoising objective: regress x0, ε, v, score or velocity at random noise levels."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidArgument, Unsupported
from ..fields import Condition, Field, determinant, residual
from ..paths import Coupling, GaussianPath, Independent
from ..randomness import Streams, moved
from .dropout import Dropout, check_dropout, drop_some
from .objective import Batch, Loss, Objective
from .times import OneLevel, TimeDistribution, Uniform
from .weights import Weight, weight


@dataclass(frozen=True)
class Denoising(Objective):
    """E_t E_ε w(λ)·mean‖network's lens − its target‖², target a·x0 + b·ε of the model's lens.

    weight: see `objectives.weights`; times: which t; condition_dropout: share of
    samples trained on the null of a condition, which guidance needs, {name: share} or one for all
    names; coupling: which ε goes with
    which x0. The squared error is averaged over the event. In the lens velocity with weight
    "velocity" this is flow matching (Lipman et al. 2023, eq. 9), for any path and coupling: then ε
    stands for the source x1 and the model lives on a `Coupled` path.

    Raises InvalidArgument for a share outside [0, 1], Unsupported for the likelihood weight with
    times that are not uniform or with ends that are coupled, and where `draw_source` does.
    """

    weight: Weight = field(default_factory=lambda: weight("simple"))
    times: TimeDistribution = field(default_factory=Uniform)
    condition_dropout: Dropout = 0.0
    coupling: Coupling = field(default_factory=Independent)

    def __post_init__(self) -> None:
        check_dropout(self.condition_dropout)
        if isinstance(self.times, OneLevel) and self.times.sigma == 0:
            raise Unsupported(
                "there is nothing to denoise at noise level 0; give a positive level, or implicit "
                "or sliced score matching, which need no noise"
            )
        if self.weight.name == "likelihood" and not isinstance(self.times, Uniform):
            raise Unsupported(
                "the likelihood weight is a bound on log p under uniform times only; use "
                "times 'uniform' (stratified or not)"
            )

    def __call__(self, model: Field, batch: Batch, noise: Streams) -> Loss:
        x0, path = batch.x0, model.path
        t = moved(self.times.sample(path, noise.purpose("times"), *batch.place), x0.device)
        if self.weight.name == "likelihood" and not path.independent:
            raise Unsupported(
                f"the likelihood weight on {path}: with coupled ends it bounds nothing; use weight "
                "'velocity', or measure log p by the flow"
            )
        eps = draw_source(batch, path, self.coupling, noise)
        condition = drop_some(batch.condition, self.condition_dropout, noise)
        prediction = model(path.diffuse(x0, eps, t), t, condition)
        miss = residual(path, prediction.lens, prediction.value, x0, eps, t)
        error = miss.square().flatten(1).mean(1)
        per_sample = self.weight.on(prediction.lens, path, t).to(error.dtype) * error
        return Loss(per_sample.mean(), per_sample.detach(), t)

    def held_out(self) -> Denoising:
        """This loss for data not trained on: no condition is dropped."""
        return replace(self, condition_dropout=0.0)

    def baseline_loss(self, model: Any, t: Tensor) -> Tensor | None:
        """Return w·s²·det²/(α²s² + σ²) for the model's lens and data N(0, s²); None where the
        coupling rearranges."""
        if self.coupling.rearranges:
            return None
        error = baseline_error(model.path, model.predicts, model.data_std, t)
        return self.weight.on(model.predicts, model.path, t) * error

    def mean_baseline_loss(self, model: Any, seed: int = 0) -> float | None:
        t = self.times.sample(model.path, Streams(seed, range(256), "trivial"))
        loss = self.baseline_loss(model, t)
        if loss is None or not bool(torch.isfinite(loss).all()):
            return None
        return float(loss.mean())


def baseline_error(path: GaussianPath, lens: str, std: float, t: Tensor) -> Tensor:
    """Return s²·det²/(α²s² + σ²): the mean squared error in `lens` of the best linear predictor of
    x0 ~ N(0, s²), s = `std`, from x_t; same shape as t."""
    error = (std * determinant(path, lens, t)) ** 2
    return error / torch.hypot(path.alpha(t) * std, path.sigma(t)) ** 2


def draw_source(batch: Batch, path: GaussianPath, coupling: Coupling, noise: Streams) -> Tensor:
    """The other end x1 of each sample of the batch, (batch, *event): fresh noise or the batch's
    own source, rearranged by `coupling`.

    Rows are exchanged between samples of equal conditions only: otherwise the source given a
    condition would no longer be what sampling starts from. Of a batch that processes or
    accumulation take in parts, rows are exchanged inside a part: fewer of them straighten less.

    Raises Unsupported where the path promises independent noise and gets something else, or where
    conditions are not whole numbers; InvalidArgument where the path starts from data and the batch
    has none.
    """
    x0, source = batch.x0, batch.source
    if path.independent and (source is not None or coupling.rearranges):
        raise Unsupported(
            f"{coupling if coupling.rearranges else 'a given source'} on {path}, whose ε is "
            "independent noise; build the model on Coupled(path), which knows it has no score"
        )
    if source is None:
        if getattr(path, "source", "gaussian") == "data":
            raise InvalidArgument(f"{path} starts from data; give Batch(x0, source=x1)")
        source = moved(noise.normal(*x0.shape[1:]), x0.device).to(x0.dtype)
    elif source.shape != x0.shape:
        raise InvalidArgument(
            f"a source of shape {tuple(source.shape)} for data of shape {tuple(x0.shape)}; they "
            "must agree"
        )
    if not coupling.rearranges:
        return source
    return source[coupling.pair(x0, source, noise, _groups(batch.condition))]


def _groups(condition: Condition | None) -> Tensor | None:
    """Return a number for each sample, equal where all its conditions are."""
    if condition is None or not condition.keep:
        return None
    columns: list[Tensor] = []
    for name, keep in condition.keep.items():
        columns.append(keep.long()[:, None])
        for value in condition.leaves(name):
            if value.is_floating_point():
                raise Unsupported(
                    "a coupling rearranges inside groups of equal conditions, and these are not "
                    "whole numbers; use the independent coupling"
                )
            rows = value.long().reshape(len(keep), -1)
            columns.append(torch.where(keep[:, None], rows, torch.zeros_like(rows)))
    return torch.cat(columns, 1).unique(dim=0, return_inverse=True)[1]
