"""The probability flow as y = x/s in a coordinate c: dy/dc = k, every sample at its own place."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import TypeVar

import torch
from torch import Tensor

from ...errors import NonFinite
from ...fields.field import Prediction
from ...paths import GaussianPath, expand
from ..coordinates import places, rates, times
from ..solver import Request
from .ode import Broken, Slopes, cross

Result = TypeVar("Result")


def why_unsupported(path: GaussianPath, coordinate: str, start: float, end: float) -> str | None:
    """Return why the flow between two times is infinite in `coordinate`, or None."""
    for t in (start, end):
        at = torch.tensor(t, dtype=torch.float64)
        place, scale = (float(value) for value in places(path, coordinate, at))
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
    """A path's flow between two times, as flat states y = x/s(t), (batch, numbers).

    c and s: see `solvers.coordinates`. Where σ = 0 at an end no field is defined there: `clean`
    marks that end, and `inner` is the place nearest to it at which a field may be evaluated.
    """

    def __init__(
        self,
        path: GaussianPath,
        coordinate: str,
        start: float,
        end: float,
        event: tuple[int, ...],
        dtype: torch.dtype,
    ) -> None:
        self.path, self.coordinate, self.event, self.dtype = path, coordinate, event, dtype
        ends = torch.tensor([start, end], dtype=torch.float64)
        (self.start, self.end), self.scales = (
            value.tolist() for value in places(path, coordinate, ends)
        )
        self.clean = [float(s) == 0 for s in path.sigma(ends)]
        self._known = ((self.start, start), (self.end, end))

    def inner(self, gap: float) -> tuple[float, float]:
        """Return the first and the last place of evaluation: `gap` beside a place where σ = 0."""
        gap = math.copysign(min(gap, 0.1 * abs(self.end - self.start)), self.end - self.start)
        return (
            self.start + gap if self.clean[0] else self.start,
            self.end - gap if self.clean[1] else self.end,
        )

    def times(self, c: Tensor) -> Tensor:
        """Return the times of places (batch,); exact at both ends."""
        low, high = sorted(time for _, time in self._known)
        t = times(self.path, self.coordinate, c).clamp(low, high)
        for place, time in self._known:
            t = torch.where(c == place, time, t)
        return t

    def flat(self, x: Tensor) -> Tensor:
        """Return y of states x at the start."""
        return x.flatten(1) / self.scales[0]

    def unflat(self, y: Tensor) -> Tensor:
        """Return x of states y at the end."""
        return (y * self.scales[1]).reshape(-1, *self.event)

    def seen(self, c: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (times, x in the field's dtype, s) of places and states."""
        t = self.times(c)
        s = places(self.path, self.coordinate, t)[1]
        x = (y * s.to(y.dtype)[:, None]).reshape(-1, *self.event).to(self.dtype)
        return t, x, s

    def row(self, lens: str, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (on_x, on_value) with k = on_x·x + on_value·value for a value in `lens`."""
        return rates(self.path, self.coordinate, lens, t)

    def rate(self, prediction: Prediction, dtype: torch.dtype) -> Tensor:
        """Return dy/dc, (batch, numbers), of a prediction."""
        x = prediction.x_t
        on_x, on_value = self.row(prediction.lens, prediction.t)
        k = expand(on_x, x) * x + expand(on_value, x) * prediction.value
        return k.flatten(1).to(dtype)

    def stages(self, slopes: Slopes[Result], k: int) -> Generator[Request, Prediction, Result]:
        """Relay the evaluations of `slopes` as stages of step k; return its result."""
        try:
            c, y = next(slopes)
            while True:
                t, x, _ = self.seen(c, y)
                c, y = slopes.send(self.rate((yield x, t, k), y.dtype))
        except StopIteration as end:
            return end.value

    def across(self, y: Tensor) -> Slopes[Tensor]:
        """Take y from start to end in one midpoint step, one of them being where σ = 0."""
        return cross(y, self.start, self.end, blind=self.clean[0])

    def explain(self, broken: Broken, where: str) -> NonFinite:
        """Return the error that names a broken number's time and sample."""
        t = float(self.times(torch.tensor([broken.c], dtype=torch.float64)))
        what = broken.what if broken.what in ("state", "prediction") else "prediction or state"
        return NonFinite(
            f"the {what} is not finite at {where}, t = {t:.6g}, sample {broken.sample}; the field "
            "there is at fault (a smaller guidance scale helps where the walk diverges)"
        )


def gap_for(tol: float) -> float:
    """Return how far from σ = 0 evaluations begin: a midpoint step this long errs far below tol."""
    return 1e-2 * tol ** (1 / 3)
