"""The denoising objective: regress x0, ε, v, score or velocity at random noise levels."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from ..errors import InvalidArgument, Unsupported
from ..fields import Condition, Field, lens_row
from ..paths import Coupling, GaussianPath, Independent, expand
from ..randomness import Streams, moved
from .dropout import Dropout, check_dropout, drop_some
from .times import OneLevel, Times, Uniform
from .weights import Weight, weight


@dataclass(frozen=True)
class Batch:
    """Data to learn from: x0 (batch, *event), and what each sample is conditioned on.

    source: x1 (batch, *event), the other end of the path where it is not fresh noise: the partners
    of x0, or samples of another data set for a coupling to rearrange. start, whole: where this is
    a part of a larger batch, the position of its first sample there and that batch's size; None
    for a batch that is whole.
    """

    x0: Tensor
    condition: Condition | None = None
    source: Tensor | None = None
    start: int = 0
    whole: int | None = None

    @property
    def place(self) -> tuple[int, int]:
        """(start, whole): which part of which batch this is."""
        return self.start, len(self.x0) if self.whole is None else self.whole


@dataclass(frozen=True)
class Loss:
    """A scalar to minimise, with each sample's part (batch,) and the time it was taken at."""

    value: Tensor
    per_sample: Tensor
    t: Tensor


class Objective(Protocol):
    """What to regress: a loss from a model, a batch and the batch's noise.

    An objective may also have `held_out()`, the same loss for data not trained on, and `state()`
    with `load_state(state)`, tensors by name that its later losses depend on: a checkpoint carries
    them.
    """

    def __call__(self, model: Field, batch: Batch, noise: Streams) -> Loss: ...


@dataclass(frozen=True)
class Denoising:
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
    times: Times = field(default_factory=Uniform)
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
        a, b = (expand(c, x0) for c in lens_row(path, prediction.lens, t))
        miss = prediction.value - (a * x0 + b * eps)
        miss = miss.to(torch.promote_types(miss.dtype, torch.float32))
        error = miss.square().flatten(1).mean(1)
        per_sample = self.weight.on(prediction.lens, path, t).to(error.dtype) * error
        return Loss(per_sample.mean(), per_sample.detach(), t)

    def held_out(self) -> Denoising:
        """This loss for data not trained on: no condition is dropped."""
        return replace(self, condition_dropout=0.0)


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


def condition_from_labels(labels: Tensor | None) -> Condition | None:
    """The condition {"class": labels} of a labelled batch, None where there are no labels."""
    if labels is None:
        return None
    return Condition.of({"class": labels}, len(labels)).to(labels.device)
