"""Samples block by block: what one call asks for, checked at once and drawn when asked for.

A block is the samples b·B … b·B + B − 1 of a seed, whatever the call begins with. Matrix products
round by the shape they are given, so a sample's last bits belong to its block; whoever splits
work between blocks gets every bit of it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..fields import Condition, Field
from ..randomness import Streams
from ..solvers import sample as walk
from ..solvers.solver import OnStep
from .classes import Labels
from .facts import ModelFacts
from .plan import Plan


@dataclass(frozen=True)
class Samples:
    """What a model made: `values` in the data's own units, `labels` where it has classes, the
    network passes each sample cost, `x` as the network sees it, `first` the index of the first.
    Where on_step stopped the walk `finished` is False: the values are then the state that was
    reached, of the batches begun."""

    values: Tensor
    labels: Tensor | None
    nfe: int
    x: Tensor
    finished: bool = True
    first: int = 0


@dataclass(frozen=True)
class Stream:
    """The samples first … first + n − 1 of a seed, in blocks of `batch`; iterating draws them in
    order, one block in memory. See `Model.stream`."""

    facts: ModelFacts
    plan: Plan
    labels: Labels | None
    seed: int
    first: int
    n: int
    batch: int

    def __post_init__(self) -> None:
        Streams(self.seed, (self.first, self.first + self.n - 1))  # both ends can be drawn

    @property
    def blocks(self) -> range:
        """The numbers of its blocks."""
        return range(self.first // self.batch, (self.first + self.n - 1) // self.batch + 1)

    def rows(self, block: int) -> range:
        """The samples of a block: all `batch` of them but at the stream's two ends."""
        start = max(self.first, block * self.batch)
        return range(start, min(self.first + self.n, (block + 1) * self.batch))

    def __len__(self) -> int:
        return len(self.blocks)

    def __iter__(self) -> Iterator[Samples]:
        return map(self.draw, self.blocks)

    def draw(self, block: int, on_step: OnStep | None = None) -> Samples:
        """The samples of one block."""
        spec, inference, rows = self.facts.spec, self.facts.inference, self.rows(block)
        field: Field = inference.denoiser
        labels = None if self.labels is None else self.labels.of(rows)
        if labels is not None:
            chosen = Condition.of({"class": labels.to(inference.device)}, len(rows))
            field = self.plan.guide(field).conditioned(chosen)
        with torch.no_grad(), inference.context():
            made = walk(
                field,
                Streams(self.seed, rows, "sample"),
                spec.shape,
                self.plan.solver,
                self.plan.grid,
                inference.denoiser.data_std,
                inference.device,
                on_step=on_step,
            )
        x = made.x.float().cpu()
        return Samples(spec.restore(x), labels, made.nfe, x, made.finished, rows.start)

    def whole(self, on_step: OnStep | None = None) -> Samples:
        """All of them at once, in memory; where on_step stops a walk, those up to there."""
        made: list[Samples] = []
        for block in self.blocks:
            made.append(self.draw(block, on_step))
            if not made[-1].finished:
                break
        x, last = torch.cat([block.x for block in made]), made[-1]
        rows = range(self.first, self.first + len(x))
        labels = None if self.labels is None else self.labels.of(rows)
        values = self.facts.spec.restore(x)
        return Samples(values, labels, last.nfe, x, last.finished, self.first)
