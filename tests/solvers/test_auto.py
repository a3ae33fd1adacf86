"""The solver that chooses for itself: its integrals, its grid, the same walk on every path."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from tests.exact import F64, Seen, mixture_2d
from unnoise.errors import InvalidArgument
from unnoise.fields import Gaussian
from unnoise.paths import EDM, VE, Chain, Cosine, Flow, VPLinear, grids
from unnoise.randomness import Streams
from unnoise.solvers import Auto, get, own_grid, sample
from unnoise.solvers.fitted.auto import anchor, anchors, deviations, places

from .reference import Quick, Watched, flow_mixture, slope

RMS_2D = 1.2


def start(path, n=16, ratio=80.0, seed=0):
    """The same noise on any path at σ/α = ratio, and the time of it."""
    t = float(path.time(torch.tensor(-math.log(ratio), dtype=F64)))
    x = Streams(seed, range(n)).normal(2).double() * math.hypot(ratio, RMS_2D)
    return x * float(path.alpha(t)), t


def test_shares_are_the_integrals_of_the_polynomial():
    """On a grid that is not its own, against scipy's quadrature of each Lagrange polynomial."""
    path, scale = VPLinear(), 0.7
    grid = tuple(grids.uniform(12, 0.9, 0.1).tolist())
    shares, table = Auto(scale).weights(path, grid), anchor(12)
    kappa, c, again = (math.exp(v) * scale for v in table.scales)
    assert shares.kappa == pytest.approx(kappa, rel=1e-14)
    ratio = [float(path.sigma(t) / path.alpha(t)) for t in grid]

    def integral(nodes, j, low, high, by):
        own = [ratio[i] / (ratio[i] + by) for i in nodes]

        def basis(u):
            r = kappa * u / (1 - u)
            return math.prod((r / (r + by) - o) / (own[j] - o) for i, o in enumerate(own) if i != j)

        a, b = (ratio[i] / (ratio[i] + kappa) for i in (low, high))
        return quad(basis, a, b, epsabs=1e-13)[0] / (b - a)

    for k in (0, 1, 2, 7, 11):
        nodes = [i for i in range(k, k - len(shares.predict[k]), -1)]
        assert len(nodes) == min(table.points, k + 1)
        wanted = [integral(nodes, j, k, k + 1, c) for j in range(len(nodes))]
        assert shares.predict[k] == pytest.approx(wanted, abs=1e-10)
    for k in (1, 2, 7, 11):
        nodes = [i for i in range(k, k - len(shares.correct[k]), -1)]
        assert len(nodes) == min(table.corrector, k) + 1
        wanted = [integral(nodes, j, k - 1, k, again) for j in range(len(nodes))]
        assert shares.correct[k] == pytest.approx(wanted, abs=1e-10)
    assert shares.correct[0] == ()


def test_a_walk_is_the_formula_written_out():
    """Two steps and a corrected third, by hand, in y = z/(r + κ)."""
    path, solver = EDM(), Auto(0.8)
    field, grid = mixture_2d(path), solver.own_grid(path, 3)
    shares = solver.weights(path, tuple(grid.tolist()))
    r, kappa = (80 * grid).tolist(), shares.kappa
    x = start(path)[0]

    def g(z, ratio):
        x0 = field(z, torch.tensor(ratio / 80, dtype=F64)).x0
        return kappa * (z - x0) / ratio - x0

    u = [v / (v + kappa) for v in r]
    y0 = x / (r[0] + kappa)
    g0 = g(x, r[0])
    y1 = y0 + (u[1] - u[0]) / kappa * g0 * shares.predict[0][0]
    g1 = g(y1 * (r[1] + kappa), r[1])
    (c1, c0), (p1, p0) = shares.correct[1], shares.predict[1]
    y1 = y0 + (u[1] - u[0]) / kappa * (c1 * g1 + c0 * g0)
    y2 = y1 + (u[2] - u[1]) / kappa * (p1 * g1 + p0 * g0)
    g2 = g(y2 * (r[2] + kappa), r[2])
    y2 = y1 + (u[2] - u[1]) / kappa * sum(
        c * v for c, v in zip(shares.correct[2], (g2, g1, g0), strict=True)
    )
    y3 = y2 + (u[3] - u[2]) / kappa * sum(
        c * v for c, v in zip(shares.predict[2], (g2, g1, g0), strict=True)
    )
    torch.testing.assert_close(solver.solve(field, x, grid).x, y3 * kappa, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("steps", [*range(1, 33), 40, 50, 64, 99, 100, 300, 1000])
def test_every_number_of_steps(steps):
    """Shares sum to 1, so data at one point are exact; the grid falls from end to end."""
    path = Flow()
    field = Watched(Gaussian(torch.tensor([0.7, -2.0], dtype=F64), 0.0, path))
    solver = Auto(1.5)
    grid = solver.own_grid(path, steps)
    assert len(grid) == steps + 1
    assert (float(grid[0]), float(grid[-1])) == (1.0, 0.0)
    for row in (*solver.weights(path, tuple(grid.tolist())).predict,):
        assert sum(row) == pytest.approx(1, abs=1e-9)
    x = Streams(0, range(3)).normal(2).double()
    solution = solver.solve(field, x, grid)
    assert solution.nfe == steps == len(field.times)
    torch.testing.assert_close(solution.x, field.field.mean.expand(3, 2), rtol=1e-9, atol=1e-9)


def test_deviations_end_where_the_table_does():
    for steps in (5, 7, 10, 17, 25):
        assert np.abs(deviations(steps, anchor(steps).predict)).max() > 1e-3
    for steps in (30, 40, 50, 77, 1000):
        assert np.abs(deviations(steps, anchor(steps).predict)).max() == 0
        assert np.abs(deviations(steps, anchor(steps).correct)).max() == 0


def test_the_table_is_read_between_its_anchors():
    """Linearly in log N between anchors of one order; otherwise as at the one below."""
    table = anchors()
    assert anchor(5) is table[5]
    assert anchor(1) is table[min(table)]
    assert anchor(10**6) is table[max(table)]
    assert table[15].points == table[20].points
    share = math.log(17 / 15) / math.log(20 / 15)
    for name in ("scales", "gaps", "predict", "correct"):
        low, high = (np.array(getattr(table[n], name)) for n in (15, 20))
        wanted = low + share * (high - low)
        np.testing.assert_allclose(getattr(anchor(17), name), wanted, rtol=1e-12, atol=1e-15)
    left = 1 - math.log(25 / 20) / math.log(30 / 20)  # of the deviations, none at 30
    np.testing.assert_allclose(anchor(25).predict, left * np.array(table[20].predict))
    assert table[30].points != table[50].points
    assert anchor(40) is table[30]


def test_the_grid_falls_at_every_number_of_steps():
    for steps in range(1, 200):
        at = places(steps)
        assert at[0] == 1
        assert abs(at[-1]) < 1e-12
        assert (np.diff(at) < 0).all()


@pytest.mark.parametrize("steps", [4, 10, 25])
def test_the_same_walk_on_every_path(steps):
    """A model of one path walked along others: σ/α alone decides."""
    made, model = [], mixture_2d(VPLinear())
    for path in (VPLinear(), EDM(), Flow(), Cosine(), Chain.linear().as_path()):
        x, t = start(path, ratio=60.0)
        field = model.on_path(path)
        solver = Auto(RMS_2D)
        grid = solver.own_grid(path, steps, t, 1e-4 if path in (Cosine(),) else 0.0)
        ratio = path.sigma(grid) / path.alpha(grid)
        if path != Cosine():
            made.append((ratio[:-1], solver.solve(field, x, grid).x / float(path.alpha(grid[-1]))))
    for ratio, x in made[1:]:
        torch.testing.assert_close(ratio, made[0][0], rtol=1e-6, atol=0)
        torch.testing.assert_close(x, made[0][1], rtol=1e-6, atol=1e-7)


def test_larger_data_are_the_same_walk_in_larger_units():
    small, path = mixture_2d(EDM(80.0)), EDM(80.0)
    wide = EDM(800.0)

    class Ten(Watched):
        def __call__(self, x_t, t, condition=None):
            said = small(x_t / 10, t)
            return type(said)(x_t, t, wide, "x0", said.x0 * 10)

    field = Ten(small)
    field.path = wide
    x = start(path)[0]
    one, ten = Auto(RMS_2D), Auto(10 * RMS_2D)
    near = one.solve(small, x, one.own_grid(path, 9)).x
    far = ten.solve(field, x * 10, ten.own_grid(wide, 9)).x
    torch.testing.assert_close(far, near * 10, rtol=1e-9, atol=1e-9)


def test_errors_fall_with_steps_at_the_declared_order():
    path, x = VPLinear(), torch.linspace(-2, 2, 41, dtype=F64)[:, None]
    field, solver = Quick(path), Auto(1.3)
    exact = flow_mixture(path, x, 1.0, 0.0)

    def error(steps):
        return float(
            (solver.solve(field, x, solver.own_grid(path, steps)).x - exact).abs().median()
        )

    errors = [error(n) for n in (5, 8, 10, 15, 20, 30, 50, 100)]
    assert all(a > b for a, b in itertools.pairwise(errors))
    assert slope([error(n) for n in (100, 200, 400)]) > 4


@pytest.mark.parametrize(("steps", "times"), [(5, 1.5), (8, 3), (10, 3), (20, 10)])
def test_it_beats_what_is_usual(steps, times):
    """By that factor below DPM-Solver++ 2M and UniPC on Karras's grid."""
    path = EDM()
    field, (x, _t) = mixture_2d(path), start(path, 200)
    solver = Auto(RMS_2D)
    exact = solver.solve(field, x, solver.own_grid(path, 300)).x

    def median(other, grid):
        return float((other.solve(field, x, grid).x - exact).norm(dim=1).median())

    ours = median(solver, solver.own_grid(path, steps))
    for name in ("dpmpp_2m", "unipc"):
        assert ours * times < median(get(name), grids.karras(path, steps))


@pytest.mark.parametrize(("first", "last"), [(1.0, 0.3), (0.5, 0.0), (0.4, 0.2), (1e-3, 0.0)])
def test_any_start_and_end(first, last):
    path = VPLinear()
    field, solver = Quick(path), Auto(1.3)
    x = torch.linspace(-2, 2, 21, dtype=F64)[:, None] * float(path.sigma(first))
    grid = solver.own_grid(path, 60, first, last)
    assert (float(grid[0]), float(grid[-1])) == (first, last)
    reached = solver.solve(field, x, grid).x
    torch.testing.assert_close(reached, flow_mixture(path, x, first, last), rtol=1e-5, atol=2e-5)


def test_every_lens_says_the_same():
    path = Cosine()
    field, solver = mixture_2d(path), Auto(RMS_2D)
    grid = solver.own_grid(path, 8, 0.98)
    x = Streams(0, range(4)).normal(2).double()
    made = [solver.solve(Seen(field, lens), x, grid).x for lens in ("x0", "eps", "v", "velocity")]
    for other in made[1:]:
        torch.testing.assert_close(other, made[0], rtol=1e-9, atol=1e-10)


def test_sampling_with_its_own_grid():
    path = VE()
    field = Watched(mixture_2d(path))
    made = sample(field, Streams(0, range(4)), (2,), get("auto"), 6, data_std=RMS_2D, dtype=F64)
    bound = Auto(RMS_2D)
    assert field.times == bound.own_grid(path, 6).tolist()
    assert made.nfe == 7  # VE ends in noise: denoised once more
    given = grids.karras(path, 6)
    field.times.clear()
    sample(field, Streams(0, range(4)), (2,), get("auto"), given, data_std=RMS_2D, dtype=F64)
    assert field.times == given.tolist()
    assert get("auto:data_std=0.5") == Auto(0.5) == Auto(0.5).for_data(2.0)
    assert Auto().for_data(2.0) == Auto(2.0)


def test_what_is_refused():
    for wrong in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(InvalidArgument, match="data_std is"):
            Auto(wrong)
    with pytest.raises(InvalidArgument, match="no grid of its own"):
        own_grid(get("ddim"), Flow(), 5)
    with pytest.raises(InvalidArgument, match="steps is 0"):
        Auto().own_grid(Flow(), 0)
