"""DPM-Solver-v3: its limits, its optimum on Gaussians, its order, and its statistics."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.exact import F64, gaussian_elementwise, mixture_1d, mixture_2d
from unnoise.errors import InvalidArgument, Unsupported
from unnoise.paths import VPLinear, grids
from unnoise.randomness import Streams
from unnoise.solvers import EMS, DpmSolverV3, Multistep, empirical_statistics

from .reference import (
    ANCHOR_PATH,
    ANCHOR_START,
    Quick,
    anchor_grid,
    flow_gaussian,
    flow_mixture,
    slope,
)

PATH = VPLinear()
GRID = torch.linspace(0.99, 0.01, 8, dtype=F64) ** 1.3
WIDE = grids.log_snr(PATH, 80, 1.0, 0.005)


def flat(level: float, s: float, b: float, event=(2,)) -> EMS:
    lam = np.linspace(-6, 6, 7)
    return EMS(lam, *(np.full((7, *event), value) for value in (level, s, b)))


def start(n=5, width=2):
    return Streams(5, range(n)).normal(width).double()


@pytest.mark.parametrize("points", [1, 2, 3])
@pytest.mark.parametrize("corrector", [False, True])
@pytest.mark.parametrize(("l", "s", "direction"), [(1, 0, (1.0, 0.0)), (0, -1, (0.0, 1.0))])
def test_data_and_noise_prediction_are_settings(points, corrector, l, s, direction):  # noqa: E741
    field = mixture_2d(PATH)
    ours = DpmSolverV3(flat(l, s, 0.0), points, corrector).solve(field, start(), GRID)
    wanted = Multistep(points, direction, corrector=corrector).solve(field, start(), GRID)
    torch.testing.assert_close(ours.x, wanted.x, rtol=1e-9, atol=1e-9)
    assert ours.nfe == wanted.nfe


def test_any_constants_of_a_step_by_quadrature():
    """Equation 8 for one point, constant l, s, b: everything in closed form."""
    l, s, b = 0.4, -0.7, 0.3  # noqa: E741
    field, x, grid = mixture_2d(PATH), start(), torch.tensor([0.8, 0.4], dtype=F64)
    ours = DpmSolverV3(flat(l, s, b), 1).solve(field, x, grid).x
    a0, a1 = PATH.alpha(grid)
    l0, l1 = PATH.log_snr(grid)
    h = l1 - l0
    f = (PATH.sigma(grid[0]) * field(x, grid[0]).eps - l * x) / a0
    # ∫ e^{(l+s)u}·(f + b·(1 − e^{−su})/s) du
    first = ((l + s) * h).expm1() / (l + s)
    integral = first * f + b / s * (first - (l * h).expm1() / l)
    wanted = a1 * (-l * h).exp() * (x / a0 - integral)
    torch.testing.assert_close(ours, wanted, rtol=1e-11, atol=1e-11)


def test_statistics_of_a_gaussian_are_its_own_and_solve_it_in_one_step():
    """l = σ²/(α²v + σ²): then f does not depend on x, and any step is exact."""
    field = gaussian_elementwise(PATH)
    x0 = field.sample(Streams(1, range(16)))
    ems = empirical_statistics(field, x0, Streams(2, range(16)), WIDE)
    time = PATH.time(torch.from_numpy(ems.log_snr))[:, None]
    sigma2, alpha2 = PATH.sigma(time) ** 2, PATH.alpha(time) ** 2
    wanted = sigma2 / (alpha2 * field.variance + sigma2)
    torch.testing.assert_close(torch.from_numpy(ems.l), wanted, rtol=1e-8, atol=1e-8)
    x, grid = start(4, 3), torch.tensor([1.0, 0.01], dtype=F64)
    exact = flow_gaussian(field, x, 1.0, 0.01)
    ours = DpmSolverV3(ems, 1).solve(field, x, grid).x
    usual = Multistep(1).solve(field, x, grid).x
    assert float((ours - exact).abs().max()) < 2e-4
    assert float((usual - exact).abs().max()) > 0.1


def test_s_and_b_are_the_regression_of_the_slope():
    """On a mixture: f' along the exact flow, by the flow itself, against s·f + b."""
    field, n = mixture_1d(PATH), 400
    x0 = field.sample(Streams(1, range(n)))
    grid = torch.tensor([0.5, 0.45, 0.4, 0.35, 0.3], dtype=F64)
    ems = empirical_statistics(field, x0, Streams(2, range(n)), grid)
    draw = Streams(2, range(n)).normal(1).double()
    k, delta = 2, 1e-2
    lam, t = float(PATH.log_snr(grid[k])), grid[k]
    x = PATH.diffuse(x0, draw, t)

    def f(at, x):
        time = PATH.time(at)
        eps = field(x, time).eps
        level = torch.from_numpy(ems.splines["l"](at))
        return (PATH.sigma(time) * eps - level * x) / PATH.alpha(time)

    ends = [
        f(lam + d, flow_mixture(PATH, x, float(t), float(PATH.time(lam + d))))
        for d in (-delta, delta)
    ]
    rate, here = (ends[1] - ends[0]) / (2 * delta), f(lam, x)
    s = ((here - here.mean()) * rate).mean() / here.var(correction=0)
    b = rate.mean() - s * here.mean()
    assert float(ems.s[k, 0]) == pytest.approx(float(s), rel=2e-3)
    assert float(ems.b[k, 0]) == pytest.approx(float(b), rel=2e-3, abs=1e-3)


def test_declared_order_is_measured_order():
    field = Quick(ANCHOR_PATH)
    exact = flow_mixture(ANCHOR_PATH, ANCHOR_START, 1.0, 0.01)
    mixture = mixture_1d(ANCHOR_PATH)
    x0 = mixture.sample(Streams(1, range(64)))
    ems = empirical_statistics(mixture, x0, Streams(2, range(64)), anchor_grid(40))
    for points, corrector in ((1, False), (2, False), (3, False), (2, True)):
        solver, errors = DpmSolverV3(ems, points, corrector), []
        for steps in (40, 80):
            reached = solver.solve(field, ANCHOR_START, anchor_grid(steps)).x
            errors.append(float((reached - exact).abs().mean()))
        assert slope(errors) == pytest.approx(solver.order, abs=0.4), solver


def test_a_last_step_to_the_data_keeps_x0():
    field, x = mixture_2d(PATH), start()
    grid = torch.tensor([0.9, 0.5, 0.1, 0.0], dtype=F64)
    ours = DpmSolverV3(flat(1, 0, 0), 2).solve(field, x, grid).x
    torch.testing.assert_close(ours, Multistep(2).solve(field, x, grid).x, rtol=1e-9, atol=1e-9)


def test_what_is_refused():
    field, x0 = mixture_2d(PATH), start()
    narrow = EMS(np.array([-6.0, 1.0]), *np.zeros((3, 2, 2)))
    with pytest.raises(Unsupported, match="outside -6"):
        DpmSolverV3(narrow).solve(field, x0, [0.9, 0.05])
    with pytest.raises(InvalidArgument, match="without signal or without noise"):
        empirical_statistics(field, x0, Streams(0, range(5)), grids.uniform(3))
    with pytest.raises(InvalidArgument, match="at least two"):
        empirical_statistics(field, x0, Streams(0, range(4)), GRID)
    with pytest.raises(InvalidArgument, match="increasing"):
        EMS(np.array([1.0, 0.0]), *np.zeros((3, 2, 2)))
    with pytest.raises(InvalidArgument, match="not finite"):
        EMS(np.array([0.0, np.nan]), *np.zeros((3, 2, 2)))
    with pytest.raises(InvalidArgument, match="of shapes"):
        EMS(np.array([0.0, 1.0]), np.zeros((2, 2)), np.zeros((2, 3)), np.zeros((2, 2)))
    with pytest.raises(InvalidArgument, match="points is 0"):
        DpmSolverV3(flat(1, 0, 0), 0)
