"""What was computed, and how far it can be trusted."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

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
        """value ± width·error; 1.96 standard errors hold the truth in 95 % of repetitions."""
        if math.isinf(self.value):
            return self.value, self.value
        return self.value - width * self.error, self.value + width * self.error
