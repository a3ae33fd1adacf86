"""The general integrator: the order of its tableau, both ways in time, with gradients."""

from __future__ import annotations

import math

import pytest
import torch

from tests.exact import F64, Seen, mixture_2d
from unnoise.errors import InvalidArgument
from unnoise.paths import VPLinear
from unnoise.solvers import RungeKutta, integrate
from unnoise.solvers.tableaux import TABLEAUX

from .reference import slope


def turning(state, t):
    """Two tensors of different shapes: x' = y·cos t, y' = −x."""
    x, y = state
    return y[:, None] * t.cos(), -x[:, 0]


def reference(end):
    from scipy.integrate import solve_ivp

    start, stop = (0.0, end) if end > 0 else (-end, 0.0)
    found = solve_ivp(
        lambda t, s: [s[1] * math.cos(t), -s[0]], (start, stop), [1.0, 0.3], "DOP853",
        rtol=1e-12, atol=1e-13,
    )  # fmt: skip
    return found.y[:, -1]


@pytest.mark.parametrize("tableau", TABLEAUX)
@pytest.mark.parametrize("end", [1.5, -1.5])
def test_each_tableau_has_its_order(tableau, end):
    wanted = reference(end)
    errors = []
    for steps in (4, 8, 16, 32):
        start, stop = (0.0, end) if end > 0 else (-end, 0.0)
        grid = torch.linspace(start, stop, steps + 1, dtype=F64)
        state = (torch.tensor([[1.0]], dtype=F64), torch.tensor([0.3], dtype=F64))
        x, y = integrate(turning, state, grid, tableau)
        errors.append(math.hypot(float(x) - wanted[0], float(y) - wanted[1]))
    assert slope(errors) == pytest.approx(TABLEAUX[tableau].order, abs=0.35)


def test_it_is_the_solver_in_time():
    field = Seen(mixture_2d(VPLinear()), "velocity")
    x, grid = torch.linspace(-2, 2, 8, dtype=F64).reshape(4, 2), torch.linspace(0.9, 0.1, 6)
    for tableau in ("heun", "rk4"):
        wanted = RungeKutta(tableau, "t").solve(field, x, grid).x
        got = integrate(lambda s, t: (field(s[0], t).velocity,), (x,), grid, tableau)[0]
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


def test_gradients_go_through():
    rate = torch.tensor(0.7, dtype=F64, requires_grad=True)
    (x,) = integrate(
        lambda s, t: (rate * s[0],), (torch.ones(1, dtype=F64),), torch.linspace(0, 1, 51)
    )
    (slope_,) = torch.autograd.grad(x.sum(), rate)
    assert float(slope_) == pytest.approx(math.exp(0.7), rel=1e-7)


def test_bad_times_are_refused():
    for bad in ([0.5], [0.0, 0.5, 0.5], [0.0, 1.0, 0.5], [[0.0, 1.0]]):
        with pytest.raises(InvalidArgument, match="rise, or that fall"):
            integrate(turning, (), bad)
    with pytest.raises(InvalidArgument, match="unknown tableau 'rk5'"):
        integrate(turning, (), [0.0, 1.0], "rk5")
