"""What plans are made of: linear combinations of a state and of what was said along the way."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import InvalidArgument
from ..fields.field import Prediction
from ..fields.lenses import conversion, determinant, lens_row
from ..paths import GaussianPath


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """base·x + Σ weight·point, over the (index, weight) in `past`.

    base: a 0-dim tensor, which costs a multiplication half of what a Python number does. own: the
    last point's weight where that point is the walk's own and not needed again, so that the sum
    may be taken in its memory; it is then the last of `past`. on_x: the base as a float.
    """

    base: Tensor
    past: tuple[tuple[int, float], ...]
    on_x: float = 0.0
    own: Tensor | None = None


def combine(x: Tensor, terms: Terms, points: Sequence[Tensor], mine: bool = False) -> Tensor:
    """The combination's value, in x's memory where that is the walk's own (`mine`)."""
    past = terms.past
    if terms.own is not None and points[-1].dtype == x.dtype:
        out = points[-1].mul_(terms.own).add_(x, alpha=terms.on_x)
        past = past[:-1]
    else:
        out = x.mul_(terms.base) if mine else torch.mul(x, terms.base)
    for index, weight in past:
        out.add_(points[index], alpha=weight)
    return out


def factor(value: float, dtype: torch.dtype) -> Tensor:
    """A number as the 0-dim tensor that multiplies states of `dtype` as the number itself does."""
    kind = torch.float32 if dtype == torch.float32 else torch.float64
    with torch.inference_mode(False):  # plans outlive the walk that made them
        return torch.tensor(value, dtype=kind, device="cpu")


class Mark(NamedTuple):
    """What a walk keeps of a Prediction, one tensor that g is a multiple of.

    value + share·x_t, or where `of_x` x_t + share·value: |share| ≤ 1, 0 for the value itself.
    """

    of_x: bool
    share: float


def marked(prediction: Prediction, mark: Mark, free: bool = False) -> Tensor:
    """What the walk keeps of a Prediction: its value where mark.share is 0, or a new tensor, in
    the memory of x_t where that is `free`."""
    if not mark.share:
        return prediction.value
    a, b = (prediction.x_t, prediction.value) if mark.of_x else (prediction.value, prediction.x_t)
    if free:
        return torch.add(a, b, alpha=mark.share, out=prediction.x_t)
    return torch.add(a, b, alpha=mark.share)


@dataclass(frozen=True)
class Rows:
    """g = on_x·x_t + on_value·value at each time of a plan, for states of `dtype`."""

    on_x: Sequence[float]
    on_value: Sequence[float]
    dtype: torch.dtype

    def mark(self, j: int) -> Mark:
        """What to keep of the Prediction at the j-th time."""
        on_x, on_value = self.on_x[j], self.on_value[j]
        if abs(on_x) > abs(on_value):
            return Mark(True, on_value / on_x)
        return Mark(False, on_x / on_value if on_x else 0.0)

    def unit(self, j: int) -> float:
        """g in units of the mark."""
        return self.on_x[j] if abs(self.on_x[j]) > abs(self.on_value[j]) else self.on_value[j]

    def terms(
        self, base: float, shares: Iterable[tuple[int, float]], newest: int, fresh: bool
    ) -> Terms:
        """base·x + Σ share·g over (time, share), points counted back from the time `newest`.

        fresh: x is the state that the newest Prediction was made at, and the newest point is its
        value: its part on x_t joins the base.
        """
        past = []
        for j, share in shares:
            if fresh and j == newest:
                base, weight = base + share * self.on_x[j], share * self.on_value[j]
            else:
                weight = share * self.unit(j)
            if weight:
                past.append((newest - j, weight))
        return Terms(factor(base, self.dtype), tuple(past), base)

    def reused(self, terms: Terms, oldest: int, length: int) -> Terms:
        """The same, taken in the memory of the last of `length` points, that at time `oldest`."""
        if not terms.past or terms.past[-1][0] != length - 1 or not self.mark(oldest).share:
            return terms
        return replace(terms, own=factor(terms.past[-1][1], self.dtype))


def in_lens(prediction: Prediction, lens: str) -> Prediction:
    """The prediction said in the lens a plan was compiled for."""
    if prediction.lens == lens:
        return prediction
    return prediction.with_value(lens, prediction.as_lens(lens))


def check_direction(direction: tuple[float, float]) -> None:
    """Raise InvalidArgument unless p, q ≥ 0 and not both 0."""
    p, q = direction
    if not (p >= 0 and q >= 0 and 0 < p + q < math.inf):
        raise InvalidArgument(f"direction is {direction!r}; give p, q ≥ 0, not both 0")


def no_start(direction: tuple[float, float], path: GaussianPath, start: float) -> str | None:
    """Why a walk in this direction cannot start there, or None: s = p·σ + q·α must not be 0."""
    if direction[0] == 0 and float(path.alpha(start)) == 0:
        return (
            f"a step in the direction of ε cannot start where α = 0 (t = {start:g}); use a "
            "solver that predicts x0, direction (1, 1), or start below that"
        )
    return None


def posterior_noise(eta: float, sigma: float, lam0: float, lam1: float) -> tuple[float, float]:
    """(where a step to deviation sigma aims in σ, deviation of the noise it adds).

    ς = η·σ₁·√(1 − SNR₀/SNR₁): η = 1 is the posterior q(x₁|x₀, x0); the aim is √(σ₁² − ς²).
    """
    if not eta:
        return sigma, 0.0
    h = lam1 - lam0
    added = eta * sigma * math.sqrt(-math.expm1(-2 * h))
    if eta == 1:
        return sigma * math.exp(-h), added
    return math.sqrt(max(sigma**2 - added**2, 0.0)), added


def g_rows(
    path: GaussianPath, lens: str, direction: tuple[float, float], t: Tensor, dtype: torch.dtype
) -> Rows:
    """g = q·ε − p·x0 at times t: g = (−(q·a + p·b)·x + s·value)/det.

    Raises Unsupported, naming the first time at which the lens does not determine g.
    """
    p, q = direction
    a, b = lens_row(path, lens, t)
    det = determinant(path, lens, t)
    on_x = (-(q * a + p * b) / det).tolist()
    on_value = ((p * path.sigma(t) + q * path.alpha(t)) / det).tolist()
    if not all(map(math.isfinite, [*on_x, *on_value])):
        for time in t.tolist():  # names the time and the lens
            conversion(path, lens, "eps" if p == 0 else "x0", time)
    return Rows(on_x, on_value, dtype)
