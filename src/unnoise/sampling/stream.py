"""Samples block by block: what one request asks for, checked at once and drawn block by block.

A block is the samples b·B … b·B + B − 1 of a seed, whatever the request begins with. Matrix
products round by the shape of their operands, so a sample's last bits belong to its block, and
work that is split at block borders is bitwise reproducible.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InvalidArgument
from ..fields import Field
from ..randomness import Streams
from ..solvers import sample as draw_samples
from ..solvers.solver import OnStep
from .conditions import Labels, SampleConditions, conditions_for
from .facts import ModelFacts
from .plan import Plan, make_plan
from .request import SampleRequest


@dataclass(frozen=True)
class SampleReport:
    """Samples of a model: `values` in the data's own units, `columns` by name of what they were
    conditioned on, nfe the
    network evaluations that each sample cost, `x` as the network sees it, `first` the index of the
    first. Where on_step stopped the solver `finished` is False: the values are then the state that
    was reached, of the blocks begun."""

    values: Tensor
    columns: Mapping[str, Tensor]
    nfe: int
    x: Tensor
    finished: bool = True
    first: int = 0

    @property
    def labels(self) -> Tensor | None:
        """The classes; None where the model has none."""
        return self.columns.get("class")


@dataclass(frozen=True)
class Stream:
    """The samples first … first + n − 1 of a seed, in blocks of `batch`; iterating draws them in
    order, one block in memory. See `Model.stream`."""

    facts: ModelFacts
    request: SampleRequest
    plan: Plan
    conditions: SampleConditions
    n: int

    def __post_init__(self) -> None:
        # both ends can be drawn
        Streams(self.request.seed, (self.first, self.first + self.n - 1))

    @property
    def labels(self) -> Labels | None:
        """The rule of the labels; None where the model has none."""
        return self.conditions.labels

    @property
    def first(self) -> int:
        """The index of the first sample."""
        return self.request.first

    @property
    def batch(self) -> int:
        """The samples of a block."""
        return self.request.batch

    @property
    def blocks(self) -> range:
        """The numbers of its blocks."""
        return range(self.first // self.batch, (self.first + self.n - 1) // self.batch + 1)

    def rows(self, block: int) -> range:
        """Return the samples of a block: all `batch` of them but at the stream's two ends."""
        start = max(self.first, block * self.batch)
        return range(start, min(self.first + self.n, (block + 1) * self.batch))

    def __len__(self) -> int:
        return len(self.blocks)

    def __iter__(self) -> Iterator[SampleReport]:
        return map(self.draw, self.blocks)

    def draw(self, block: int, on_step: OnStep | None = None) -> SampleReport:
        """Draw the samples of one block."""
        spec, inference, rows = self.facts.spec, self.facts.inference, self.rows(block)
        field: Field = inference.denoiser
        condition = self.conditions.condition(rows)
        if condition is not None:
            field = self.plan.guide(field).conditioned(condition.to(inference.device))
        with torch.no_grad(), inference.context():
            made = draw_samples(
                field,
                Streams(self.request.seed, rows, "sample"),
                spec.shape,
                self.plan.solver,
                self.plan.grid,
                inference.denoiser.data_std,
                inference.device,
                on_step=on_step,
            )
        x = made.x.float().cpu()
        columns = self.conditions.columns(rows)
        return SampleReport(spec.restore(x), columns, made.nfe, x, made.finished, rows.start)

    def whole(self, on_step: OnStep | None = None) -> SampleReport:
        """Draw all of them into memory; where on_step stops a block, those up to there."""
        self.facts.check_affordable(self.n)
        made: list[SampleReport] = []
        for block in self.blocks:
            made.append(self.draw(block, on_step))
            if not made[-1].finished:
                break
        x, last = torch.cat([block.x for block in made]), made[-1]
        rows = range(self.first, self.first + len(x))
        columns = self.conditions.columns(rows)
        values = self.facts.spec.restore(x)
        return SampleReport(values, columns, last.nfe, x, last.finished, self.first)


def open_stream(facts: ModelFacts, request: SampleRequest) -> Stream:
    """Return the samples of a request. Raises InvalidArgument for what cannot be drawn."""
    plan = make_plan(facts, request)
    conditions, n = conditions_for(facts, request.condition, request.n, request.first)
    if request.given("guidance") is not None:
        for name in (name for section in plan.config.guidance for name in section.names):
            if name not in conditions.rules:
                raise InvalidArgument(
                    f"guidance by {name} was asked for, and no {name} is given; give "
                    f'condition={{"{name}": …}} (--condition {name}=…), or take it out'
                )
    return Stream(facts, request, plan, conditions, n)
