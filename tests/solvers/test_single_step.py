"""Single steps, starters, restarts and adaptive DPM-Solver: what the sweeps do not see."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
import torch

from tests.exact import F64, gaussian_elementwise, mixture_1d, mixture_2d
from unnoise.errors import InvalidArgument, Unsupported
from unnoise.fields import Gaussian
from unnoise.paths import VE, Chain, VPLinear, grids
from unnoise.randomness import Streams
from unnoise.solvers import (
    Churn,
    Churned,
    DPMAdaptive,
    Interval,
    Multistep,
    Restart,
    SingleStep,
    Stage,
    presets,
)
from unnoise.solvers.linear.single_presets import PSEUDO_RK4
from unnoise.solvers.linear.weights import EVEN

from .reference import (
    ANCHOR_PATH,
    ANCHOR_START,
    Quick,
    Watched,
    exact_moments,
    flow_mixture,
    moments,
    slope,
)
from .test_order import error

FIELD = Quick(ANCHOR_PATH)
FULL = mixture_1d(ANCHOR_PATH)  # the same, asked at times of its own by every sample
X0, EPS = (1.0, 0.0), (0.0, 1.0)
SETTINGS = [
    ("dpm_single", {"order": 1}),
    ("dpm_single", {"order": 2}),
    ("dpm_single", {"order": 2, "ratio": 0.3}),
    ("dpm_single", {"order": 2, "kind": "exact"}),
    ("dpm_single", {"order": 3, "kind": "exact"}),
    ("dpmpp_single", {"order": 2, "ratio": 1.0, "kind": "exact"}),
    ("dpmpp_single", {"order": 3}),
    ("dpmpp_single", {"order": 3, "kind": "exact"}),
    ("dpm_on_grid", {"order": 2, "lens": "eps"}),
    ("dpm_fast", {"last": 0}),
    ("dpm_fast", {"last": 2}),
    ("unipc", {"order": 3, "lower_last": True}),
    ("ipndm", {"order": 2}),
]


@pytest.mark.parametrize(("name", "options"), SETTINGS, ids=str)
def test_declared_order_is_measured_order(name, options):
    solver = presets.get(name, **options)
    measured = slope([error(solver, steps) for steps in (48, 96, 192)])
    assert measured == pytest.approx(solver.order, abs=0.3)


def test_on_the_grid_the_last_step_bounds_the_third_order():
    solver = presets.get("dpm_on_grid", order=3)
    assert slope([error(solver, steps) for steps in (48, 96, 192)]) > 2.4
    watched = Watched(FIELD)
    grid = grids.log_snr(ANCHOR_PATH, 11, 1.0, 0.01)
    assert solver.solve(watched, ANCHOR_START, grid).nfe == 11
    assert watched.times == grid[:-1].tolist()


# first steps that matter: from the middle of the path, where x_t is far from noise
MIDDLE = flow_mixture(ANCHOR_PATH, ANCHOR_START, 1.0, 0.4)
REACHED = flow_mixture(ANCHOR_PATH, MIDDLE, 0.4, 0.01)


def from_the_middle(solver, steps: int) -> float:
    grid = grids.log_snr(ANCHOR_PATH, steps, 0.4, 0.01)
    return float((solver.solve(FIELD, MIDDLE, grid).x - REACHED).abs().mean())


@pytest.mark.parametrize("corrector", [False, True])
@pytest.mark.parametrize("direction", [X0, EPS])
def test_a_starter_of_high_order_keeps_the_order(direction, corrector):
    opening = presets.get("dpm_single" if direction == EPS else "dpmpp_single", order=3)
    points = 3
    plain = Multistep(points, direction, corrector=corrector)
    opened = Multistep(points, direction, corrector=corrector, starter=opening)
    ladder = (192, 384, 768)
    lost = slope([from_the_middle(plain, n) for n in ladder])
    kept = slope([from_the_middle(opened, n) for n in ladder])
    assert kept == pytest.approx(opened.order, abs=0.4)
    assert lost < kept - (0.5 if corrector else 0.3)
    assert from_the_middle(opened, 384) < from_the_middle(plain, 384) / 4


def test_a_starter_evaluates_once_at_each_start():
    solver, grid = presets.get("pndm"), grids.log_snr(ANCHOR_PATH, 6, 1.0, 0.01)
    watched, seen = Watched(FIELD), []
    made = solver.solve(watched, ANCHOR_START, grid, on_step=lambda k, said: seen.append(k))
    assert made.nfe == len(watched.times) == len(seen) == 3 * 4 + 3
    assert seen == [0] * 4 + [1] * 4 + [2] * 4 + [3, 4, 5]
    stopped = solver.solve(FIELD, ANCHOR_START, grid, on_step=lambda k, said: k < 1)
    assert (stopped.steps, stopped.nfe, stopped.finished) == (1, 5, False)


def test_pndm_by_its_own_transfer():
    """Liu et al. 2022: φ moves by DDIM; Runge–Kutta for three steps, then Adams' even weights."""
    path = Chain.linear().as_path()
    field, x = mixture_2d(path), Streams(3, range(4)).normal(2).double()
    grid = grids.trailing(path, 10)[:-1]
    ours = presets.get("pndm").solve(field, x, grid).x

    def move(x, eps, now, then):
        a0, s0, a1, s1 = (float(f(t)) for t in (now, then) for f in (path.alpha, path.sigma))
        return a1 * (x - s0 * eps) / a0 + s1 * eps

    past = []
    for now, then in itertools.pairwise(grid):
        middle = (now + then) / 2
        one = field(x, now).eps
        past.append(one)
        if len(past) < 4:
            two = field(move(x, one, now, middle), middle).eps
            three = field(move(x, two, now, middle), middle).eps
            four = field(move(x, three, now, then), then).eps
            eps = (one + 2 * two + 2 * three + four) / 6
        else:
            a, b, c, d = past[-1], past[-2], past[-3], past[-4]
            eps = (55 * a - 59 * b + 37 * c - 9 * d) / 24
        x = move(x, eps, now, then)
    torch.testing.assert_close(ours, x, rtol=1e-10, atol=1e-10)


def test_restarts_keep_the_marginals_and_mend_errors():
    """Known data: exact moments. A spread that is wrong on the way is contracted by restarts."""
    path = VPLinear()
    point = Gaussian(torch.tensor([0.7, -2.0], dtype=F64), 0.0, path)
    solver = presets.get("restart", low=0.1, high=1.0, steps=3, times=3)
    grid = grids.karras(path, 7, end=0.01, rho=7.0)
    mean, variance = moments(solver, point, grid, *exact_moments(point, 1.0))
    wanted_mean, wanted = exact_moments(point, 0.01)
    torch.testing.assert_close(mean, wanted_mean, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(variance, wanted.expand(2), rtol=1e-8, atol=1e-12)
    field = gaussian_elementwise(path)
    begin, ends = exact_moments(field, 1.0), exact_moments(field, 0.01)
    grid = grids.log_snr(path, 120, 1.0, 0.01)
    off = []
    for times in (1, 4):
        many = presets.get("restart", low=0.1, high=5.0, steps=60, times=times)
        _, variance = moments(many, field, grid, begin[0], 1.5 * begin[1])
        off.append(float((variance / ends[1] - 1).abs().max()))
    _, plain = moments(presets.heun("sigma"), field, grid, begin[0], 1.5 * begin[1])
    assert off[1] < off[0] / 2 < float((plain / ends[1] - 1).abs().max()) / 4


def test_restart_orders_and_refusals():
    field = gaussian_elementwise(VE())
    errors = []
    for steps in (16, 32, 64):
        solver = Restart(presets.heun("sigma"), (Interval(0.2, 2.0, steps, 2),))
        grid = grids.log_snr(VE(), steps, 1.0, 0.05)
        _, variance = moments(solver, field, grid, *exact_moments(field, 1.0))
        errors.append(float((variance / exact_moments(field, 0.05)[1] - 1).abs().max()))
    assert slope(errors) == pytest.approx(solver.order, abs=0.25)
    x = torch.zeros(1, 3, dtype=F64)
    with pytest.raises(Unsupported, match=r"is not on the walk from 50 to .*; give another"):
        presets.get("restart", low=60.0, high=70.0).solve(
            field, x, grids.uniform(4), Streams(0, range(1))
        )
    with pytest.raises(InvalidArgument, match="draws noise itself"):
        Restart(presets.ddpm(), (Interval(0.1, 1.0),))
    with pytest.raises(InvalidArgument, match="need 0 < low < high"):
        Interval(1.0, 0.5)


@pytest.mark.parametrize("order", [2, 3])
def test_adaptive_errors_follow_their_tolerance(order):
    """From the middle of the path to noise of the data's own size, and down to no noise."""
    errors, passes = [], []
    for tol in (1e-2, 1e-3, 1e-4):
        made = DPMAdaptive(order, tol, tol).solve(FULL, ANCHOR_START, [1.0, 0.01])
        exact = flow_mixture(ANCHOR_PATH, ANCHOR_START, 1.0, 0.01)
        errors.append(float((made.x - exact).abs().mean()))
        passes.append(made.nfe)
    assert errors[0] > 3 * errors[1] > 9 * errors[2]
    assert errors[2] < 1e-3
    assert passes[0] < passes[1] < passes[2]
    assert passes[2] / passes[1] == pytest.approx(10 ** (1 / order), rel=0.4)
    data = DPMAdaptive(order, 1e-4, 1e-4).solve(FULL, ANCHOR_START, [1.0, 0.0])
    exact = flow_mixture(ANCHOR_PATH, ANCHOR_START, 1.0, 0.0)
    assert float((data.x - exact).abs().mean()) < 2e-3


def test_adaptive_steps_do_not_depend_on_the_batch():
    field, x = mixture_2d(ANCHOR_PATH), Streams(0, range(6)).normal(2).double()
    solver, times = presets.get("dpm_adaptive"), [1.0, 0.3, 0.0]
    every = solver.solve(field, x, times).x
    for i in range(6):  # matrix products in the field round by the batch
        alone = solver.solve(field, x[i : i + 1], times).x[0]
        torch.testing.assert_close(alone, every[i], rtol=0, atol=1e-12)
    stops = DPMAdaptive(stops=True)
    seen = []
    stops.solve(field, x, times, on_step=lambda k, said: seen.append((k, float(said.t.max()))))
    assert {k for k, _ in seen} == {0, 1}
    assert all(t <= 0.3 + 1e-12 for k, t in seen if k == 1)
    ended = stops.solve(field, x, times, on_step=lambda k, said: k < 1)
    assert (ended.t, ended.steps, ended.finished) == (0.3, 1, False)
    with pytest.raises(InvalidArgument, match="loosen rtol"):
        DPMAdaptive(max_passes=5).solve(field, x, times)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Multistep(1, coordinate="t"), "coordinate='t' changes nothing"),
        (lambda: Multistep(1, rule="midpoint"), "rule='midpoint' changes nothing"),
        (lambda: Multistep(1, lower_last=True), "lower_last=True changes nothing"),
        (lambda: Multistep(2, starter_steps=1), "without a starter"),
        (lambda: Multistep(2, starter=presets.ddpm()), "deterministic one-step"),
        (lambda: Multistep(1, corrector=True, starter=PSEUDO_RK4), "one point needs none"),
        (lambda: Multistep(5, EPS, rule="even"), "points ≤ 4"),
        (lambda: SingleStep((Stage(0.5),)), "last stage is the step's end"),
        (lambda: SingleStep((Stage(0.5), Stage(1.0, (1,)))), "start with 0"),
        (lambda: SingleStep((Stage(0.5), Stage(1.0, (0, 2)))), "name earlier stages"),
        (lambda: SingleStep((Stage(1.0, rule="midpiont"),)), "did you mean 'midpoint'"),
        (lambda: SingleStep((Stage(0.5), Stage(weights=(0.5, 0.6)))), "that sum to 1"),
        (lambda: SingleStep(eta=1.0, noisy_stages=True), "noisy stages need stages"),
        (
            lambda: SingleStep((Stage(0.5), Stage(1.0, (0, 1))), 2, on_grid=True),
            "shorter than 2 steps; give an ending",
        ),
        (lambda: Churned(SingleStep(eta=1.0), Churn(1.0)), "give one of them"),
        (lambda: Churn(0.0), "churn is 0.0"),
        (lambda: Churn(1.0, 2.0, 1.0), "t_min < t_max"),
        (lambda: presets.get("dpm_single", order=4), "has 1, 2 and 3"),
        (lambda: presets.get("dpm_single", order=3, ratio=0.4), "that of order 2"),
        (lambda: presets.get("dpm_fast", last=3), "remainder of the passes"),
        (lambda: presets.get("edm_churn", method="hewn"), "did you mean 'heun'"),
        (lambda: DPMAdaptive(4), "has 2 and 3"),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_built(make, says):
    with pytest.raises(InvalidArgument, match=says):
        make()


def test_an_order_that_a_grid_is_too_short_for_is_said():
    x = ANCHOR_START
    for solver, steps in (
        (presets.dpmpp_2m(), 1),
        (presets.dpmpp_3m_exact(), 2),
        (Multistep(1, corrector=True), 1),
        (presets.unipc(), 1),
    ):
        with pytest.warns(UserWarning, match="so this walk is of a lower order; give more steps"):
            solver.solve(FIELD, x, grids.uniform(steps, 1.0, 0.1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for solver in (presets.ddim(), presets.dpmpp_2m(), presets.get("pndm")):
            solver.solve(FIELD, x, grids.uniform(2, 1.0, 0.1))
        opened = Multistep(3, starter=presets.get("dpmpp_single", order=3))
        opened.solve(FIELD, x, grids.uniform(1, 1.0, 0.1))


def test_the_even_weights_are_adams_bashforths():
    for points, weights in enumerate(EVEN, start=1):
        for j, weight in enumerate(weights):
            others = np.array([-k for k in range(points) if k != j], dtype=float)
            polynomial = np.poly1d(others, r=True) / np.prod(-j - others)
            area = polynomial.integ()
            assert weight == pytest.approx(area(1) - area(0), abs=1e-12)
