"""Where walks arrive, from any start to any end, in any number of steps."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.exact import BY_NAME, F64, IDS, PATHS, Seen, finite_data, gaussian_elementwise
from unnoise.fields import Gaussian
from unnoise.paths import grids
from unnoise.solvers import Multistep, RungeKutta, presets

from .reference import (
    Quick,
    exact_moments,
    flow_gaussian,
    flow_mixture,
    moments,
    slope,
)

FAMILIES = ["vp_linear", "sub_vp", "cosine", "ve", "edm", "flow", "chain_linear", "flow_shifted"]
# exact for constant x0 and ε: everything that does not integrate the plain ODE
SEMILINEAR = {
    **{n: presets.get(n) for n in ("ddim", "dpmpp_2m", "dpmpp_3m", "dpm_2m", "adams", "lms")},
    "deis": presets.deis(),
    "unipc": presets.unipc(3),
    "unipc eps": presets.unipc(2, lens="eps"),
    "scaled": Multistep(3, (1.0, 0.2), "angle", True),
    **{f"heun {c}": RungeKutta("heun", c) for c in ("sigma", "signal", "flow")},
    "rk4": presets.rk4(),
    "kutta3": RungeKutta("kutta3", "sigma"),
}
ALL = {**SEMILINEAR, "heun t": presets.heun("t"), "midpoint log_snr": presets.midpoint("log_snr")}
LENSES = ("x0", "eps", "score", "v", "velocity")


def spread_start(field: Gaussian, t: float, n: int = 5) -> torch.Tensor:
    """Points over ±2 deviations of x_t."""
    mean, variance = exact_moments(field, t)
    z = torch.linspace(-2, 2, n, dtype=F64)[:, None]
    return mean + variance.sqrt() * z


def below(path, start: float, ratio: float) -> float:
    """The latest time up to `start` where σ/α ≤ `ratio`: from far above that a single step in
    σ/α multiplies rounding by the square of it."""
    return min(start, float(path.time(-math.log(ratio))))


@pytest.mark.parametrize("case", PATHS, ids=IDS)
@pytest.mark.parametrize("name", SEMILINEAR)
def test_one_known_point_is_reached_exactly_in_any_number_of_steps(case, name):
    """Data at one point: x0 and ε are constant along the flow, so no step may err."""
    point = torch.tensor([0.7, -2.0], dtype=F64)
    field = Gaussian(point, 0.0, case.path)
    start = below(case.path, case.start, 80.0)
    for steps, lens in zip((1, 2, 3, 7, 13), LENSES, strict=True):
        for end in (0.3, 0.0):
            x = spread_start(field, start)
            grid = grids.uniform(steps, start, end)
            reached = SEMILINEAR[name].solve(Seen(field, lens), x, grid).x
            scale = 1 + float(case.path.sigma(1.0))
            torch.testing.assert_close(
                reached,
                flow_gaussian(field, x, start, end),
                rtol=1e-9,
                atol=1e-9 * scale,
                msg=lambda m, s=steps, lens=lens, e=end: f"{s} steps, {lens}, end {e}: {m}",
            )


@pytest.mark.parametrize("name", FAMILIES)
def test_one_step_says_what_the_prediction_says(name):
    """x₁ = α₁·x0 + σ₁·ε from a single evaluation, on any field."""
    case = BY_NAME[name]
    field, end = finite_data(case.path), 0.2
    x = torch.tensor([[0.3, -0.8], [1.4, 0.1]], dtype=F64)
    said = field(x, torch.tensor(case.start, dtype=F64))
    wanted = float(case.path.alpha(end)) * said.x0 + float(case.path.sigma(end)) * said.eps
    one_step = ("ddim", "dpmpp_2m", "dpmpp_3m", "lms", "unipc", "adams", "deis")
    for solver in [*map(presets.get, one_step), presets.euler("sigma"), presets.euler("signal")]:
        reached = solver.solve(field, x, [case.start, end]).x
        torch.testing.assert_close(reached, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("path_name", FAMILIES)
@pytest.mark.parametrize("name", ALL)
def test_gaussians_arrive_where_the_flow_takes_them(path_name, name):
    case = BY_NAME[path_name]
    solver, field = ALL[name], gaussian_elementwise(case.path)
    x, errors = spread_start(field, case.start), []
    exact = flow_gaussian(field, x, case.start, 0.01)
    for steps in (16, 64):
        grid = grids.log_snr(case.path, steps, case.start, 0.01)
        errors.append(float((solver.solve(field, x, grid).x - exact).abs().max()))
    # four times the steps: an error 4 times smaller for order 1, 10 at least for higher ones
    assert errors[1] < (0.1 if solver.order == 1 else 0.03)
    assert errors[1] < errors[0] * (0.4 if solver.order == 1 else 0.15)


@pytest.mark.parametrize("path_name", FAMILIES)
@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m", "unipc", "heun", "ddpm", "dpmpp_2m_sde"])
def test_more_steps_arrive_closer_down_to_the_data(path_name, name):
    """Mean and variance at t = 0 (VE: σ_min) after 1, 3, 13 and 1000 steps."""
    case, solver = BY_NAME[path_name], presets.get(name)
    field = gaussian_elementwise(case.path)
    wanted_mean, wanted = exact_moments(field, 0.0)
    errors = []
    for steps in (1, 3, 13, 1000):
        grid = grids.karras(case.path, steps, case.start, 0.0)
        begin = exact_moments(field, float(grid[0]))
        mean, variance = moments(solver, field, grid, *begin)
        errors.append(float(((mean - wanted_mean).abs() + (variance - wanted).abs()).max()))
    assert errors[0] > errors[1] > errors[2] > errors[3]
    assert errors[3] < (0.03 if solver.order == 1 else 5e-4)


@pytest.mark.parametrize("path_name", FAMILIES)
def test_a_mixture_at_each_number_of_steps(path_name):
    """The quantiles the flow keeps: errors fall at the declared order, 1 step to 1000."""
    case = BY_NAME[path_name]
    field = Quick(case.path)
    x = torch.linspace(-2, 2, 21, dtype=F64)[:, None] * float(
        case.path.alpha(case.start) + case.path.sigma(case.start)
    )
    exact = flow_mixture(case.path, x, case.start, 0.02)
    for solver, limit in ((presets.ddim(), 5e-3), (presets.dpmpp_2m(), 5e-5)):
        errors = []
        for steps in (1, 2, 3, 7, 13, 1000):
            grid = grids.log_snr(case.path, steps, case.start, 0.02)
            errors.append(float((solver.solve(field, x, grid).x - exact).abs().mean()))
        assert errors[-1] < limit
        assert errors[-1] < errors[-2] < errors[-3] < errors[0]
        assert slope([errors[-2], errors[-1]]) / (1000 / 13) < solver.order


STARTS, ENDS = (1.0, 0.8, 0.5, 0.1, 1e-3), (0.99, 0.05, 0.0)


@pytest.mark.parametrize("case", PATHS, ids=IDS)
@pytest.mark.parametrize("start", STARTS)
def test_from_any_start_to_any_end(case, start):
    field = gaussian_elementwise(case.path)
    start = below(case.path, min(start, case.start), 100.0)
    ratio = math.exp(-float(case.path.log_snr(start)))
    for end in (e for e in ENDS if e < start):
        x = spread_start(field, start)
        least = min(0.002, ratio / 10) if float(case.path.sigma(end)) == 0 else None
        grid = grids.karras(case.path, 60, start, end, sigma_min=least)
        assert (float(grid[0]), float(grid[-1])) == (start, end)
        exact = flow_gaussian(field, x, start, end)
        for solver in (presets.dpmpp_2m(), presets.unipc()):
            reached = solver.solve(field, x, grid).x
            assert float((reached - exact).abs().max()) < 0.02, (solver, start, end)


@settings(max_examples=40, deadline=None)
@given(
    path_name=st.sampled_from(FAMILIES),
    cuts=st.lists(st.floats(1e-4, 0.999), min_size=2, max_size=6, unique=True),
)
def test_uneven_grids_keep_a_known_point(path_name, cuts):
    case = BY_NAME[path_name]
    field = Gaussian(torch.tensor([1.5], dtype=F64), 0.0, case.path)
    times = sorted((round(c, 6) for c in set(cuts)), reverse=True)
    if len(set(times)) < 2 or len(set(times)) != len(times):
        return
    x = spread_start(field, times[0])
    exact = flow_gaussian(field, x, times[0], times[-1])
    for solver in (presets.dpmpp_3m(), presets.unipc(3), presets.lms(), presets.rk4()):
        torch.testing.assert_close(solver.solve(field, x, times).x, exact, rtol=1e-7, atol=1e-7)
