"""A computed number with its error."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ..errors import InvalidArgument, NonFinite

Method = Literal["closed form", "quadrature", "Monte Carlo", "exact for the samples"]
Density = Callable[[Tensor], Tensor]  # points (n, *event) → log-density (n,), in nats


@dataclass(frozen=True)
class Estimate:
    """A number and its error.

    error: 0 for closed forms and for exact solutions on samples; the difference of two quadrature
    rules; one standard error of a Monte Carlo mean (nan for a single draw). An infinite value is
    certain: the error is then 0.
    """

    value: float
    error: float
    method: Method

    def interval(self, width: float = 1.96) -> tuple[float, float]:
        """Return value ± width·error; 1.96 standard errors hold the truth in 95 % of cases."""
        if math.isinf(self.value):
            return self.value, self.value
        return self.value - width * self.error, self.value + width * self.error


def monte_carlo(parts: list[Tensor]) -> Estimate:
    """Return the mean of the parts' means, and its standard error."""
    if any(len(part) == 0 for part in parts):
        raise InvalidArgument("no samples; give at least one of each")
    value = sum(float(part.mean()) for part in parts) / len(parts)
    if math.isnan(value):
        raise NonFinite("a log-density is not a number at a sample; are they samples of p and q?")
    if math.isinf(value):
        return Estimate(value, 0.0, "Monte Carlo")
    squares = [float(part.var()) / len(part) if len(part) > 1 else math.nan for part in parts]
    return Estimate(value, math.sqrt(sum(squares)) / len(parts), "Monte Carlo")
