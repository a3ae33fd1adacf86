"""Orders of convergence: the published table to its digits, and declared = measured for all."""

from __future__ import annotations

import itertools

import pytest
import torch

from tests.exact import mixture_1d
from unnoise.solvers import Adaptive, DPMAdaptive, Multistep, RungeKutta, presets
from unnoise.solvers.coordinates import COORDINATES as STAGED
from unnoise.solvers.linear.weights import COORDINATES
from unnoise.solvers.tableaux import TABLEAUX

from .reference import ANCHOR_PATH, ANCHOR_START, Quick, anchor_grid, flow_mixture, slope

FIELD = Quick(ANCHOR_PATH)
EXACT = flow_mixture(ANCHOR_PATH, ANCHOR_START, 1.0, 0.01)


def error(solver, steps: int) -> float:
    reached = solver.solve(FIELD, ANCHOR_START, anchor_grid(steps)).x
    return float((reached - EXACT).abs().mean())


def test_the_quick_field_is_the_mixture():
    exact = mixture_1d(ANCHOR_PATH)
    for t in anchor_grid(7):
        torch.testing.assert_close(
            FIELD(ANCHOR_START, t).x0, exact(ANCHOR_START, t).x0, rtol=1e-13, atol=1e-13
        )


# mean absolute error at 12, 24, 48, 96, 192 steps; two independent code bases agree on it
TABLE = {
    "ddim": (presets.ddim(), "9.41e-02 4.57e-02 2.25e-02 1.11e-02 5.55e-03", 1.01),
    "euler": (presets.euler(), "9.41e-02 4.57e-02 2.25e-02 1.11e-02 5.55e-03", 1.01),
    "heun in σ/α": (presets.heun("sigma"), "4.12e-02 8.37e-03 1.90e-03 4.55e-04 1.11e-04", 2.03),
    "dpm_2m": (presets.dpm_2m(), "1.11e-02 3.85e-03 1.14e-03 3.12e-04 8.17e-05", 1.93),
    "dpmpp_2m": (presets.dpmpp_2m(), "2.66e-02 6.09e-03 1.52e-03 3.82e-04 9.57e-05", 2.00),
    "dpmpp_3m": (presets.dpmpp_3m(), "9.62e-03 2.06e-03 4.35e-04 1.00e-04 2.44e-05", 2.04),
    "lms 4": (presets.lms(4), "3.23e-02 5.92e-03 7.23e-04 6.28e-05 4.53e-06", 3.79),
    "unipc 2 bh2": (presets.unipc(2), "1.03e-02 2.21e-03 3.64e-04 4.68e-05 5.68e-06", 3.04),
    "unipc 3 eps": (
        presets.unipc(3, lens="eps"),
        "1.12e-02 1.08e-03 7.55e-05 3.96e-06 2.38e-07",
        4.05,
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_published_table_to_its_digits(name):
    solver, digits, rate = TABLE[name]
    errors = [error(solver, steps) for steps in (12, 24, 48, 96, 192)]
    assert " ".join(f"{e:.2e}" for e in errors) == digits
    assert f"{slope(errors[-2:]):.2f}" == f"{rate:.2f}"


def test_the_exact_third_order_is_third_order_and_worse_at_twelve_steps():
    published, exact = presets.dpmpp_3m(), presets.dpmpp_3m_exact()
    assert (published.order, exact.order) == (2, 3)
    assert slope([error(exact, n) for n in (96, 192)]) == pytest.approx(3.2, abs=0.05)
    assert error(exact, 12) > error(published, 12)


X0, EPS, FLOW, SCALED = (1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (1.0, 0.3)
MULTISTEP = (
    [
        Multistep(points, direction, coordinate, corrector)
        for points, direction, coordinate, corrector in itertools.product(
            (1, 2, 3, 4), (X0, EPS, FLOW), COORDINATES, (False, True)
        )
        if points > 1 or corrector or coordinate == "log_snr"
    ]
    + [
        Multistep(points, SCALED, "angle", corrected)
        for points in (2, 3)
        for corrected in (False, True)
    ]
    + [
        Multistep(points, direction, "log_snr", corrector, rule)
        for points, direction, corrector, rule in itertools.product(
            (1, 2, 3), (X0, EPS), (False, True), ("midpoint", "bh1", "bh2")
        )
        if points > 1 or corrector
    ]
)
MULTISTEP += [Multistep(3, direction, rule="half_curvature") for direction in (X0, EPS)]
RUNGE_KUTTA = [RungeKutta(*pair) for pair in itertools.product(TABLEAUX, STAGED)]
NAMED = {name: presets.get(name) for name in presets.PRESETS}
# adaptive ones choose their own steps: test_adaptive measures them, and their tableaux here
NAMED = {
    name: solver for name, solver in NAMED.items() if not isinstance(solver, Adaptive | DPMAdaptive)
}
DETERMINISTIC = MULTISTEP + RUNGE_KUTTA
DETERMINISTIC += [s for s in NAMED.values() if not s.stochastic and s not in DETERMINISTIC]
# where the error's leading term sets in, and how far from a whole number a slope may lie there
LADDERS = {
    1: ((24, 48, 96), 0.12),
    2: ((48, 96, 192), 0.25),
    3: ((48, 96, 192), 0.3),
    4: ((48, 96, 192, 384), 0.6),
    5: ((48, 96, 192, 384), 0.8),
    6: ((64, 128, 256), 1.0),
}


def label(solver) -> str:
    if isinstance(solver, RungeKutta):
        return f"{solver.tableau}-{solver.coordinate}"
    if not isinstance(solver, Multistep):
        return next(name for name, s in NAMED.items() if s == solver)
    corrector = "-corrected" if solver.corrector else ""
    return f"{solver.points}-{solver.direction}-{solver.coordinate}-{solver.rule}{corrector}"


@pytest.mark.parametrize("solver", DETERMINISTIC, ids=label)
def test_declared_order_is_measured_order(solver):
    """The start of the walk is nearly noise, where first steps of order 1 cost nothing."""
    ladder, slack = LADDERS[solver.order]
    measured = slope([error(solver, steps) for steps in ladder])
    assert measured == pytest.approx(solver.order, abs=slack)
