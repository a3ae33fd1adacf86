"""A direction g = q·ε − p·x0 in terms of the state and the network's own value, as numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ...errors import InvalidArgument
from ...fields.lenses import conversion, determinant, lens_row
from ...paths import GaussianPath
from .executor import Combination
from .registers import Registers

X0, EPS, FLOW = (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)  # g = −x0, ε, ε − x0


@dataclass(frozen=True)
class Direction:
    """g = on_x·x + on_value·value at each time of a plan.

    An evaluation is stored as one tensor proportional to g, value + share·x or x + share·value
    with |share| ≤ 1: the value itself where g does not need x.
    """

    on_x: Sequence[float]
    on_value: Sequence[float]

    @staticmethod
    def of(path: GaussianPath, lens: str, direction: tuple[float, float], t: Tensor) -> Direction:
        """Return g = (−(q·a + p·b)·x + s·value)/det at times t, s = p·σ + q·α.

        Raises Unsupported, naming the first time at which the lens does not determine g.
        """
        p, q = direction
        a, b = lens_row(path, lens, t)
        det = determinant(path, lens, t)
        on_x = (-(q * a + p * b) / det).tolist()
        on_value = ((p * path.sigma(t) + q * path.alpha(t)) / det).tolist()
        if not all(map(math.isfinite, [*on_x, *on_value])):
            for time in t.tolist():  # raises, naming the time and the lens
                conversion(path, lens, "eps" if p == 0 else "x0", time)
        return Direction(on_x, on_value)

    def stored(self, j: int, x: int, value: int) -> Combination | None:
        """Return the stored form of evaluation j from tensors x and value; None: the value."""
        on_x, on_value = self.on_x[j], self.on_value[j]
        if not on_x:
            return None
        if abs(on_x) > abs(on_value):
            return Combination(x, None, ((value, on_value / on_x),))
        return Combination(value, None, ((x, on_x / on_value),))

    def store(self, at: Registers, j: int, x: int) -> None:
        """Name the stored form of evaluation j by its number."""
        form = self.stored(j, x, at["value"])
        if form is None:
            at.alias(j, at["value"])
        else:
            at.push(j, form)

    def unit(self, j: int) -> float:
        """Return g over the stored form of evaluation j."""
        return self.on_x[j] if abs(self.on_x[j]) > abs(self.on_value[j]) else self.on_value[j]


def check_direction(direction: tuple[float, float]) -> None:
    """Raise InvalidArgument unless p, q ≥ 0 and not both 0."""
    p, q = direction
    if not (p >= 0 and q >= 0 and 0 < p + q < math.inf):
        raise InvalidArgument(f"direction is {direction!r}; give p, q ≥ 0, not both 0")


def no_start(direction: tuple[float, float], path: GaussianPath, start: float) -> str | None:
    """Return why a step of this direction cannot start there, or None: p·σ + q·α must not be 0."""
    if direction[0] == 0 and float(path.alpha(start)) == 0:
        return (
            f"a step in the direction of ε cannot start where α = 0 (t = {start:g}); use a "
            "solver that predicts x0, direction (1, 1), or start below that"
        )
    return None
