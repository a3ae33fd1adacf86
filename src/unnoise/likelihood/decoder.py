"""The discretised decoder: from a Gaussian to the probability of a level (Ho et al. 2020)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InvalidArgument, need_count

LOG_2PI = math.log(2 * math.pi)
_FAR = 1e4  # in deviations: beyond the edges, finite so that gradients stay finite
_OFF = 0.02  # largest distance of a value from its level, in steps: rounding only


@dataclass(frozen=True)
class Levels:
    """`count` evenly spaced values from `low` to `high`: one pair, or one a channel (axis 1).

    The default is Ho et al.'s: 256 levels in [−1, 1]. Raises InvalidArgument for low ≥ high, fewer
    than two levels or tuples of different lengths.
    """

    low: tuple[float, ...] = (-1.0,)
    high: tuple[float, ...] = (1.0,)
    count: int = 256

    def __post_init__(self) -> None:
        need_count("count of levels", self.count, 2)
        if len(self.low) != len(self.high) or not self.low:
            raise InvalidArgument(
                f"levels from {self.low!r} to {self.high!r}; give as many of both, one a channel"
            )
        if not all(low < high for low, high in zip(self.low, self.high, strict=True)):
            raise InvalidArgument(f"levels from {self.low!r} to {self.high!r}; need low < high")

    def scale(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return (low, step), shaped to broadcast with (batch, *event), in the dtype of `like`."""
        if len(self.low) not in (1, like.shape[1] if like.ndim > 1 else 1):
            raise InvalidArgument(
                f"levels of {len(self.low)} channels for values of shape {tuple(like.shape)}; "
                "give one pair, or one a channel"
            )
        low, high = (
            torch.tensor(ends, dtype=torch.float64).reshape(1, -1, *(1,) * (like.ndim - 2))
            for ends in (self.low, self.high)
        )
        step = (high - low) / (self.count - 1)
        return low.to(like), step.to(like)

    def index(self, x0: Tensor) -> Tensor:
        """Return the level of each value, 0 … count − 1.

        Raises InvalidArgument for values between.
        """
        low, step = self.scale(x0)
        place = (x0 - low) / step
        index = place.round()
        wrong = ((place - index).abs() > _OFF) | (index < 0) | (index > self.count - 1)
        if bool(wrong.any()):
            value = float(x0[wrong].flatten()[0])
            raise InvalidArgument(
                f"the value {value!r} is none of the {self.count} levels from {self.low} to "
                f"{self.high}; give data on the levels, or levels=None for continuous data"
            )
        return index


def gaussian_nll(x0: Tensor, mean: Tensor, log_variance: Tensor | float) -> Tensor:
    """Return −log N(x0; mean, exp(log_variance)) of each number, in nats; the shape of x0."""
    log_variance = torch.as_tensor(log_variance, dtype=x0.dtype, device=x0.device)
    return 0.5 * (LOG_2PI + log_variance + (x0 - mean).square() * (-log_variance).exp())


def level_nll(x0: Tensor, mean: Tensor, log_variance: Tensor | float, levels: Levels) -> Tensor:
    """Return −log of the mass of N(mean, exp(log_variance)) at each number's level, in nats.

    The mass between the midpoints to the neighbouring levels, the outermost ones open to ±∞, so
    that the levels' masses sum to 1 (Ho et al. 2020, eq. 13). Accurate in both tails. Raises
    InvalidArgument for values that are no level.
    """
    index = levels.index(x0.detach())
    low, step = levels.scale(x0)
    deviation = (0.5 * torch.as_tensor(log_variance, dtype=x0.dtype, device=x0.device)).exp()
    centre = low + step * index
    below = (centre - 0.5 * step - mean) / deviation
    above = (centre + 0.5 * step - mean) / deviation
    below = torch.where(index == 0, -_FAR, below)
    above = torch.where(index == levels.count - 1, _FAR, above)
    # the smaller of the two tails loses no digits
    flip = below > 0
    a, b = torch.where(flip, -above, below), torch.where(flip, -below, above)
    upper, lower = torch.special.log_ndtr(b), torch.special.log_ndtr(a)
    gap = (lower - upper).clamp(max=-torch.finfo(x0.dtype).tiny)
    return -(upper + (-torch.expm1(gap)).log())
