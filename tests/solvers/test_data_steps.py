"""SA-Solver and ER-SDE against their papers' formulas written out, and their orders."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.integrate import quad

from tests.exact import F64, mixture_2d
from unnoise.errors import InvalidArgument
from unnoise.paths import VPLinear, grids
from unnoise.randomness import Streams
from unnoise.solvers import DDIM, ErSde, Multistep, SaSolver

from .reference import ANCHOR_PATH, ANCHOR_START, Quick, anchor_grid, flow_mixture, slope

PATH = VPLinear()
FIELD = mixture_2d(PATH)
GRIDS = {
    "log_snr": lambda n: grids.log_snr(PATH, n, 1.0, 0.01),
    "uneven": lambda n: torch.linspace(0.97, 0.03, n + 1, dtype=F64) ** 1.7,
}
each_grid = pytest.mark.parametrize("spacing", GRIDS)
each_count = pytest.mark.parametrize("steps", [1, 2, 3, 6])


def start(n: int = 5) -> torch.Tensor:
    return Streams(5, range(n)).normal(2).double()


def numbers(grid):
    return ([float(f(t)) for t in grid] for f in (PATH.alpha, PATH.sigma, PATH.log_snr))


def same(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def ell(nodes, j, at):
    return math.prod((at - n) / (nodes[j] - n) for i, n in enumerate(nodes) if i != j)


def integral(f, low, high):
    return quad(f, low, high, epsabs=1e-13, epsrel=1e-12)[0]


@each_grid
@each_count
@pytest.mark.parametrize("tau", [0.0, 0.6, 1.0])
@pytest.mark.parametrize(("points", "corrector"), [(1, 0), (2, 0), (3, 0), (1, 2), (2, 1), (3, 4)])
@pytest.mark.parametrize("rule", ["exact", "published"])
def test_sa_solver_equations_14_and_17(steps, spacing, tau, points, corrector, rule):
    grid = GRIDS[spacing](steps)
    alpha, sigma, lam = numbers(grid)
    solver = SaSolver(points, corrector, tau, rule=rule)
    ours = solver.solve(FIELD, start(), grid, Streams(1, range(5))).x
    noise = Streams(1, range(5))

    def move(k, x, nodes, answers, xi):
        h, c = lam[k + 1] - lam[k], 1 + tau**2
        out = sigma[k + 1] / sigma[k] * math.exp(-(tau**2) * h) * x
        weights = [
            integral(
                lambda u, j=j: c * math.exp(c * (u - lam[k + 1])) * ell(nodes, j, u),
                lam[k],
                lam[k + 1],
            )
            for j in range(len(nodes))
        ]
        if rule == "published" and len(nodes) == 2:
            # the slope's integral ∫ c·e^{c(u−h)}·u du becomes c·h²/2 (the authors' remark)
            exact = integral(lambda u: c * math.exp(c * (u - h)) * u, 0, h)
            extra = (c * h**2 / 2 - exact) / (nodes[0] - nodes[1])
            weights = [weights[0] + extra, weights[1] - extra]
        for weight, answer in zip(weights, answers, strict=True):
            out = out + alpha[k + 1] * weight * answer
        return out + sigma[k + 1] * math.sqrt(1 - math.exp(-2 * tau**2 * h)) * xi

    x, past, before, xi = start(), [], None, 0.0
    for k in range(steps):
        past.insert(0, (lam[k], FIELD(x, grid[k]).x0))
        if k and corrector:
            x = move(k - 1, before, *zip(*past[:corrector], strict=True), xi)
        before = x
        xi = noise.normal(2).double() if tau else 0.0
        x = move(k, x, *zip(*past[:points], strict=True), xi)
    same(ours, x)


PHI = {
    "er_sde": lambda s: s * (math.exp(s**0.3) + 10),
    "sde": lambda s: s**2,
    "ode": lambda s: s,
}


@each_grid
@each_count
@pytest.mark.parametrize("points", [1, 2, 3])
@pytest.mark.parametrize("scale", PHI)
def test_er_sde_algorithm_3(steps, spacing, points, scale):
    """As published, with its integrals of 1/φ by quadrature (Cui et al. 2023)."""
    grid, phi = GRIDS[spacing](steps), PHI[scale]
    alpha, sigma, _ = numbers(grid)
    place = [s / a for s, a in zip(sigma, alpha, strict=True)]
    ours = ErSde(points, scale).solve(FIELD, start(), grid, Streams(1, range(5))).x
    noise, x, answers, slopes = Streams(1, range(5)), start(), [], []
    for k in range(steps):
        answers.append(FIELD(x, grid[k]).x0)
        s0, s1 = place[k], place[k + 1]
        r = phi(s1) / phi(s0)
        y = r * x / alpha[k] + (1 - r) * answers[k]
        slopes.append(None)
        if k and points > 1:
            slopes[k] = (answers[k] - answers[k - 1]) / (s0 - place[k - 1])
            y = y + (s1 - s0 + phi(s1) * integral(lambda s: 1 / phi(s), s1, s0)) * slopes[k]
        if k > 1 and points > 2:
            bend = (slopes[k] - slopes[k - 1]) / ((s0 - place[k - 2]) / 2)
            moment = integral(lambda s, a=s0: (s - a) / phi(s), s1, s0)
            y = y + ((s1 - s0) ** 2 / 2 + phi(s1) * moment) * bend
        x = alpha[k + 1] * y
        if scale != "ode":
            spread = math.sqrt(s1**2 - (r * s0) ** 2)
            x = x + alpha[k + 1] * spread * noise.normal(2).double()
    same(ours, x)


@each_grid
@pytest.mark.parametrize("points", [1, 2, 3])
def test_where_they_are_the_one_formula(spacing, points):
    """τ = 0 is DPM-Solver++, φ = s² of one point is ancestral sampling, φ = s Adams on x0."""
    grid, noise = GRIDS[spacing](6), lambda: Streams(2, range(5))
    plain = SaSolver(points, 0, 0.0, rule="exact").solve(FIELD, start(), grid).x
    same(plain, Multistep(points).solve(FIELD, start(), grid).x)
    if points > 1:
        by_noise = ErSde(points, "ode", "exact").solve(FIELD, start(), grid).x
        same(by_noise, Multistep(points, coordinate="sigma").solve(FIELD, start(), grid).x)
    ancestral = DDIM(1.0).solve(FIELD, start(), grid, noise()).x
    same(ErSde(1, "sde").solve(FIELD, start(), grid, noise()).x, ancestral)
    same(SaSolver(1, 0, 1.0).solve(FIELD, start(), grid, noise()).x, ancestral)


EXACT = flow_mixture(ANCHOR_PATH, ANCHOR_START, 1.0, 0.01)
ORDERED = [
    *(SaSolver(p, q, 0.0, rule="exact") for p, q in ((1, 0), (2, 0), (3, 0), (1, 2), (2, 3))),
    *(SaSolver(p, q, 0.0) for p, q in ((2, 0), (2, 2), (1, 1))),
    *(ErSde(p, "ode", rule) for p in (1, 2, 3) for rule in ("published", "exact")),
]


@pytest.mark.parametrize("solver", ORDERED, ids=str)
def test_declared_order_is_measured_order(solver):
    field, errors = Quick(ANCHOR_PATH), []
    for steps in (48, 96, 192):
        reached = solver.solve(field, ANCHOR_START, anchor_grid(steps)).x
        errors.append(float((reached - EXACT).abs().mean()))
    assert slope(errors) == pytest.approx(solver.order, abs=0.35)


def test_tau_only_in_its_interval():
    grid = grids.uniform(4, 1.0, 0.1)
    solver = SaSolver(interval=(0.4, 0.8))
    noise = Streams(0, range(5))
    solver.solve(FIELD, start(), grid, noise)
    assert noise.mark() == 2  # the steps from 0.775 and 0.55
    quiet = SaSolver(tau=0.0).solve(FIELD, start(), grid).x
    outside = SaSolver(interval=(0.0, 0.05)).solve(FIELD, start(), grid, noise).x
    same(outside, quiet)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: SaSolver(2, 4), "corrector of 4 nodes"),
        (lambda: SaSolver(tau=-1), "tau is -1"),
        (lambda: SaSolver(interval=(0.5, 0.5)), "low < high"),
        (lambda: SaSolver(tau=0, interval=(0.1, 0.5)), "changes nothing"),
        (lambda: SaSolver(rule="bh"), "unknown rule"),
        (lambda: SaSolver(0), "points is 0"),
        (lambda: ErSde(scale="ed_sde"), "did you mean 'er_sde'"),
        (lambda: ErSde(rule="rounded"), "unknown rule"),
        (lambda: ErSde(0), "points is 0"),
    ],
)
def test_impossible_settings_are_refused(build, says):
    with pytest.raises(InvalidArgument, match=says):
        build()
