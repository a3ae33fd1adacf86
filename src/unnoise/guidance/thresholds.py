"""Predicted data brought into the data's range: clipping, dynamic thresholds, a field so shaped."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..errors import InvalidArgument
from ..fields import Field, Prediction
from ..fields.field import Conditions


class X0Rule(Protocol):
    """A function of predicted data, (batch, *event) → the same shape; frozen and hashable."""

    def __call__(self, x0: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Clip:
    """x0 clipped to ±limit (Ho et al. 2020). Raises InvalidArgument for a limit ≤ 0."""

    limit: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.limit < math.inf:
            raise InvalidArgument(f"limit is {self.limit!r}; give a positive number, such as 1")

    def __call__(self, x0: Tensor) -> Tensor:
        return x0.clamp(-self.limit, self.limit)


@dataclass(frozen=True)
class Threshold:
    """Dynamic thresholds: x0 clipped to ±s, then divided by s (Saharia et al. 2022, sec. 2.3).

    s is the quantile `share` of the magnitudes in one event, from 1 to `most`; with most=1 this is
    `Clip(1)`. Raises InvalidArgument for a share outside [0, 1] or a most below 1.
    """

    share: float = 0.995
    most: float = math.inf

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise InvalidArgument(f"share is {self.share!r}; give a number from 0 to 1")
        if not self.most >= 1:
            raise InvalidArgument(f"most is {self.most!r}; give a number of at least 1")

    def __call__(self, x0: Tensor) -> Tensor:
        sizes = x0.flatten(1).abs()
        if sizes.dtype not in (torch.float32, torch.float64):  # quantile takes no others
            sizes = sizes.float()
        s = sizes.quantile(self.share, dim=1).clamp(1.0, self.most).to(x0.dtype)
        s = s.reshape(-1, *(1,) * (x0.ndim - 1))
        return x0.clamp(-s, s) / s


class Shaped(Field):
    """See `shaped`."""

    def __init__(self, field: Field, rule: X0Rule) -> None:
        self.field, self.path, self.rule = field, field.path, rule

    def __call__(self, x_t: Tensor, t: Tensor, condition: Conditions = None) -> Prediction:
        return reshaped(self.field(x_t, t, condition), self.rule)


def shaped(field: Field, rule: X0Rule) -> Field:
    """Return the field whose x0 is rule(x0) and whose every other lens follows from that.

    ε is recomputed as (x_t − α·x0)/σ, as in DDPM, DPM-Solver, UniPC and EDM's samplers; a DDIM that
    keeps the ε of the network is `solvers.ClippedDDIM`. The field must determine x0 wherever it is
    evaluated.
    """
    return Shaped(field, rule)


def reshaped(prediction: Prediction, rule: X0Rule) -> Prediction:
    """Return the prediction whose x0 is rule(x0)."""
    return prediction.with_value("x0", rule(prediction.x0))
