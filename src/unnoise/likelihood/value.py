"""A log-likelihood with its unit, its dequantisation and its kind: exact, bound or estimate."""

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
    value if it is random, else None. dimensions: number of numbers in one event. dequantisation: of
    discrete data, "none", "uniform" or "variational". nfe: evaluations of the field.
    """

    nats: Tensor
    kind: Kind
    dimensions: int
    error: Tensor | None = None
    dequantisation: str = "none"
    nfe: int = 0

    def bits_per_dim(self) -> Tensor:
        """Return −log₂ p(x)/dimensions, (batch,): lower is better.

        A density's is relative to the measure of the data's own units; that of discrete levels
        counts each level as one unit.
        """
        return -self.nats / (self.dimensions * math.log(2))

    def mean(self) -> tuple[float, float]:
        """Return the mean over the samples, in nats, and its standard error.

        The error includes the spread over the samples.
        """
        if not len(self.nats):
            raise InvalidArgument("the likelihood of no samples has no mean; give at least one")
        values = self.nats.double()
        spread = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        return float(values.mean()), spread

    @staticmethod
    def cat(parts: list[Likelihood]) -> Likelihood:
        """Return the likelihoods of the batches of a data set as one; all of one kind."""
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
