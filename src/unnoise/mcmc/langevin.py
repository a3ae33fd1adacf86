"""Langevin dynamics: samples of one density from its score alone."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import InvalidArgument, NonFinite, need_count
from ..fields.field import Field
from ..solvers.composite.predictor_corrector import langevin_step
from ..solvers.solver import Noise, draw

Score = Callable[[Tensor], Tensor]
StepSize = float | Callable[[int], float]


def score_at(field: Field, t: float) -> Score:
    """Return the score of a field at one time, as a function of x alone."""
    time = torch.tensor(t, dtype=torch.float64)
    return lambda x: field(x, time).score


def langevin(
    score: Score,
    x: Tensor,
    steps: int,
    step_size: StepSize,
    noise: Noise,
    each: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Take unadjusted Langevin steps, x + h·score(x) + √(2h)·ξ, `steps` times; (batch, *event).

    The Euler–Maruyama steps of dx = ∇log p dt + √2 dw, of weak order 1; papers that write
    x + (ε/2)·score + √ε·ξ mean ε = 2h. step_size: h, or a function of the step 0, 1, …; a score
    from minibatches and a falling h make it stochastic-gradient Langevin dynamics. each(k, x)
    receives every state. The limit is p up to O(h): N(m, v) becomes N(m, v/(1 − h/2v)), for
    h < 2v.

    Raises InvalidArgument for a step that is not positive, NonFinite where the chain diverges.
    """
    need_count("steps", steps)
    for k in range(steps):
        h = _size(step_size, k)
        x = langevin_step(x, score(x), h, draw(noise, x))
        if each is not None:
            each(k, x)
    return _finite(x)


def mala(
    log_density: Callable[[Tensor], Tensor],
    x: Tensor,
    steps: int,
    step_size: StepSize,
    noise: Noise,
) -> tuple[Tensor, Tensor]:
    """Take Metropolis-adjusted Langevin steps: exact for p at any step (Roberts & Tweedie 1996).

    A Langevin step y is taken with probability min(1, p(y)q(x|y)/p(x)q(y|x)), q(y|x) = N(x + h∇log
    p(x), 2h); otherwise the state stays. log_density: (batch, *event) → (batch,), up to a
    constant. Returns the states and each sample's share of accepted steps, (batch,). Raises as
    `langevin` does.
    """
    need_count("steps", steps)
    accepted = torch.zeros(len(x), device=x.device)
    value, score = value_and_score(log_density, x)
    for k in range(steps):
        h = _size(step_size, k)
        proposed = langevin_step(x, score, h, draw(noise, x))
        other, slope = value_and_score(log_density, proposed)
        chance = log_acceptance(x, proposed, value, other, score, slope, h)
        # Φ of a normal number is uniform: one stream serves both
        uniform = torch.special.ndtr(noise.normal(1).double())[:, 0].to(chance.device)
        yes = uniform.log() < chance
        rows = yes.reshape(-1, *(1,) * (x.ndim - 1))
        x, score = torch.where(rows, proposed, x), torch.where(rows, slope, score)
        value = torch.where(yes, other, value)
        accepted += yes
    return _finite(x), accepted / steps


def value_and_score(log_density: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Return log p, (batch,), and its gradient, (batch, *event), without a graph."""
    with torch.enable_grad():
        at = x.detach().requires_grad_()
        value = log_density(at)
        (score,) = torch.autograd.grad(value.sum(), at)
    return value.detach(), score


def log_acceptance(
    x: Tensor, y: Tensor, log_p_x: Tensor, log_p_y: Tensor, s_x: Tensor, s_y: Tensor, h: float
) -> Tensor:
    """Return log of p(y)q(x|y)/(p(x)q(y|x)) for Langevin proposals of step h, (batch,)."""
    back, forth = (x - y - h * s_y).flatten(1), (y - x - h * s_x).flatten(1)
    return log_p_y - log_p_x + (forth.square().sum(1) - back.square().sum(1)) / (4 * h)


def kinetic_langevin(
    score: Score,
    x: Tensor,
    steps: int,
    step_size: float,
    noise: Noise,
    friction: float = 1.0,
    velocity: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Take underdamped Langevin steps, dx = v dt, dv = (score − γv)dt + √(2γ) dw; return (x, v).

    The BAOAB splitting (Leimkuhler & Matthews 2013): half a kick, half a drift, the exact
    Ornstein–Uhlenbeck of v, half a drift, half a kick; steps + 1 scores, weak order 2. On a
    Gaussian the positions' variance is exact at every step size that is stable (h < 2·deviation).
    velocity: to start from, drawn from N(0, 1) unless given.

    Raises InvalidArgument for a step or a friction that is not positive, NonFinite where the chain
    diverges.
    """
    need_count("steps", steps)
    h, gamma = _size(step_size, 0), friction
    if not (math.isfinite(gamma) and gamma > 0):
        raise InvalidArgument(f"friction is {gamma!r}; give a positive number")
    keep, spread = math.exp(-gamma * h), math.sqrt(-math.expm1(-2 * gamma * h))
    v = draw(noise, x) if velocity is None else velocity
    force = score(x)
    for _ in range(steps):
        v = v + 0.5 * h * force
        x = x + 0.5 * h * v
        v = keep * v + spread * draw(noise, x)
        x = x + 0.5 * h * v
        force = score(x)
        v = v + 0.5 * h * force
    return _finite(x), v


def _size(step_size: StepSize, k: int) -> float:
    h = step_size(k) if callable(step_size) else step_size
    if not (math.isfinite(h) and h > 0):
        raise InvalidArgument(f"step size of step {k} is {h!r}; give a positive number")
    return h


def _finite(x: Tensor) -> Tensor:
    bad = ~torch.isfinite(x.flatten(1)).all(1)
    if bool(bad.any()):
        raise NonFinite(
            f"the state is not finite in sample {int(bad.nonzero()[0])} of {len(bad)}; the walk "
            "diverges where the step is above twice the density's variance: take a smaller one"
        )
    return x
