"""Adaptive Runge–Kutta: the pairs, the control of error, and every sample on its own."""

from __future__ import annotations

import math

import pytest
import torch

from tests.exact import F64, Seen, finite_data, gaussian_elementwise, mixture_1d, mixture_2d
from unnoise.errors import InvalidArgument, NonFinite, Unsupported
from unnoise.fields import Field
from unnoise.paths import EDM, VE, Cosine, Flow, VPLinear, grids
from unnoise.randomness import Streams
from unnoise.solvers import Adaptive, presets
from unnoise.solvers.adaptive.ode import combine, controlled, evaluated, mean_square
from unnoise.solvers.tableaux import ORDERS, embedded_pair

from .reference import ANCHOR_START, flow_mixture, slope

PATHS = [VPLinear(), Flow(), VE(), EDM(), Cosine()]
each_path = pytest.mark.parametrize("path", PATHS, ids=str)
each_pair = pytest.mark.parametrize("name", ORDERS)


def one_step(name: str, h: float) -> tuple[float, list[float]]:
    """Rms errors of one step of y′ = y²·cos(c + p) from many y and phases p: own and estimated."""
    method = embedded_pair(name)
    y, phase = (
        grid.reshape(-1, 1)
        for grid in torch.meshgrid(
            torch.linspace(-0.9, 0.9, 7, dtype=F64),
            torch.linspace(0, 3, 7, dtype=F64),
            indexing="ij",
        )
    )
    wide, ks = torch.full_like(y, h), []
    for node, row in zip(method.nodes, method.rows, strict=True):
        ks.append(combine(y, wide, row, ks) ** 2 * torch.cos(phase + node * h))
    exact = y / (1 - y * ((phase + h).sin() - phase.sin()))
    rms = lambda error: float(error.square().mean().sqrt())  # noqa: E731
    zero = torch.zeros_like(y)
    estimates = [rms(combine(zero, wide, row, ks)) for row in method.errors]
    return rms(combine(y, wide, method.weights, ks) - exact), estimates


@each_pair
def test_the_local_errors_are_of_their_orders(name):
    """One more than the method's order, or better: the leading terms of the last two pairs are so
    small that the next ones count; and one more than the estimate's."""
    first = 0.4 if name == "dop853" else 0.2
    ladder = [one_step(name, first / 2**k) for k in range(3)]
    measured = slope([error for error, _ in ladder])
    assert measured > ORDERS[name] + 0.9
    assert measured < ORDERS[name] + 1.4 or name in ("dormand_prince", "dop853")
    # dop853's two estimates are of orders 5 and 3, the others' of the order below the method's
    wanted = (6, 4) if name == "dop853" else (embedded_pair(name).estimate + 1,)
    for i, order in enumerate(wanted):
        assert slope([said[i] for _, said in ladder]) == pytest.approx(order, abs=0.4)


@each_pair
def test_the_tableaux_are_consistent(name):
    method = embedded_pair(name)
    assert sum(method.weights) == pytest.approx(1, abs=1e-14)
    for node, row in zip(method.nodes, method.rows, strict=True):
        assert sum(row) == pytest.approx(node, abs=1e-13)
    for row in method.errors:
        assert sum(row) == pytest.approx(0, abs=1e-13)
    if method.last_is_next:
        assert method.nodes[-1] == 1
        assert method.rows[-1] == method.weights[:-1]


@pytest.mark.parametrize("name", ["bogacki_shampine", "dormand_prince"])
def test_scipy_takes_the_same_step(name):
    from scipy.integrate import RK23, RK45

    theirs = {"bogacki_shampine": RK23, "dormand_prince": RK45}[name]
    method = embedded_pair(name)
    stages = theirs.n_stages
    assert method.weights[:stages] == pytest.approx(tuple(theirs.B), abs=1e-15)
    for mine, row in zip(method.rows[1:stages], theirs.A[1:], strict=True):
        assert mine == pytest.approx(tuple(row[: len(mine)]), abs=1e-15)
    sign = math.copysign(1, method.errors[0][0] * theirs.E[0])
    assert tuple(sign * e for e in method.errors[0]) == pytest.approx(tuple(theirs.E), abs=1e-15)


SAMPLERS = {"rk12": (1e-2, 1e-3, 1e-4), "rk23": (1e-3, 1e-4, 1e-5, 1e-6)}
SAMPLERS |= {name: (1e-4, 1e-6, 1e-8) for name in ("rk45", "dop853")}


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_error_falls_with_the_tolerance(name):
    """Down to σ = 0, where a wrong last step would set a floor."""
    path, tols = VPLinear(), SAMPLERS[name]
    field, x = mixture_1d(path), ANCHOR_START[::4]
    exact = flow_mixture(path, x, 1.0, 0.0)
    errors = [
        float((presets.get(name, tol=tol).solve(field, x, [1.0, 0.0]).x - exact).abs().mean())
        for tol in tols
    ]
    power = -slope(errors) / math.log2(tols[1] / tols[0])
    assert 0.7 < power < 1.4
    assert errors[-1] < 10 * tols[-1]


@each_path
def test_every_path_reaches_the_exact_flow(path):
    field, x = mixture_1d(path), ANCHOR_START[::4] * float(path.sigma(1.0))
    solution = presets.get("rk45", tol=1e-7).solve(field, x, [1.0, 0.0])
    exact = flow_mixture(path, x, 1.0, 0.0)
    assert float((solution.x - exact).abs().max()) < 2e-6
    assert solution.nfe < 200


@pytest.mark.parametrize("coordinate", ["flow", "sigma", "t", "log_snr", "signal"])
def test_every_coordinate_agrees(coordinate):
    path = VPLinear()
    x = ANCHOR_START[::4]
    solution = presets.get("rk45", tol=1e-8, coordinate=coordinate).solve(
        mixture_1d(path), x, [1.0, 0.01]
    )
    assert float((solution.x - flow_mixture(path, x, 1.0, 0.01)).abs().max()) < 1e-5


def test_it_walks_up_as_well():
    """From data to noise, out of σ = 0 as well; the grid's check is passed by with TimeGrid."""
    from unnoise.solvers import TimeGrid

    path = Flow()
    z = ANCHOR_START[::4]
    x = flow_mixture(path, z, 1.0, 0.0)
    up = TimeGrid((0.0, 1.0), torch.tensor([0.0, 1.0], dtype=F64).unbind())
    reached = presets.get("rk45", tol=1e-8).solve(mixture_1d(path), x, up).x
    assert float((reached - z).abs().max()) < 1e-6


class Times_(Field):
    """Notes at which times, per sample, it was asked."""

    def __init__(self, field):
        self.field, self.path, self.times = field, field.path, []

    def __call__(self, x_t, t, condition=None):
        self.times.append(t)
        return self.field(x_t, t)


@pytest.mark.parametrize("name", ["rk12", "rk23", "rk45", "dop853"])
@pytest.mark.parametrize("path", [Flow(), EDM()], ids=str)
def test_no_sample_depends_on_its_batch(name, path):
    """Bitwise, with an elementwise field; one sample's steps are many, another's few."""
    field = gaussian_elementwise(path)
    x = Streams(0, range(6)).normal(3).double() * torch.logspace(-2, 1, 6, dtype=F64)[:, None]
    solver = presets.get(name)
    every = solver.solve(field, x, [1.0, 0.0])
    assert name == "dop853" or len(set(every.accepted.tolist())) > 1
    for i in range(6):
        alone = solver.solve(field, x[i : i + 1], [1.0, 0.0])
        assert torch.equal(alone.x[0], every.x[i])
        assert (alone.accepted, alone.rejected) == (every.accepted[i], every.rejected[i])


@pytest.mark.parametrize("name", ["rk12", "rk23", "rk45", "dop853"])
def test_passes_are_counted_and_no_field_is_asked_at_no_noise(name):
    path = Cosine()
    field = Times_(mixture_1d(path))
    solution = presets.get(name).solve(field, ANCHOR_START[::8], [1.0, 0.0])
    assert solution.nfe == len(field.times)
    assert float(torch.stack(field.times).min()) > 0
    assert torch.equal(field.times[0], torch.ones(6, dtype=F64))
    field.times.clear()
    Adaptive().solve(field, ANCHOR_START[::8], [0.7, 0.3])  # at both ends to the bit
    assert torch.equal(field.times[0], torch.full((6,), 0.7, dtype=F64))
    assert any(bool((times == 0.3).all()) for times in field.times)
    assert (solution.finished, solution.t) == (True, 0.0)


def test_stops_meet_every_time_and_name_them():
    path = VPLinear()
    field, grid = Times_(mixture_2d(path)), grids.uniform(5, 1.0, 0.1)
    x = Streams(0, range(4)).normal(2).double()
    seen = []
    solver = Adaptive(stops=True)
    solution = solver.solve(field, x, grid, on_step=lambda k, said: seen.append(k))
    for t in grid:
        assert any(bool((times == t).all()) for times in field.times)
    assert seen == sorted(seen)
    assert set(seen) == set(range(5))
    free = Adaptive().solve(field, x, grid)
    torch.testing.assert_close(free.x, solution.x, rtol=1e-4, atol=1e-4)
    assert free.nfe < solution.nfe


@pytest.mark.parametrize("last", [0, 2, 4])
def test_returning_false_stops_at_a_grid_time(last):
    grid, x = grids.uniform(5, 1.0, 0.1), Streams(0, range(4)).normal(2).double()
    field = mixture_2d(VPLinear())
    solution = Adaptive(stops=True).solve(
        field, x, grid, on_step=lambda k, said: False if k == last else None
    )
    assert (solution.finished, solution.steps, solution.t) == (False, last, float(grid[last]))
    if last:
        full = Adaptive(stops=True).solve(field, x, grid[: last + 1])
        assert torch.equal(full.x, solution.x)
    else:
        assert torch.equal(solution.x, x)


@pytest.mark.parametrize("lens", ["x0", "eps", "v", "velocity", "score"])
def test_a_lens_changes_nothing(lens):
    path, x = VPLinear(), ANCHOR_START[::4]
    field, solver = mixture_1d(path), presets.get("rk45", tol=1e-7)
    torch.testing.assert_close(
        solver.solve(Seen(field, lens), x, [1.0, 0.0]).x,
        solver.solve(field, x, [1.0, 0.0]).x,
        rtol=0,
        atol=1e-8,
    )


def test_finite_data_are_reached():
    """No density at the end: the flow runs straight into the points."""
    field = finite_data(Flow())
    x = Streams(0, range(6)).normal(2).double()
    reached = presets.get("rk45", tol=1e-6).solve(field, x, [1.0, 0.0]).x
    gaps = torch.cdist(reached, field.points).min(1).values
    assert float(gaps.max()) < 1e-6


def test_a_limit_a_tolerance_and_settings_are_refused():
    field, x = mixture_1d(VPLinear()), ANCHOR_START[::8]
    with pytest.raises(InvalidArgument, match=r"sample \d of 6 .* the limit is 30: loosen"):
        Adaptive(tol=1e-8, max_passes=30).solve(field, x, [1.0, 0.0])
    with pytest.raises(InvalidArgument, match="float32 numbers cannot meet less than 1e-06"):
        Adaptive(tol=1e-8).solve(field, x.float(), [1.0, 0.0])
    for settings, says in (
        ({"tableau": "dormand_price"}, "did you mean 'dormand_prince'"),
        ({"coordinate": "angle"}, "unknown coordinate"),
        ({"tol": 0.0}, "tol is 0.0"),
        ({"max_passes": 0}, "max_passes is 0"),
    ):
        with pytest.raises(InvalidArgument, match=says):
            Adaptive(**settings)
    for path, coordinate, start in (
        (Flow(), "sigma", 1),
        (Flow(), "log_snr", 1),
        (VPLinear(), "t", 0),
    ):
        with pytest.raises(
            Unsupported, match=rf"'{coordinate}' the flow is infinite at t = {start}"
        ):
            Adaptive(coordinate=coordinate).solve(mixture_1d(path), x, [1.0, 0.0])


def test_numbers_that_break_name_their_place():
    field = mixture_1d(Flow())

    class Breaks(Field):
        path = field.path

        def __call__(self, x_t, t, condition=None):
            said = field(x_t, t)
            bad = (t < 0.5) & (torch.arange(len(x_t)) == 2)
            return said.with_value("x0", torch.where(bad[:, None], torch.nan, said.value))

    with pytest.raises(NonFinite, match=r"not finite at step 0 of 1, t = 0\.\d+, sample 2"):
        Adaptive().solve(Breaks(), ANCHOR_START[::8], [1.0, 0.0])
    x = ANCHOR_START[::8].clone()
    x[3] = torch.nan
    with pytest.raises(NonFinite, match="state is not finite at step 0 of 1, t = 1, sample 3"):
        Adaptive().solve(field, x, [1.0, 0.0])


def test_the_walk_of_a_plain_equation():
    """y′ = −y over [0, 3] and back, for samples of very different size."""
    y = torch.tensor([[1.0, 2.0], [1e3, -1e-3]], dtype=F64)
    rate = lambda c, y: -y  # noqa: E731
    method, norm = embedded_pair("dop853"), mean_square(1e-10, 1e-10)
    down = evaluated(controlled(y, 0.0, 3.0, method, norm, 10**4), rate).y
    torch.testing.assert_close(down, y * math.exp(-3), rtol=1e-9, atol=1e-9)
    back = evaluated(controlled(down, 3.0, 0.0, method, norm, 10**4), rate).y
    torch.testing.assert_close(back, y, rtol=1e-8, atol=1e-8)
