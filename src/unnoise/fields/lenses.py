"""The five lenses: linear re-labellings of one prediction, converted by one table.

A lens is a·x0 + b·ε; with x_t = α·x0 + σ·ε any lens determines any other, by one 2×2 solve with
the determinant α·b − σ·a.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import InvalidArgument, Unsupported, unknown
from ..paths import GaussianPath, as_time, expand

LENSES: dict[str, Callable[[GaussianPath, Tensor], tuple[Tensor, Tensor]]] = {
    "x0": lambda p, t: (torch.ones_like(t), torch.zeros_like(t)),
    "eps": lambda p, t: (torch.zeros_like(t), torch.ones_like(t)),
    "score": lambda p, t: (torch.zeros_like(t), -1 / p.sigma(t)),
    "v": lambda p, t: (-p.sigma(t), p.alpha(t)),
    "velocity": lambda p, t: (p.alpha_rate(t), p.sigma_rate(t)),
}


def check_lens(lens: str) -> str:
    """Return `lens`; raise InvalidArgument with the known names for another."""
    if lens not in LENSES:
        raise unknown("lens", lens, LENSES)
    return lens


def lens_row(path: GaussianPath, lens: str, t: Tensor | float) -> tuple[Tensor, Tensor]:
    """Return (a, b) of the lens a·x0 + b·ε at times t."""
    return LENSES[check_lens(lens)](path, as_time(t))


def determinant(path: GaussianPath, lens: str, t: Tensor | float) -> Tensor:
    """Return α·b − σ·a: x0 −σ, eps α, score −α/σ, v α² + σ², velocity α·σ̇ − σ·α̇."""
    t = as_time(t)
    if lens == "score":  # written out: −1/σ may overflow where −α/σ is finite
        return -path.alpha(t) / path.sigma(t)
    a, b = lens_row(path, lens, t)
    return path.alpha(t) * b - path.sigma(t) * a


def conversion(
    path: GaussianPath, source: str, target: str, t: Tensor | float
) -> tuple[Tensor, Tensor]:
    """Return (c, d) with target = c·x_t + d·source, at times t, in float64.

    Raises Unsupported if the source lens does not determine the target: its determinant is zero
    (eps where α = 0, x0 where σ = 0) or a coefficient is not finite.
    """
    t = as_time(t).double()
    if check_lens(source) == check_lens(target):
        return torch.zeros_like(t), torch.ones_like(t)
    if "score" in (source, target):
        require_score(path)
    a, b = lens_row(path, source, t)
    a2, b2 = lens_row(path, target, t)
    alpha, sigma = path.alpha(t), path.sigma(t)
    if source == "score":  # multiply the row by −σ: no infinities where σ is small
        a, b = torch.zeros_like(t), torch.ones_like(t)
    det = alpha * b - sigma * a
    on_x, on_value = (a2 * b - b2 * a) / det, (b2 * alpha - a2 * sigma) / det
    if source == "score":
        on_value = -on_value * sigma
    bad = ~(torch.isfinite(on_x) & torch.isfinite(on_value)) | (det == 0)
    if bool(bad.any()):
        where = float(t[bad].flatten()[0]) if t.ndim else float(t)
        raise Unsupported(
            f"{source} does not determine {target} at t = {where!r} of {path}: "
            f"α = {float(path.alpha(where)):.3g}, σ = {float(path.sigma(where)):.3g}; "
            "predict v or velocity, or stay away from that end (path.restricted)"
        )
    return on_x, on_value


def require_score(path: GaussianPath) -> None:
    """Raise Unsupported if −ε/σ is not the score.

    That is so if ε and x0 are not independent, or ε is not normal.
    """
    if not path.independent:
        raise Unsupported(f"the score on {path}: {_NO_SCORE}")


_NO_SCORE = (
    "ε is coupled with x0 or is not normal, so −E[ε|x]/σ is not ∇ log p; read x0, eps, v or "
    "velocity, or train on the path itself with an independent coupling"
)


def refusal(path: GaussianPath, lens: str) -> str | None:
    """Return why a network cannot predict this lens on this path, or None if it can."""
    check_lens(lens)
    if lens == "score" and not path.independent:
        return _NO_SCORE
    if lens in ("eps", "score") and float(path.alpha(1.0)) == 0:
        return (
            f"{lens} says nothing of x0 at t = 1, where the signal α is zero; predict v, velocity "
            "or x0, or cut the end off with path.restricted(last=0.999)"
        )
    return None


def require_lens(path: GaussianPath, lens: str) -> None:
    """Raise Unsupported if `refusal` returns a reason."""
    reason = refusal(path, lens)
    if reason:
        raise Unsupported(f"predicting {lens} on {path}: {reason}")


def residual(
    path: GaussianPath, lens: str, value: Tensor, x0: Tensor, eps: Tensor, t: Tensor | float
) -> Tensor:
    """Return value − (a·x0 + b·ε) for the lens a·x0 + b·ε: (batch, *event), at least float32."""
    a, b = (expand(c, x0) for c in lens_row(path, lens, t))
    miss = value - (a * x0 + b * eps)
    return miss.to(torch.promote_types(miss.dtype, torch.float32))


def convert(
    path: GaussianPath, source: str, target: str, value: Tensor, x_t: Tensor, t: Tensor
) -> Tensor:
    """Return `value` of lens `source` at (x_t, t) in lens `target`; same shape.

    Raises the errors of `conversion`, and InvalidArgument if shapes disagree.
    """
    if source == target:
        return value
    if value.shape != x_t.shape:
        raise InvalidArgument(
            f"a prediction of shape {tuple(value.shape)} for x_t of shape {tuple(x_t.shape)}; "
            "they must agree"
        )
    on_x, on_value = conversion(path, source, target, t)
    return expand(on_x, x_t) * x_t + expand(on_value, x_t) * value
