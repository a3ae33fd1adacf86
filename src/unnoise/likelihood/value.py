"""What a log-likelihood says of itself: unit, dequantisation; exact, a bound or an estimate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..errors import InvalidArgument

Kind = Literal["exact", "bound", "estimate"]


@dataclass(frozen=True)
class Likelihood:
    """log p(x) of each sample, in nats over the whole event.

    nats: (batch,). kind: "exact" (up to the integrator's tolerance), "bound" (a lower bound on
    log p), "estimate" (random, unbiased). error: (batch,) the standard error of each sample's
    value where it is random, else None. dimensions: numbers in one event. dequantisation: how
    discrete data were made continuous: "none", "uniform" or "variational".
    """

    nats: Tensor
    kind: Kind
    dimensions: int
    error: Tensor | None = None
    dequantisation: str = "none"
    nfe: int = 0

    def bits_per_dim(self) -> Tensor:
        """−log₂ p(x)/dimensions, (batch,): lower is better. A density's is relative to the
        measure of the data's own units; that of discrete levels counts each level as one unit."""
        return -self.nats / (self.dimensions * math.log(2))

    def mean(self) -> tuple[float, float]:
        """Mean over the samples, in nats, and its standard error (spread over samples included)."""
        if not len(self.nats):
            raise InvalidArgument("the likelihood of no samples has no mean; give at least one")
        values = self.nats.double()
        spread = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        return float(values.mean()), spread

    @staticmethod
    def cat(parts: list[Likelihood]) -> Likelihood:
        """The parts of a data set as one; all of one kind."""
        first = parts[0]
        error = None if first.error is None else torch.cat([p.error for p in parts])  # type: ignore[misc]
        return Likelihood(
            torch.cat([p.nats for p in parts]),
            first.kind,
            first.dimensions,
            error,
            first.dequantisation,
            max(p.nfe for p in parts),
        )
