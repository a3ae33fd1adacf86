"""unnoise's own: `auto`, and `tuned` on a pilot set of other starts, on VP and on EDM."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from unnoise.fields import Field, Prediction
from unnoise.paths import EDM, Chain, Flow, GaussianPath
from unnoise.randomness import Streams
from unnoise.solvers import Solver, get, tune

from .arena import VE_START, VP_START, Arena, Contestant, Evaluations
from .mixtures import Exact, Problem

PATHS: dict[str, tuple[GaussianPath, float]] = {
    "vp": (Chain.linear().as_path(), VP_START),
    "edm": (EDM(VE_START), VE_START),
    "flow": (Flow(), VE_START),
}


class CountedField(Field):
    """The counted denoiser as a Field."""

    def __init__(self, evaluate: Evaluations, path: GaussianPath) -> None:
        self.evaluate, self.path = evaluate, path

    def __call__(self, x_t: Tensor, t: Tensor, condition=None):
        alpha, sigma = float(self.path.alpha(t)), float(self.path.sigma(t))
        return Prediction(x_t, t, self.path, "x0", self.evaluate(x_t / alpha, sigma / alpha))


def begin(path: GaussianPath, ratio: float) -> float:
    """Return the time of `path` at σ/α = ratio."""
    return min(1.0, float(path.time(torch.tensor(-math.log(ratio), dtype=torch.float64))))


def walk(make, where: str, evaluate: Evaluations, arena: Arena, budget: int):
    """Return (state, start, end) of one solver on one path."""
    path, ratio = PATHS[where]
    start = begin(path, ratio)
    first = math.exp(-float(path.log_snr(start)))
    solver: Solver = make(arena.problem, path, start, budget)
    grid = solver.own_grid(path, budget, start, 0.0)
    assert grid is not None
    x = arena.start(first) * float(path.alpha(start))
    solution = solver.solve(CountedField(evaluate, path), x, grid)
    return solution.x / float(path.alpha(0.0)), first, 0.0


def auto(problem: Problem, path: GaussianPath, start: float, budget: int) -> Solver:
    """Return the solver `auto` for this budget."""
    return get("auto").for_data(problem.rms)


PILOTS = 256


def tuned(problem: Problem, path: GaussianPath, start: float, budget: int) -> Solver:
    """Return a solver tuned on starts that the contest does not use."""
    noise = Streams(5, range(PILOTS), "pilot").normal(problem.dim).double()
    ratio = math.exp(-float(path.log_snr(start)))
    x = noise * math.hypot(ratio, problem.rms) * float(path.alpha(start))
    return tune(Exact(problem, path), x, budget, problem.rms, start).solver


def contestants() -> list[Contestant]:
    """Return all of our contestants."""
    return [
        *(Contestant(f"unnoise auto, {where}", partial(walk, auto, where)) for where in PATHS),
        *(Contestant(f"unnoise tuned, {w}", partial(walk, tuned, w)) for w in ("vp", "edm")),
    ]
