"""The probability flow as y = x/s in a coordinate c: dy/dc = k, every sample at its own place."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import NonFinite
from ..fields.field import Field, Prediction
from ..paths import GaussianPath, expand
from .embedded import Broken
from .runge_kutta import _places, _rates, _times

Look = Callable[[Prediction], None]


def refusal(path: GaussianPath, coordinate: str, start: float, end: float) -> str | None:
    """Why the flow cannot be followed in `coordinate` between two times, or None where it can."""
    for t in (start, end):
        at = torch.tensor(t, dtype=torch.float64)
        place, scale = (float(value) for value in _places(path, coordinate, at))
        steep = coordinate == "t" and not (
            math.isfinite(float(path.sigma_rate(at))) and math.isfinite(float(path.alpha_rate(at)))
        )
        if steep or not (math.isfinite(place) and math.isfinite(scale) and scale > 0):
            return (
                f"in the coordinate {coordinate!r} the flow is infinite at t = {t:g}; use 'flow', "
                "or stay away from that end"
            )
    return None


class Scaled:
    """A field's flow between two times, as flat states y = x/s(t), (batch, numbers).

    `rate` is k of `runge_kutta.COORDINATES`; `passes` counts what its calls cost. Where σ = 0 at
    an end the field cannot be asked: `inner` is the place nearest to it that may be.
    """

    def __init__(
        self,
        field: Field,
        coordinate: str,
        start: float,
        end: float,
        event: tuple[int, ...],
        dtype: torch.dtype,
        look: Look | None = None,
    ) -> None:
        self.field, self.path, self.coordinate = field, field.path, coordinate
        self.event, self.dtype, self.look, self.nfe = event, dtype, look, 0
        ends = torch.tensor([start, end], dtype=torch.float64)
        (self.start, self.end), self.scales = (
            value.tolist() for value in _places(self.path, coordinate, ends)
        )
        self.clean = [float(s) == 0 for s in self.path.sigma(ends)]
        self._known = ((self.start, start), (self.end, end))

    def inner(self, gap: float) -> tuple[float, float]:
        """Where the field may first and last be asked: `gap` beside a place where σ = 0."""
        gap = math.copysign(min(gap, 0.1 * abs(self.end - self.start)), self.end - self.start)
        return (
            self.start + gap if self.clean[0] else self.start,
            self.end - gap if self.clean[1] else self.end,
        )

    def times(self, c: Tensor) -> Tensor:
        """The times of places (batch,); exact at both ends."""
        low, high = sorted(time for _, time in self._known)
        t = _times(self.path, self.coordinate, c).clamp(low, high)
        for place, time in self._known:
            t = torch.where(c == place, time, t)
        return t

    def flat(self, x: Tensor) -> Tensor:
        """y of states x at the start."""
        return x.flatten(1) / self.scales[0]

    def unflat(self, y: Tensor) -> Tensor:
        """x of states y at the end."""
        return (y * self.scales[1]).reshape(-1, *self.event)

    def seen(self, c: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(times, x as the field is asked, s) of places and states."""
        t = self.times(c)
        s = _places(self.path, self.coordinate, t)[1]
        x = (y * s.to(y.dtype)[:, None]).reshape(-1, *self.event).to(self.dtype)
        return t, x, s

    def ask(self, x: Tensor, t: Tensor) -> tuple[Prediction, Tensor, Tensor]:
        """The field's prediction, and on_x, on_value with k = on_x·x + on_value·value."""
        prediction = self.field(x, t)
        self.nfe += prediction.nfe
        if self.look is not None:
            self.look(prediction)
        return prediction, *_rates(self.path, self.coordinate, prediction.lens, t)

    def rate(self, c: Tensor, y: Tensor) -> Tensor:
        """dy/dc, (batch, numbers)."""
        t, x, _ = self.seen(c, y)
        prediction, on_x, on_value = self.ask(x, t)
        k = expand(on_x, x) * x + expand(on_value, x) * prediction.value
        return k.flatten(1).to(y.dtype)

    def explain(self, broken: Broken, where: str) -> NonFinite:
        """The error that names a broken number's time and sample."""
        t = float(self.times(torch.tensor([broken.c], dtype=torch.float64)))
        what = broken.what if broken.what in ("state", "prediction") else "prediction or state"
        return NonFinite(
            f"the {what} is not finite at {where}, t = {t:.6g}, sample {broken.sample}; the field "
            "there is at fault (a smaller guidance scale helps where the walk diverges)"
        )


def gap_for(tol: float) -> float:
    """How far from σ = 0 the field is first asked: a midpoint step this long errs far below tol."""
    return 1e-2 * tol ** (1 / 3)
