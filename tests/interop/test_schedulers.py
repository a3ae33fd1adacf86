"""Each scheduler of diffusers that has an equal here: the same numbers on the same grid and noise.

Their tables are made in float64 and the model is exact, so that what is left is the formulas.
"""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor

from tests.exact import F64, mixture_2d
from unnoise.fields import Gaussian
from unnoise.guidance import Clip, Threshold, shaped
from unnoise.paths import EDM, Chain, Flow, GaussianPath
from unnoise.randomness import Streams
from unnoise.solvers import ClippedDDIM, SaSolver, get
from unnoise.solvers.names import ROWS

diffusers = pytest.importorskip("diffusers", reason="compares with diffusers")

from unnoise.interop.diffusers.evaluations import GeneratorNoise  # noqa: E402

# diffusers hands tensors to numpy, and one of its algorithms is compared though it will go
pytestmark = [
    pytest.mark.filterwarnings(r"ignore:__array(_wrap)?__ .*:DeprecationWarning"),
    pytest.mark.filterwarnings(
        r"ignore:`algorithm_types dpmsolver and sde-dpmsolver` is deprecated:FutureWarning"
    ),
]

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


def walk(peer, x: Tensor, steps: int = STEPS, make=mixture_2d, **options) -> tuple[Tensor, Tensor]:
    """(their result for x_t of our path, the times at which they asked and ended)."""
    name, path = type(peer).__name__, path_of(peer)
    field = make(path)
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


CLIP = {"clip_sample": True, "clip_sample_range": 0.8}
DYNAMIC = {"thresholding": True, "dynamic_thresholding_ratio": 0.7, "sample_max_value": 1.6}
STATIC = {"thresholding": True}  # at its default sample_max_value=1 it clips
RULES = {"clip": (CLIP, Clip(0.8)), "dynamic": (DYNAMIC, Threshold(0.7, 1.6)),
         "static": (STATIC, Clip(1.0))}  # fmt: skip
EARLY = {"final_sigmas_type": "sigma_min"}
# name: (scheduler and its options, our solver, what step() is given, the rules it knows)
WITH_RULES = {
    "ddim, ε recomputed": ("DDIM", {}, get("ddim"), {"use_clipped_model_output": True}),
    "ddim, ε recomputed, η = 0.5": (
        "DDIM", {}, get("ddim:eta=0.5"), {"use_clipped_model_output": True, "eta": 0.5},
    ),
    "ddim": ("DDIM", {}, ClippedDDIM, {}),
    "ddim, η = 1": ("DDIM", {}, ClippedDDIM, {"eta": 1.0}),
    "ddpm": ("DDPM", {}, get("ddpm"), {}),
    "ddpm, larger variance": (
        "DDPM", {"variance_type": "fixed_large"}, get("ddpm:variance=transition"), {},
    ),
    "heun": ("HeunDiscrete", {}, get("heun:coordinate=sigma"), {}),
    "dpm++ 2m": ("DPMSolverMultistep", {}, get("dpmpp_2m"), {}),
    "dpm++ 3m": ("DPMSolverMultistep", {"solver_order": 3}, get("dpmpp_3m"), {}),
    "dpm 2m": (
        "DPMSolverMultistep", {"algorithm_type": "dpmsolver", **EARLY}, get("dpm_2m"), {},
    ),
    "dpm++ 2m sde": (
        "DPMSolverMultistep", {"algorithm_type": "sde-dpmsolver++"}, get("dpmpp_2m_sde"), {},
    ),
    "dpm++ singlestep 2": ("DPMSolverSinglestep", {}, get("dpm_on_grid:order=2"), {}),
    "dpm++ singlestep 3": (
        "DPMSolverSinglestep", {"solver_order": 3}, get("dpm_on_grid:order=3"), {},
    ),
    "unipc": ("UniPCMultistep", {}, get("unipc:order=2,rule=bh2,lower_last=true"), {}),
    "deis": ("DEISMultistep", {}, get("deis:order=2,coordinate=log_snr"), {}),
    "edm dpm++ 2m": ("EDMDPMSolverMultistep", {}, get("dpmpp_2m"), {}),
}  # fmt: skip
CLIPS = ("DDIM", "DDPM", "HeunDiscrete")  # the others have thresholding; the last has none


def pictures(path: GaussianPath):
    """Data (2, 2, 1) that reach well over ±1, where every rule acts."""
    place = torch.arange(4, dtype=F64).reshape(2, 2, 1)
    return Gaussian(1.5 * (place + 1).sin(), 0.3 + 0.1 * place, path)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        (name, rule)
        for name, (scheduler, *_) in WITH_RULES.items()
        for rule in RULES
        if (scheduler in CLIPS if rule == "clip" else scheduler != "HeunDiscrete")
    ],
)
def test_the_same_numbers_where_x0_is_clipped(name, rule):
    """LMS, Euler, PNDM and EDM's Euler have no such option in diffusers, and UniPC in ε ignores
    its own."""
    scheduler, options, solver, given = WITH_RULES[name]
    set_, shape = RULES[rule]
    name_ = f"{scheduler}Scheduler"
    base = {k: v for k, v in MORE.get(name_, {}).items() if k != "clip_sample"}
    unclipped = {"clip_sample": False} if scheduler in CLIPS else {}
    results = []
    for more in (set_ if rule == "clip" else unclipped | set_, unclipped):
        peer = getattr(diffusers, name_)(**base, **options, **more)
        path, start = path_of(peer), Streams(5, range(4)).normal(2, 2, 1).double()
        x = start * float(path.sigma(1.0))
        if scaled := scheduler.startswith(SCALED):
            peer.set_timesteps(STEPS)
            x = start * (1 + float(peer.sigmas[0]) ** 2) ** 0.5
        results.append(walk(peer, x, STEPS, pictures, **given))
    (theirs, asked), (free, _) = results
    assert float((theirs - free).abs().max()) > 0.1  # the rule acts
    field = pictures(path)
    if solver is ClippedDDIM:
        solver = ClippedDDIM(given.get("eta", 0.0), rule=shape)
    else:
        field = shaped(field, shape)
    noise = GeneratorNoise(4, F64, torch.device("cpu"))
    noise.generator = torch.Generator().manual_seed(3)
    grid = _grid(solver, path, asked)
    ours = solver.solve(field, start if scaled else x, grid, noise).x
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)


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
