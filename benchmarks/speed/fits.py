"""The growth of a cost: the exponent of a power law, with its standard error."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> tuple[float, float]:
    """Return (p, its standard error) of cost ≈ c·sizeᵖ by least squares on the logarithms.

    The error is that of the scatter about the line, √(Σr²/(n − 2) / Σ(x − x̄)²); with two points
    the line goes through both and the error is 0. Raises ValueError for fewer than two different
    sizes.
    """
    x, y = [math.log(size) for size in sizes], [math.log(cost) for cost in costs]
    if len(set(x)) < 2:
        raise ValueError(f"sizes are {list(sizes)}; an exponent needs two different ones")
    slope, intercept = statistics.linear_regression(x, y)
    if len(x) == 2:
        return slope, 0.0
    rest = sum((b - slope * a - intercept) ** 2 for a, b in zip(x, y, strict=True))
    middle = statistics.fmean(x)
    return slope, math.sqrt(rest / (len(x) - 2) / sum((a - middle) ** 2 for a in x))
