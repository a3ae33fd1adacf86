"""The contract of every solver: grids, on_step, passes, failures, seeds, flow maps."""

from __future__ import annotations

import pytest
import torch

from tests.exact import F64, gaussian_elementwise, mixture_2d
from unnoise.errors import InvalidArgument, NonFinite, Unsupported
from unnoise.fields import Field, FlowMap, Gaussian, Prediction
from unnoise.paths import EDM, VE, Chain, Cosine, Flow, VPLinear, grids
from unnoise.randomness import Streams
from unnoise.solvers import (
    DDIM,
    Adaptive,
    DPMAdaptive,
    Multistep,
    RungeKutta,
    SolverFlowMap,
    StochasticMultistep,
    TimeGrid,
    presets,
)

from .reference import Watched, flow_gaussian

SOLVERS = {name: presets.get(name) for name in presets.PRESETS}
# adaptive ones choose their own steps, each sample for itself: see test_adaptive
SOLVERS = {name: s for name, s in SOLVERS.items() if not isinstance(s, Adaptive | DPMAdaptive)}
# passes a step, and on a last step into σ = 0, where no stage may look
STAGES = {
    "predictor_corrector": (2, 1),
    **{"heun": (2, 1), "midpoint": (2, 2), "rk4": (4, 1)},
    **dict.fromkeys(("dpmpp_single", "dpmpp_2s", "dpm2", "dpm2_ancestral"), (2, 1)),
    **dict.fromkeys(("dpmpp_2s_ancestral", "dpmpp_sde"), (2, 1)),
    **dict.fromkeys(("dpm_single", "dpm_fast"), (3, 1)),
}
# looks between the grid's times that are not of every step alike: see test_single_step
IRREGULAR = ("edm_churn", "restart", "pndm", "plms", "annealed_langevin")
each_solver = pytest.mark.parametrize("name", SOLVERS)


def start(n: int = 4) -> torch.Tensor:
    return Streams(0, range(n)).normal(3).double()


def noise(n: int = 4) -> Streams:
    return Streams(7, range(n))


@each_solver
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 13, 1000])
def test_the_visited_grid_is_the_declared_grid(name, steps):
    """Not a step beside the grid, above all where steps do not divide the chain's length."""
    path = Chain.linear().as_path()
    field, solver = Watched(gaussian_elementwise(path)), SOLVERS[name]
    grid = grids.trailing(path, steps)
    solution = solver.solve(field, start(), grid, noise())
    declared = grid.tolist()
    if name in IRREGULAR:
        assert all(path.sigma(t) > 0 for t in field.times)
    elif name in STAGES:
        assert set(declared[:-1]) <= set(field.times)
        assert all(path.sigma(t) > 0 for t in field.times)
    else:
        assert field.times == declared[:-1]  # never at t = 0, where σ = 0
    assert solution.nfe == len(field.times)
    assert (solution.t, solution.steps, solution.finished) == (0.0, steps, True)
    each, last = STAGES.get(name, (1, 1))
    if name not in IRREGULAR:
        assert solution.nfe == each * (steps - 1) + last


@pytest.mark.parametrize("path", [EDM(), Flow(), VPLinear(), Cosine()], ids=str)
@each_solver
def test_no_field_is_asked_where_there_is_no_noise(path, name):
    field = Watched(gaussian_elementwise(path))
    SOLVERS[name].solve(field, start(), grids.uniform(5, 0.9), noise())
    assert min(field.times) > 0


@each_solver
def test_on_step_sees_every_prediction_and_changes_nothing(name):
    field, seen = Watched(mixture_2d(VPLinear())), []
    x, grid = start()[:, :2], grids.uniform(5, 1.0, 0.1)
    quiet = SOLVERS[name].solve(field, x, grid, noise())
    watched = SOLVERS[name].solve(
        field, x, grid, noise(), lambda step, said: seen.append((step, said))
    )
    assert torch.equal(quiet.x, watched.x)
    assert len(seen) == watched.nfe == quiet.nfe
    assert [float(said.t) for _, said in seen] == field.times[: len(seen)]
    assert [step for step, _ in seen] == sorted(step for step, _ in seen)
    assert {step for step, _ in seen} == set(range(5))
    assert all(isinstance(said, Prediction) and said.x_t.shape == x.shape for _, said in seen)
    # what was seen is still what was said: nothing overwrites history
    for _, said in seen:
        again = field.field(said.x_t, said.t)
        torch.testing.assert_close(said.x0, again.x0)


@each_solver
@pytest.mark.parametrize("last", [0, 2, 4])
def test_returning_false_stops_there(name, last):
    field = Watched(gaussian_elementwise(VPLinear()))
    grid = grids.uniform(5, 1.0, 0.1)
    solution = SOLVERS[name].solve(
        field, start(), grid, noise(), lambda step, said: False if step == last else None
    )
    assert (solution.finished, solution.steps) == (False, last)
    assert solution.t == float(grid[last])
    assert solution.nfe == len(field.times)
    if last == 0:
        assert torch.equal(solution.x, start())


def test_a_stage_can_stop_a_walk_too():
    """The second look of a Heun step: the walk ends where that step began."""
    field, grid = Watched(gaussian_elementwise(VPLinear())), grids.uniform(3, 1.0, 0.1)
    count = []

    def on_step(step, said):
        count.append(said)
        return len(count) < 4

    solution = presets.heun().solve(field, start(), grid, on_step=on_step)
    assert (solution.steps, solution.nfe, solution.finished) == (1, 4, False)
    one = presets.heun().solve(field.field, start(), grid[:2])
    assert torch.equal(solution.x, one.x)


@each_solver
@pytest.mark.parametrize("what", ["nan", "inf"])
def test_numbers_that_break_name_their_place(name, what):
    grid = grids.uniform(5, 1.0, 0.1)

    def breaks(call: int, said: Prediction) -> Prediction:
        if abs(float(said.t) - float(grid[3])) > 1e-12:
            return said
        value = said.value.clone()
        value[2, 1] = float(what)
        return said.with_value(said.lens, value)

    field = Watched(gaussian_elementwise(VPLinear()), breaks)
    early = (
        "heun",
        "rk4",
        "edm_churn",
        "restart",
        "pndm",
        "dpm2_ancestral",
        "dpmpp_2s_ancestral",
        "predictor_corrector",
        "annealed_langevin",
    )
    stage = 2 if name in early else 3  # a stage of the step before looks there first
    with pytest.raises(
        NonFinite, match=rf"prediction is not finite at step {stage} of 5, t = 0.46, sample 2 of 4"
    ):
        SOLVERS[name].solve(field, start(), grid, noise())


def test_a_start_that_is_broken_is_named_too():
    x = start()
    x[3, 0] = float("nan")
    with pytest.raises(NonFinite, match=r"state is not finite at step 0 of 2, t = 1, sample 3"):
        presets.ddim().solve(gaussian_elementwise(VPLinear()), x, grids.uniform(2))


def test_a_replay_draws_the_same_noise():
    """The failing number depends on the noise: the replay must find it again, mid-stream."""
    path, stream = VPLinear(), noise()
    stream.normal(3)

    def breaks(call: int, said: Prediction) -> Prediction:
        bad = said.x_t.abs() > said.x_t.abs().max() - 1e-12
        return (
            said.with_value("x0", torch.where(bad, torch.nan, said.x0)) if call % 4 == 2 else said
        )

    with pytest.raises(NonFinite, match="prediction is not finite at step 2 of 4"):
        presets.ddpm().solve(
            Watched(gaussian_elementwise(path), breaks), start(), grids.uniform(4), stream
        )


EVENTS = [(1,), (3,), (7,), (17,), (5, 3), (3, 9, 9), (1, 28, 28), (3, 32, 32)]


@pytest.mark.parametrize("event", EVENTS, ids=str)
@pytest.mark.parametrize(
    "name", ["ddim", "ddpm", "dpmpp_2m", "dpmpp_2m_sde", "unipc", "lms", "heun"]
)
def test_the_same_bits_at_batch_1_8_and_64(event, name):
    path = VPLinear()
    field = gaussian_elementwise(path, event, torch.float32)
    grid, solver = grids.uniform(4, 1.0, 0.1), presets.get(name)

    def walk(rows: range) -> torch.Tensor:
        streams = Streams(3, rows)
        x = path.prior(streams, event)
        assert x.dtype == torch.float32
        return solver.solve(field, x, grid, streams).x

    every = walk(range(64))
    eights = torch.cat([walk(range(i, i + 8)) for i in range(0, 64, 8)])
    assert torch.equal(every, eights)
    for i in (0, 5, 63):
        assert torch.equal(walk(range(i, i + 1))[0], every[i])


def test_what_the_solvers_refuse():
    flow, x = gaussian_elementwise(Flow()), start()
    for solver in (presets.lms(), presets.deis(), presets.dpm_2m(), presets.unipc(lens="eps")):
        with pytest.raises(Unsupported, match=r"direction of ε cannot start where α = 0"):
            solver.solve(flow, x, grids.uniform(3))
        solver.solve(flow, x, grids.uniform(3, 0.999))
    for coordinate in ("sigma", "log_snr"):
        with pytest.raises(Unsupported, match=rf"'{coordinate}' is infinite at t = 1; use 'flow'"):
            presets.heun(coordinate).solve(flow, x, grids.uniform(3))
    with pytest.raises(Unsupported, match=r"infinite at t = 1, where α = 0; start below"):
        presets.euler_maruyama().solve(flow, x, grids.uniform(3), noise())
    presets.euler_maruyama().solve(flow, x, grids.uniform(3, 0.999), noise())


class Says(Field):
    """A field that says nothing but zeros, in a given lens."""

    def __init__(self, path, lens):
        self.path, self.lens = path, lens

    def __call__(self, x_t, t, condition=None):
        return Prediction(x_t, t, self.path, self.lens, torch.zeros_like(x_t))


@pytest.mark.parametrize("lens", ["eps", "score"])
@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m", "adams", "unipc", "euler"])
def test_eps_where_there_is_no_signal_is_refused_by_name(lens, name):
    with pytest.raises(Unsupported, match=rf"{lens} does not determine .* at t = 1"):
        presets.get(name).solve(Says(Flow(), lens), start(), grids.uniform(3))


@pytest.mark.parametrize(
    ("grid", "says"),
    [
        ([0.5], "at least two times"),
        ([0.1, 0.9], "must decrease"),
        ([0.9, 0.5, 0.5], "must decrease"),
        ([1.5, 0.5], "outside"),
        ([float("nan"), 0.5], "outside"),
        ([[0.9, 0.5]], "shape"),
    ],
)
def test_grids_are_checked_before_any_work(grid, says):
    field = Watched(gaussian_elementwise(VPLinear()))
    with pytest.raises(InvalidArgument, match=says):
        presets.ddim().solve(field, start(), grid)
    assert field.times == []


def test_a_grid_can_be_a_list_a_tensor_or_checked_times():
    field, x = gaussian_elementwise(VPLinear()), start()
    ways = ([0.9, 0.4, 0.1], torch.tensor([0.9, 0.4, 0.1], dtype=F64), TimeGrid.of([0.9, 0.4, 0.1]))
    first, *rest = (presets.dpmpp_2m().solve(field, x, way).x for way in ways)
    assert all(torch.equal(first, other) for other in rest)


def test_a_field_may_change_its_lens_on_the_way():
    """As guidance with an interval does."""
    lenses = ("v", "x0", "eps", "velocity", "score")
    field = mixture_2d(VPLinear())
    changing = Watched(
        field, lambda call, said: said.with_value(lenses[call % 5], said.as_lens(lenses[call % 5]))
    )
    grid, x = grids.uniform(7, 1.0, 0.05), start()[:, :2]
    for name in ("dpmpp_3m", "unipc", "rk4", "lms"):
        torch.testing.assert_close(
            presets.get(name).solve(changing, x, grid).x,
            presets.get(name).solve(field, x, grid).x,
            rtol=1e-9,
            atol=1e-9,
        )


def test_the_start_is_left_alone():
    x = start()
    for solver in SOLVERS.values():
        solver.solve(gaussian_elementwise(VPLinear()), x, grids.uniform(3), noise())
    assert torch.equal(x, start())


@pytest.mark.parametrize("solver", [presets.ddim(), presets.heun("flow"), presets.euler("t")])
def test_flow_maps_compose(solver):
    """Two steps from t to r are one step to the middle, then one on."""
    field, x = mixture_2d(VPLinear()), start()[:, :2]
    one, two = SolverFlowMap(solver, field, 1), SolverFlowMap(solver, field, 2)
    assert isinstance(one, FlowMap)
    torch.testing.assert_close(
        two(x, 0.9, 0.1), one(one(x, 0.9, 0.5), 0.5, 0.1), rtol=1e-13, atol=1e-13
    )
    assert torch.equal(one(x, 0.4, 0.4), x)


def test_flow_maps_are_the_flow():
    path = VE()
    field = gaussian_elementwise(path)
    x = start() * 50
    jump = SolverFlowMap(presets.unipc(3), field, 60, lambda n, t, s: grids.log_snr(path, n, t, s))
    torch.testing.assert_close(
        jump(x, 1.0, 0.2), flow_gaussian(field, x, 1.0, 0.2), rtol=1e-3, atol=1e-3
    )
    exact = SolverFlowMap(presets.dpmpp_2m(), Gaussian(torch.ones(3, dtype=F64), 0.0, path), 1)
    torch.testing.assert_close(exact(exact(x, 1.0, 0.3), 0.3, 0.0), exact(x, 1.0, 0.0))
    with pytest.raises(InvalidArgument, match="deterministic"):
        SolverFlowMap(presets.ddpm(), field, 4)


class Conditioned(Gaussian):
    """A Gaussian whose mean is what it is conditioned on."""

    def __call__(self, x_t, t, condition=None):
        shift = 0.0 if condition is None else float(condition["shift"])
        return Gaussian(self.mean + shift, self.variance, self.path)(x_t, t)


def test_flow_maps_pass_conditions_on():
    field = Conditioned(torch.zeros(3, dtype=F64), 0.0, VPLinear())
    jump = SolverFlowMap(presets.ddim(), field, 2)
    difference = jump(start(), 1.0, 0.0, {"shift": 2.0}) - jump(start(), 1.0, 0.0)
    torch.testing.assert_close(difference, torch.full((4, 3), 2.0, dtype=F64))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"points": 0}, "points is 0"),
        ({"coordinate": "lambda"}, "unknown coordinate 'lambda'"),
        ({"rule": "midpont"}, "did you mean 'midpoint'"),
        ({"direction": (0.0, 0.0)}, "not both 0"),
        ({"direction": (-1.0, 1.0)}, "p, q ≥ 0"),
        ({"rule": "midpoint", "coordinate": "t", "points": 2}, "log_snr"),
        ({"rule": "half_curvature", "points": 2}, "points=3"),
        ({"rule": "half_curvature", "points": 3, "corrector": True}, "corrector=False"),
    ],
)
def test_impossible_settings_are_refused_where_they_are_built(settings, says):
    with pytest.raises(InvalidArgument, match=says):
        Multistep(**settings)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"points": 1}, "points is 1"),
        ({"coordinate": "lambda"}, "unknown coordinate 'lambda'"),
        ({"rule": "midpont"}, "did you mean 'midpoint'"),
        ({"rule": "midpoint", "coordinate": "t", "points": 2}, "log_snr"),
        ({"rule": "half_curvature", "points": 2}, "points=3"),
        ({"eta": 0.0}, "use Multistep"),
        ({"eta": 1.5}, "eta is 1.5"),
        ({"eta": 2.0, "points": 2}, "or variance='sde'"),
        ({"eta": float("nan")}, "eta is nan"),
        ({"variance": "transition"}, "unknown variance 'transition'"),
    ],
)
def test_impossible_stochastic_settings_are_refused_too(settings, says):
    with pytest.raises(InvalidArgument, match=says):
        StochasticMultistep(**settings)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"eta": 1.5}, "eta is 1.5"),
        ({"eta": -0.1}, "eta is -0.1"),
        ({"eta": float("nan")}, "eta is nan"),
        ({"variance": "transition", "eta": 0.5}, "eta=1"),
        ({"variance": "learned"}, "eta=1"),
        ({"variance": "sde"}, "give eta > 0"),
        ({"variance": "beta"}, "unknown variance 'beta'"),
    ],
)
def test_impossible_ddim_is_refused_too(settings, says):
    with pytest.raises(InvalidArgument, match=says):
        DDIM(**settings)


def test_other_settings_are_checked_too():
    with pytest.raises(InvalidArgument, match="did you mean 'heun'"):
        RungeKutta("huen")
    with pytest.raises(InvalidArgument, match="unknown coordinate"):
        RungeKutta("heun", "angle")
    with pytest.raises(InvalidArgument, match="eta is -1"):
        presets.get("euler_maruyama", eta=-1.0)
    with pytest.raises(InvalidArgument, match="did you mean 'dpmpp_2m'"):
        presets.get("dpmp_2m")
    with pytest.raises(InvalidArgument, match="unknown option of solver 'ddim' 'eat'"):
        presets.get("ddim", eat=0.5)
    with pytest.raises(InvalidArgument, match="built already"):
        presets.get(presets.ddim(), eta=0.5)
    assert presets.get("ddim", eta=0.5) == DDIM(0.5)


def test_options_can_be_written_into_the_name():
    assert presets.get("ddim:eta=0.5") == presets.get("ddim", eta=0.5)
    assert presets.get("unipc:order=3,rule=bh1") == presets.unipc(3, "bh1")
    for text, says in (
        ("ddim:eta", "name=value"),
        ("ddim:", "name=value"),
        ("ddim:eat=1", "unknown option"),
        ("ddmi:eta=1", "unknown solver"),
    ):
        with pytest.raises(InvalidArgument, match=says):
            presets.get(text)
