"""Solvers inside solvers: the numbering of steps, interruption, and other solvers' reports."""

from __future__ import annotations

import math

import pytest
import torch

from tests.exact import mixture_2d
from unnoise.paths import VE, Flow, grids
from unnoise.randomness import Streams
from unnoise.solvers import Adaptive, Interval, PredictorCorrector, Restart, get
from unnoise.solvers.composite.predictor_corrector import langevin_step

PATH = VE()
FIELD, GRID = mixture_2d(PATH), grids.log_snr(PATH, 6, 1.0, 0.05)
LEVELS = (-PATH.log_snr(GRID)).exp()  # σ/α of each time
SPLIT = int((LEVELS / 0.4).log().abs().argmin())  # the grid's time nearest to where it restarts
RESTART = Restart(get("heun", coordinate="sigma"), (Interval(0.4, 5.0, 3, 2),))


def start() -> torch.Tensor:
    return Streams(5, range(4)).normal(2).double() * float(PATH.sigma(1.0))


def test_a_restart_belongs_to_the_step_before_it():
    seen = []
    RESTART.solve(
        FIELD, start(), GRID, Streams(0, range(4)), lambda k, p: seen.append((k, float(p.t)))
    )
    assert 0 < SPLIT < 6
    count = [sum(k == step for k, _ in seen) for step in range(6)]
    # two evaluations a step; at the split two restarts more, of three steps each
    assert count == [2 + 12 * (step == SPLIT - 1) for step in range(6)]
    assert [k for k, _ in seen] == sorted(k for k, _ in seen)
    for k, t in seen:
        assert t >= float(GRID[k + 1])
        assert t <= float(GRID[k]) or k == SPLIT - 1
    highest = float(PATH.time(-math.log(5.0)))
    assert max(t for k, t in seen if k == SPLIT - 1) == pytest.approx(highest, rel=1e-12)


@pytest.mark.parametrize("evaluation", [1, 2, 5, 11])
def test_an_interrupted_restart_is_the_state_at_its_step(evaluation):
    """The state that begins the step, whichever of its evaluations interrupts."""
    seen = []

    def stop(k, prediction):
        seen.append(k)
        return seen.count(SPLIT - 1) < evaluation

    made = RESTART.solve(FIELD, start(), GRID, Streams(0, range(4)), stop)
    wanted = RESTART.solver.solve(FIELD, start(), GRID[:SPLIT])
    assert (made.finished, made.steps, made.t) == (False, SPLIT - 1, float(GRID[SPLIT - 1]))
    assert torch.equal(made.x, wanted.x)
    assert made.nfe == len(seen)


def test_a_split_between_two_times_of_the_grid():
    """No time of the grid lies inside the interval: both parts belong to the step around it."""
    seen, grid = [], grids.uniform(4, 1.0, 0.0)
    flow = mixture_2d(Flow())
    solver = Restart(get("heun", coordinate="flow"), (Interval(0.1, 0.2, 2, 1),))
    solver.solve(flow, start(), grid, Streams(0, range(4)), lambda k, p: seen.append(k))
    # Heun's last step, into σ = 0, is one evaluation
    assert [seen.count(k) for k in range(4)] == [2, 2, 2, 2 + 4 + 1]


def test_a_predictor_that_reports_more_than_its_state():
    """Adaptive steps between two levels, then Langevin's: step by step by hand."""
    grid, rate = grids.log_snr(PATH, 3, 1.0, 0.05), 0.1
    solver = PredictorCorrector(Adaptive(tol=1e-6), 1, rate)
    made = solver.solve(FIELD, start(), grid, Streams(0, range(4)))
    x, noise, nfe = start(), Streams(0, range(4)), 0
    for k in range(3):
        moved = Adaptive(tol=1e-6).solve(FIELD, x, grid[k : k + 2])
        prediction = FIELD(moved.x, grid[k + 1])
        size = rate * float(PATH.sigma(grid[k + 1])) ** 2
        x = langevin_step(moved.x, prediction.score, size, noise.normal(2).double())
        nfe += moved.nfe + 1
    torch.testing.assert_close(made.x, x, rtol=1e-12, atol=1e-12)
    assert (made.nfe, made.finished) == (nfe, True)
