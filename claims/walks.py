"""Claims about Langevin dynamics."""

from __future__ import annotations

import math

import torch

from unnoise.mcmc import langevin, score_at
from unnoise.paths import VE, grids
from unnoise.randomness import Streams
from unnoise.solvers import get

from .claim import FAILS, HOLDS, WHEN, Finding, Value
from .moments import Impulses
from .registry import claim
from .worlds import F64, Blobs, share


@claim(
    "score",
    "Song & Ermon 2019, sec. 3.2; introductions",
    "Langevin dynamics on the raw score fails where data are absent; on a ladder of noise levels "
    "it does not.",
)
def raw_langevin_fails_annealed_does_not() -> Finding:
    """Measure Song & Ermon's own example from a wide start.

    The data are 0.2·N((−5, −5), I) + 0.8·N((5, 5), I).
    """
    path = VE(0.05, 20.0)
    weights, means = torch.tensor([0.2, 0.8], dtype=F64), torch.tensor([[-5.0], [5.0]]).double()
    field = Blobs(weights, means.expand(2, 2).contiguous(), 1.0, path)
    n, found, heavy = 1000, {}, {}
    start = 16 * Streams(0, range(n), "start").uniform(2).double() - 8
    raw = langevin(score_at(field, 0.0), start, 1000, 0.05, Streams(0, range(n)))
    grid, noise = grids.uniform(100, 1.0, 0.0), Streams(1, range(n))
    wide = path.prior(noise, (2,)).double()
    annealed = get("annealed_langevin", corrections=5).solve(field, wide, grid, noise).x
    for name, made in (("raw score, 1000 steps", raw), ("annealed, 100 levels × 5", annealed)):
        heavy[name[:3]] = share(made.sum(1) > 0)
        found[f"{name}: share in the mode of weight 0.8"] = heavy[name[:3]]
    right = heavy["raw"].high < 0.7 and abs(heavy["ann"].value - 0.8) < 0.06
    return Finding(
        found,
        HOLDS if right else FAILS,
        remark="The raw walk splits the samples by where they start: the score of a mixture does "
        "not know the weights of modes far apart."
        if right
        else "The shares do not show it.",
    )


@claim(
    "score",
    "introductions; Welling & Teh 2011",
    "x + δ·score + √(2δ)·ξ converges to samples of p.",
)
def langevin_converges() -> Finding:
    """Measure the variance on N(0, 1), where the chain is linear, exactly from impulses."""
    found: dict[str, Value] = {}
    last = 0.0
    for size in (1.0, 0.1, 0.01):
        steps = math.ceil(12 / size)
        x = torch.zeros(steps + 1, 1, dtype=F64)
        x[0] = 3.0
        out = langevin(lambda x: -x, x, steps, size, Impulses(steps + 1, 1))
        last = float((out[1:] ** 2).sum())
        found[f"variance reached on N(0, 1), δ = {size:g}"] = last
    right = abs(last - 1) < 0.01
    return Finding(
        found,
        WHEN if right else FAILS,
        "δ → 0, or each step is accepted or refused" if right else "",
        "At a fixed δ it converges to another law, N(0, 1/(1 − δ/2)) here.",
    )
