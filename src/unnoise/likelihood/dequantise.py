"""Dequantisation, uniform and variational: discrete levels made continuous."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..errors import InvalidArgument, need_count
from ..randomness import Streams
from .decoder import Levels
from .value import Likelihood

# (level values (batch, *event), noise) → u in (0, 1) of that shape, log q(u|x) (batch,)
Dequantiser = Callable[[Tensor, Streams], tuple[Tensor, Tensor]]
_INNER = 2.0**-24  # u stays this far from 0 and 1


def uniform_dequantiser(x: Tensor, noise: Streams) -> tuple[Tensor, Tensor]:
    """Draw u ~ U(0, 1), and return it with its log density 0.

    Source: Uria et al. 2013; Theis et al. 2016.
    """
    u = noise.uniform(*x.shape[1:]).to(x).clamp(_INNER, 1 - _INNER)
    return u, x.new_zeros(len(x))


class AffineLogistic(nn.Module):
    """q(u|x): u = sigmoid(m + e^s·z), z standard logistic, m and s affine in each number of x.

    log q = Σ log f(z) − s − log u(1 − u), f the logistic density. A new one is uniform exactly
    (m = s = 0). event: shape of one sample. network: instead, any module from x (batch, *event) to
    (batch, 2, *event), which is m and s. After Ho et al. 2019 (Flow++), eq. 12, whose q is deeper.
    """

    def __init__(self, event: tuple[int, ...], network: nn.Module | None = None) -> None:
        super().__init__()
        self.event, self.network = tuple(event), network
        if network is None:
            self.level = nn.Parameter(torch.zeros(2, *event))
            self.slope = nn.Parameter(torch.zeros(2, *event))

    def forward(self, x: Tensor, noise: Streams) -> tuple[Tensor, Tensor]:
        """Draw u ~ q(u|x), and return it with log q(u|x), (batch,)."""
        if tuple(x.shape[1:]) != self.event:
            raise InvalidArgument(
                f"x has shape {tuple(x.shape)}; this dequantiser is for (batch, *{self.event})"
            )
        if self.network is not None:
            place, log_size = self.network(x).to(x.dtype).unbind(1)
        else:
            level, slope = self.level.to(x.dtype), self.slope.to(x.dtype)
            place, log_size = (level + slope * x[:, None]).unbind(1)
        v = noise.uniform(*self.event).to(x).clamp(_INNER, 1 - _INNER)
        a = place + log_size.exp() * torch.logit(v)
        inside = nn.functional.logsigmoid(a) + nn.functional.logsigmoid(-a)  # log u(1 − u)
        log_q = v.log() + torch.log1p(-v) - log_size - inside
        return torch.sigmoid(a), log_q.flatten(1).sum(1)


def dequantise_with(x: Tensor, u: Tensor, levels: Levels) -> Tensor:
    """Return x + (u − ½)·step: every level becomes the cell of one step around it."""
    levels.index(x)  # raises InvalidArgument for values that are no level
    return x + (u - 0.5) * levels.scale(x)[1]


def discrete_log_likelihood(
    log_likelihood: Callable[[Tensor], Likelihood],
    x: Tensor,
    levels: Levels,
    noise: Streams,
    *,
    dequantiser: Dequantiser = uniform_dequantiser,
    draws: int = 1,
    weighted: bool = False,
) -> Likelihood:
    """Return a lower bound on log P(x) of values on levels, in nats.

    P(x) = ∫ p(x + (u − ½)·step)·Π step du over the unit cube, so with u ~ q(u|x)

        log P(x) ≥ E[log p(x + (u − ½)·step) + Σ log step − log q(u|x)],

    the mean over `draws` of u. weighted: log of the mean of the exponentials instead, tighter with
    every draw (Burda et al. 2016) and of no stated error. x: (batch, *event) on the levels;
    log_likelihood: of continuous data, such as `lambda x: log_likelihood(field, x)`. The standard
    error is that over the draws (None for one, unless the density is itself an estimate with an
    error). `bits_per_dim` of the result counts a level as 1. Raises InvalidArgument for values that
    are no level.
    """
    need_count("draws", draws)
    if weighted and draws == 1:
        raise InvalidArgument("weighted=True changes nothing with draws=1; give more draws")
    name = "uniform" if dequantiser is uniform_dequantiser else "variational"
    # Σ log step over the event
    volume = (levels.scale(x)[1].double().log() + torch.zeros_like(x[:1]).double()).sum()
    values, nfe, part = [], 0, None
    for _ in range(draws):
        u, log_q = dequantiser(x, noise)
        part = log_likelihood(dequantise_with(x, u, levels).detach())
        values.append(part.nats.double() + volume - log_q.detach().double())
        nfe += part.nfe
    every = torch.stack(values)
    assert part is not None
    bound = replace(part, kind="bound", dequantisation=name, nfe=nfe)
    if weighted:
        return replace(bound, nats=every.logsumexp(0) - math.log(draws), error=None)
    error = every.std(0) / math.sqrt(draws) if draws > 1 else part.error
    return replace(bound, nats=every.mean(0), error=error)


def fit(
    dequantiser: nn.Module,
    score: Callable[[Tensor], Tensor],
    batches: Iterable[Tensor],
    levels: Levels,
    seed: int = 0,
    rate: float = 1e-2,
) -> Iterator[float]:
    """Train q(u|x) to raise the bound, one step a batch; yields −E[log q|x] of each.

    The gradient of E[log p(x + (u − ½)·step)] in q's parameters is that of score·∂x/∂u. `score`:
    the only need is the model's ∇ log p at the data's end, (batch, *event) → the same shape, e.g.
    `lambda x: field(x, t).score` at a small t; no trajectory is differentiated. The yielded number
    is q's entropy in nats: 0 where q is uniform, negative as it narrows.
    """
    optimiser = torch.optim.Adam(dequantiser.parameters(), rate, betas=(0.9, 0.99))
    drawn = 0
    for x in batches:
        noise = Streams(seed, range(drawn, drawn + len(x)), "dequantise")
        drawn += len(x)
        u, log_q = dequantiser(x, noise)
        place = dequantise_with(x, u, levels)
        with torch.no_grad():
            pull = score(place.detach())
        gain = (pull * place).flatten(1).sum(1) - log_q
        optimiser.zero_grad()
        (-gain.mean()).backward()
        optimiser.step()
        yield -float(log_q.detach().mean())
