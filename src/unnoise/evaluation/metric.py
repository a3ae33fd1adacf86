"""A metric of the card: its value, its error, the value of real data, and its goal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .intervals import Interval

TITLES = {
    "learned": "learned two-sample test accuracy",
    "learned_shape": "learned test accuracy by shape",
    "flawed": "flawed samples",
    "missed": "data that the samples miss",
    "frechet": "Fréchet distance",
    "frechet_ratio": "Fréchet distance ÷ floor",
    "kid": "kernel distance (KID)",
    "sliced": "sliced Wasserstein distance",
    "c2st": "linear two-sample test accuracy (C2ST)",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "memorisation": "memorisation",
    "copies": "near copies of training data",
    "accuracy": "requested-class accuracy",
    "denoising": "held-out loss ÷ trivial",
}
GOALS = {
    "learned": "0.5",
    "learned_shape": "0.5",
    "flawed": "0.01",
    "missed": "0.01",
    "frechet": "low",
    "frechet_ratio": "1",
    "kid": "0",
    "sliced": "low",
    "c2st": "0.5",
    "precision": "high",
    "recall": "high",
    "density": "1",
    "coverage": "high",
    "memorisation": "0.5",
    "copies": "0",
    "accuracy": "1",
    "denoising": "low",
}


@dataclass(frozen=True)
class Metric:
    """A value with its 95 % interval and standard error, and the values that real data reach.

    floor, floor_low, floor_high: mean, least and most of real data in the place of samples; of the
    learned test, value and 95 % interval. error: the standard error; None on cards of format 1,
    which did not store it.
    """

    value: float
    low: float
    high: float
    floor: float | None = None
    floor_low: float | None = None
    floor_high: float | None = None
    error: float | None = None

    @classmethod
    def of(cls, estimate: Interval, floor: Sequence[float] = ()) -> Metric:
        """Return the metric of an estimate and of the values that real data reached."""
        made = cls(estimate.value, estimate.low, estimate.high, error=estimate.error)
        if not len(floor):
            return made
        mean = sum(floor) / len(floor)
        return replace(made, floor=mean, floor_low=min(floor), floor_high=max(floor))

    @property
    def standard_error(self) -> float:
        """The field `error`, or if that is None, the interval's width over 2·1.96."""
        return (self.high - self.low) / (2 * 1.96) if self.error is None else self.error


@dataclass(frozen=True)
class Level:
    """The loss at noise levels `low` < t ≤ `high` on n pairs of a held-out value and noise.

    loss: mean squared error of the network's own output per number, with its 95 % interval.
    trivial: the loss of the best linear predictor of white data. train: loss on training values.
    """

    low: float
    high: float
    n: int
    loss: float
    loss_low: float
    loss_high: float
    trivial: float
    train: float


def number(x: float | None, metric: Metric | None = None) -> str:
    """Format a number to three significant digits; no digit far below the metric's error."""
    if x is None:
        return "–"
    if abs(x) >= 1000:
        return f"{x:.0f}"
    error = 0.0 if metric is None else metric.standard_error
    digits = 2 - _magnitude(x) if abs(x) > error else 1 - _magnitude(error)
    return f"{x:.{max(0, digits)}f}" if digits < 7 else f"{x:.2e}"


def _magnitude(x: float) -> int:
    return math.floor(math.log10(abs(x))) if x else -1
