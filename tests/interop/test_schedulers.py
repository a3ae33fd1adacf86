"""Each scheduler of diffusers that has an equal here: the same numbers on the same grid and noise.

Their tables are made in float64 and the model is exact, so that what is left is the formulas.
"""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor

from tests.exact import F64, mixture_2d
from unnoise.paths import EDM, Chain, Flow, GaussianPath
from unnoise.randomness import Streams
from unnoise.solvers import SaSolver
from unnoise.solvers.names import ROWS

diffusers = pytest.importorskip("diffusers", reason="compares with diffusers")

from unnoise.interop.diffusers.evaluations import GeneratorNoise  # noqa: E402

CHAIN = Chain.linear()
STEPS, FEW = 20, 10  # from 15 steps on diffusers lowers no order at the end
SCALED = ("EulerDiscrete", "EulerAncestral", "Heun", "KDPM2", "LMS", "DPMSolverSDE")
BY_TIMESTEP = ("DDIM", "DDPM", "PNDM")
# what a row's scheduler needs to be comparable, beside the row's own options
MORE = {
    "DDIMScheduler": {"clip_sample": False, "timestep_spacing": "trailing"},
    "DDPMScheduler": {"clip_sample": False},
    # it extrapolates into σ = 0 too, where we keep ε: compared down to the chain's first step
    "PNDMScheduler": {"steps_offset": 1, "set_alpha_to_one": False},
}
LEFT_OUT = {
    "IPNDMScheduler": "its own schedule",
    "DPMSolverSDEScheduler": "its Brownian motion is one of σ for stage and step",
}


def peer_of(row):
    options = {k: v for k, v in row.options.items() if k != "eta"}
    options |= MORE.get(row.name, {})
    # these are not finite where σ = 0: they end at the chain's first step
    if options.get("algorithm_type") == "dpmsolver" or options.get("predict_x0") is False:
        options["final_sigmas_type"] = "sigma_min"
    if options.get("solver_type") == "bh1":
        options["final_sigmas_type"] = "sigma_min"
    return getattr(diffusers, row.name)(**options)


class Double:
    """A library whose single precision is double."""

    def __init__(self, library):
        self._library = library

    def __getattr__(self, name):
        return getattr(self._library, "float64" if name in ("float32", "float") else name)


@pytest.fixture(autouse=True)
def _in_double(monkeypatch):
    """diffusers' schedulers keep tables, and some their state, in float32: here in float64."""
    import importlib
    import pkgutil

    import diffusers.schedulers as room

    for found in pkgutil.iter_modules(room.__path__, room.__name__ + "."):
        if ".scheduling_" in found.name:
            module = importlib.import_module(found.name)
            monkeypatch.setattr(module, "torch", Double(torch), raising=False)
            if hasattr(module, "np"):
                monkeypatch.setattr(module, "np", Double(module.np))
    before = torch.get_default_dtype()
    torch.set_default_dtype(F64)
    yield
    torch.set_default_dtype(before)


def path_of(peer) -> GaussianPath:
    name = type(peer).__name__
    if name.startswith("EDM"):
        return EDM(80.0)
    return Flow() if name.startswith("FlowMatch") else CHAIN.as_path()


def walk(peer, x: Tensor, steps: int = STEPS, **options) -> tuple[Tensor, Tensor]:
    """(their result for x_t of our path, the times at which they asked and ended)."""
    name, path = type(peer).__name__, path_of(peer)
    field = mixture_2d(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer.set_timesteps(steps)
    generator = torch.Generator().manual_seed(3)
    scaled, times = name.startswith(SCALED), []
    for number in peer.timesteps:
        shown = peer.scale_model_input(x, number) if hasattr(peer, "scale_model_input") else x
        if name.startswith(BY_TIMESTEP):
            t, state = (number.double() + 1) / 1000, x
        else:
            if peer.step_index is None:
                peer._init_step_index(number)
            sigma = peer.sigmas[peer.step_index]
            if name.startswith("KDPM2") and not peer.state_in_first_order:
                sigma = peer.sigmas_interpol[peer.step_index - ("Ancestral" in name)]
            t = sigma if name.startswith("FlowMatch") else path.time(-sigma.log())
            state = x / (1 + sigma**2).sqrt() if scaled else x
        times.append(float(t))
        said = field(state, t)
        if name.startswith("EDM"):
            gain = sigma * 0.5 / (sigma**2 + 0.25).sqrt()
            output = (said.x0 - 0.25 / (sigma**2 + 0.25) * x) / gain
        elif name.startswith("FlowMatch"):
            output = said.eps - said.x0
        else:
            output = said.eps
        if peer.config.get("variance_type") == "learned_range":
            output = torch.cat([output, torch.zeros_like(output)], dim=1)
        given = {"generator": generator} if "generator" in peer.step.__code__.co_varnames else {}
        x = peer.step(output, number, x, **given, **options).prev_sample
        del shown
    last = float(peer.sigmas[-1]) if hasattr(peer, "sigmas") else 0.0
    end = float(path.time(-torch.tensor(last, dtype=F64).log())) if last else 0.0
    times.append(1e-3 if name.startswith("PNDM") else end)
    if scaled and last:
        x = x / (1 + last**2) ** 0.5
    return x, torch.tensor(times, dtype=F64)


def label(row) -> str:
    parts = [row.name.removesuffix("Scheduler"), *(f"{k}={v}" for k, v in row.options.items())]
    return " ".join(parts)


COMPARED = [
    row
    for row in ROWS
    if row.peer == "diffusers"
    and row.solver is not None
    and row.name not in LEFT_OUT
    and row.name != "SASolverScheduler"
    and "learned_range" not in row.options.values()  # its variance is the network's
]


@pytest.mark.parametrize("row", COMPARED, ids=label)
def test_the_same_numbers(row):
    peer, start = peer_of(row), Streams(5, range(4)).normal(2).double()
    steps = FEW if row.settings.get("lower_last") else STEPS
    path = path_of(peer)
    scaled = type(peer).__name__.startswith(SCALED)
    if scaled:  # their state is x/α, and starts at the same σ/α
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            peer.set_timesteps(steps)
        level = float(peer.sigmas[0])
        x = start * (1 + level**2) ** 0.5
    else:
        x = start * float(path.sigma(1.0))
    options = {"eta": row.options["eta"]} if "eta" in row.options else {}
    theirs, asked = walk(peer, x, steps, **options)
    solver = row.build()
    seen: list[float] = []
    # their grid: the times that begin a step, without the stages
    grid = _grid(solver, path, asked)
    noise = GeneratorNoise(4, F64, torch.device("cpu"))
    noise.generator = torch.Generator().manual_seed(3)
    first = start if scaled else x
    ours = solver.solve(
        mixture_2d(path), first, grid, noise, lambda _, said: seen.append(float(said.t))
    ).x
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(torch.tensor(seen, dtype=F64), asked[:-1], rtol=1e-9, atol=1e-9)


def _grid(solver, path: GaussianPath, asked: Tensor) -> Tensor:
    """The grid a peer walked, found from the times of every pass."""
    distinct = asked.unique().flip(0)  # a stage may stand where the next step begins, to rounding
    distinct = distinct[torch.cat([distinct[:-1] - distinct[1:] > 1e-12, torch.tensor([True])])]
    grids = [torch.cat([distinct[:-1:count], distinct[-1:]]) for count in (1, 2, 3)]
    # Runge–Kutta at the beginning only: every other of the first six
    grids.append(torch.cat([distinct[:6:2], distinct[6:]]))
    for grid in grids:
        seen: list[float] = []
        quiet = GeneratorNoise(1, F64, torch.device("cpu"))
        quiet.generator = torch.Generator()
        solver.solve(
            mixture_2d(path), torch.zeros(1, 2, dtype=F64), grid, quiet,
            lambda _, said, seen=seen: seen.append(float(said.t)),
        )  # fmt: skip
        if len(seen) == len(asked) - 1 and torch.allclose(
            torch.tensor(seen, dtype=F64), asked[:-1], atol=1e-6
        ):
            return grid
    raise AssertionError(f"{solver} does not ask at the peer's times {asked.tolist()}")


@pytest.mark.parametrize(
    ("predictor", "corrector", "tau"), [(1, 1, 1), (2, 2, 1), (3, 3, 0), (3, 4, 1), (2, 3, 0)]
)
@pytest.mark.parametrize("lowered", [False, True])
def test_sa_solver(predictor, corrector, tau, lowered):
    peer = diffusers.SASolverScheduler(
        predictor_order=predictor,
        corrector_order=corrector,
        tau_func=lambda t: tau,
        lower_order_final=lowered,
        prediction_type="epsilon",
    )
    x = Streams(5, range(4)).normal(2).double()
    theirs, grid = walk(peer, x)
    noise = GeneratorNoise(4, F64, torch.device("cpu"))
    noise.generator = torch.Generator().manual_seed(3)
    solver = SaSolver(predictor, corrector, float(tau), lower_last=lowered)
    ours = solver.solve(mixture_2d(CHAIN.as_path()), x, grid, noise).x
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)


def test_every_row_is_compared_or_left_out_for_a_reason():
    names = {row.name for row in ROWS if row.peer == "diffusers" and row.solver is not None}
    assert names <= {row.name for row in COMPARED} | LEFT_OUT.keys() | {"SASolverScheduler"}
    for row in ROWS:
        if row.peer == "diffusers":
            assert hasattr(diffusers, row.name), row.name
