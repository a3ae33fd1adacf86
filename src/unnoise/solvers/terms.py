"""What plans are made of: linear combinations of a state and of Predictions, as Python floats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InvalidArgument
from ..fields.field import Prediction
from ..fields.lenses import conversion, determinant, lens_row
from ..paths import GaussianPath


@dataclass(frozen=True)
class Terms:
    """A linear combination: of the base state, and (index, on x_t, on value) of Predictions."""

    base: float
    past: tuple[tuple[int, float, float], ...]


def combine(base: Tensor, terms: Terms, history: Sequence[Prediction]) -> Tensor:
    """The combination's value, as a new tensor."""
    x = torch.mul(base, terms.base)
    for index, on_x, on_value in terms.past:
        past = history[index]
        x.add_(past.value, alpha=on_value)
        if on_x:
            x.add_(past.x_t, alpha=on_x)
    return x


def in_lens(prediction: Prediction, lens: str) -> Prediction:
    """The prediction said in the lens a plan was compiled for."""
    if prediction.lens == lens:
        return prediction
    return prediction.with_value(lens, prediction.through(lens))


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
    path: GaussianPath, lens: str, direction: tuple[float, float], t: Tensor
) -> tuple[list[float], list[float]]:
    """(on x, on value) of g = q·ε − p·x0 at times t: g = (−(q·a + p·b)·x + s·value)/det.

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
    return on_x, on_value
