"""The table of names: every row of k-diffusion gives its numbers; look-ups; peers' faults."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from tests.exact import F64, mixture_2d
from unnoise.errors import InvalidArgument, Unsupported
from unnoise.paths import EDM, Chain, Flow, VPLinear, grid_for, grids, peer_grids
from unnoise.randomness import Streams
from unnoise.solvers import PRESETS, names, presets

from . import k_diffusion
from .reference import ANCHOR_PATH, ANCHOR_START, Quick, flow_mixture

# k-diffusion copies its own tensors so
pytestmark = pytest.mark.filterwarnings("ignore:To copy construct from a tensor:UserWarning")
PATH = EDM()
FIELD = mixture_2d(PATH)
LEVELS = torch.cat(
    [torch.linspace(40 ** (1 / 7), 0.02 ** (1 / 7), 11, dtype=F64) ** 7, torch.zeros(1, dtype=F64)]
)
START = Streams(0, range(5)).normal(2).double() * 40
KD = [row for row in names.ROWS if row.peer == "k-diffusion"]


def denoiser(x, sigma, **_):
    return FIELD(x, sigma[0] / PATH.sigma_max).x0


def stream():
    return Streams(1, range(5))


def brownian():
    """Noise of a stage and of its step, correlated as the reverse process has them."""
    source, before = stream(), []

    def draw(high, low):
        if not before:
            before.extend((source.normal(2).double(), high, low))
            return before[0]
        first, top, middle = before
        before.clear()
        share = float(low / middle * ((1 - (middle / top) ** 2) / (1 - (low / top) ** 2)).sqrt())
        return share * first + math.sqrt(1 - share**2) * source.normal(2).double()

    return draw


def ask(row, monkeypatch, x, levels):
    """What k-diffusion's function makes of x."""
    module, options = k_diffusion.sampling(), {"disable": True, **row.options}
    if "s_churn" in row.options:  # draws from torch's own generator, at every step
        drawn = stream()
        monkeypatch.setattr(torch, "randn_like", lambda z: drawn.normal(2).double())
    elif row.name == "sample_dpmpp_sde":
        options["noise_sampler"] = brownian()
    elif "ancestral" in row.name or "sde" in row.name:
        drawn = stream()
        options["noise_sampler"] = lambda *_: drawn.normal(2).double()
    return getattr(module, row.name)(denoiser, x, levels, **options)


@pytest.mark.parametrize(
    "row",
    [row for row in KD if not row.name.endswith(("fast", "adaptive"))],
    ids=lambda row: f"{row.name}-{'-'.join(map(str, row.options.values()))}",
)
def test_the_same_numbers_as_k_diffusion(row, monkeypatch):
    levels = LEVELS
    if "s_churn" in row.options:  # it draws where it adds nothing too: stay inside its limits
        levels = torch.cat([LEVELS[row.options.get("s_tmin", 0.0) < LEVELS], LEVELS[-1:]])
    theirs = ask(row, monkeypatch, START, levels)
    ours = row.build().solve(FIELD, START, levels / PATH.sigma_max, stream()).x
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("passes", [4, 6, 9, 10, 11])
def test_dpm_fast_spends_its_budget_as_k_diffusion_does(passes):
    solver = k_diffusion.sampling().DPMSolver(denoiser)
    ends = -torch.tensor([40.0, 0.02], dtype=F64).log()
    torch.set_default_dtype(F64)  # it makes its grid in the default
    try:
        theirs = solver.dpm_solver_fast(START, *ends, passes)
    finally:
        torch.set_default_dtype(torch.float32)
    grid = grids.log_snr(PATH, passes // 3 + 1, 40 / PATH.sigma_max, 0.02 / PATH.sigma_max)
    ours = presets.get("dpm_fast", last=passes % 3).solve(FIELD, START, grid)
    torch.testing.assert_close(ours.x, theirs, rtol=1e-10, atol=1e-10)
    assert ours.nfe == passes


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("sample", [0, 3])
def test_dpm_adaptive_takes_k_diffusions_steps(order, sample):
    x = START[sample : sample + 1]
    solver = k_diffusion.sampling().DPMSolver(denoiser)
    ends = -torch.tensor([40.0, 0.02], dtype=F64).log()
    tolerances = {"rtol": torch.tensor(0.05, dtype=F64), "atol": torch.tensor(0.0078, dtype=F64)}
    theirs, info = solver.dpm_solver_adaptive(x, *ends, order=order, **tolerances)
    grid = [40 / PATH.sigma_max, 0.02 / PATH.sigma_max]
    ours = presets.get("dpm_adaptive", order=order).solve(FIELD, x, grid)
    assert ours.nfe == info["nfe"]
    torch.testing.assert_close(ours.x, theirs, rtol=1e-8, atol=1e-8)


def test_every_row_builds_or_says_why():
    for row in names.ROWS:
        assert row.peer in names.PEERS
        if row.solver is None:
            assert row.note
            with pytest.raises(Unsupported, match="is no solver here"):
                row.build()
        else:
            assert row.solver in PRESETS
            row.build()
    for name, grid in names.GRIDS.items():
        if not isinstance(grid, str):
            made = grid(Chain.linear().as_path(), 7)
            assert len(made) == 8, name


def test_names_are_looked_up_as_people_write_them():
    found = names.get("DPM++ 2M Karras")
    assert (found.solver, found.grid.name) == (presets.dpmpp_2m(), "karras")
    path = VPLinear()
    assert torch.equal(found.grid(path, 7), grids.karras(path, 7))
    assert names.get("Euler a").solver == presets.get("euler_ancestral")
    assert names.get("sample_heun").solver == presets.heun("sigma")
    assert names.get("heun", "ComfyUI").grid is None
    assert names.get("DPM++ 2M SDE Heun Exponential").grid.name == "log_snr"
    assert names.get("DPM++ 2M SDE Heun").solver == presets.get("dpmpp_2m_sde", rule="exact")
    assert names.get("euler sgm_uniform").grid.name == "sgm_uniform"
    options = {"solver_order": 3, "solver_type": "bh1", "predict_x0": True}
    found = names.get("UniPCMultistepScheduler", **options)
    assert found.solver == presets.unipc(3, "bh1", lower_last=True)
    for name, says in (
        ("DPM++ 2N Karras", "nearest: 'DPM\\+\\+ 2M"),
        ("euller", "nearest: 'euler'"),
        ("qqq", "unknown sampler 'qqq'"),
    ):
        with pytest.raises(InvalidArgument, match=says):
            names.get(name)
    with pytest.raises(InvalidArgument, match="unknown peer 'Comfy'; did you mean 'ComfyUI'"):
        names.get("euler", "Comfy")
    with pytest.raises(InvalidArgument, match="rows of the table have"):
        names.get("DDIMScheduler", eta=0.3)
    with pytest.raises(Unsupported, match="flow map and no field"):
        names.get("LCM")
    with pytest.raises(Unsupported, match="distilled model of four steps"):
        names.get("Euler Turbo")


@pytest.mark.parametrize("rho", [7.0, 3.0])
def test_the_levels_of_k_diffusions_schedules(rho):
    module, n, ends = k_diffusion.sampling(), 9, (0.02, 40.0)
    for theirs, ours in (
        (module.get_sigmas_karras(n, *ends, rho=rho), {"spacing": "karras", "rho": rho}),
        (module.get_sigmas_exponential(n, *ends), {"spacing": "log_snr"}),
        (
            module.get_sigmas_polyexponential(n, *ends, rho=rho),
            {"spacing": "polyexponential", "rho": rho},
        ),
    ):
        limits = {"steps": n, "sigma_min": ends[0], "sigma_max": ends[1]}
        levels = PATH.sigma(grid_for(PATH, **limits, **ours))
        torch.testing.assert_close(levels, theirs.double(), rtol=2e-6, atol=1e-7)  # float32 theirs


def test_spacings_by_their_definitions():
    path = Chain.scaled_linear().as_path()
    level = lambda t: (-path.log_snr(t)).exp()  # noqa: E731
    table = level(torch.arange(1, 1001, dtype=F64) / 1000)
    grid = peer_grids.simple(path, 7)
    wanted = [table[-(1 + int(i * 1000 / 7))] for i in range(7)]
    torch.testing.assert_close(level(grid[:-1]), torch.stack(wanted), rtol=1e-9, atol=0)
    for made, places in (
        (peer_grids.normal(path, 7), torch.linspace(999, 0, 7, dtype=F64)),
        (peer_grids.sgm_uniform(path, 7), torch.linspace(999, 0, 8, dtype=F64)[:-1]),
    ):
        low = places.floor().long()
        high = (low + 1).clamp(max=999)
        wanted = torch.lerp(table.log()[low], table.log()[high], places - low).exp()
        torch.testing.assert_close(level(made[:-1]), wanted, rtol=1e-9, atol=0)
    even = level(peer_grids.kl_optimal(path, 6)[:-1]).atan().diff()
    torch.testing.assert_close(even, even[0].expand(5), rtol=1e-9, atol=0)
    flat = peer_grids.beta(Flow(), 8, a=1.0, b=1.0)
    torch.testing.assert_close(flat, grids.uniform(8), rtol=1e-12, atol=1e-12)
    thick = peer_grids.beta(Flow(), 8)
    assert thick[0] - thick[1] < 1 / 8 > thick[-2]  # finer at both ends
    ours = level(peer_grids.align_your_steps(path, 11)[1:-1])
    torch.testing.assert_close(ours, torch.tensor(peer_grids.ALIGNED["sd15"][1:], dtype=F64)[:10],
                               rtol=5e-3, atol=1e-6)  # fmt: skip
    with pytest.raises(InvalidArgument, match="fall on"):
        peer_grids.beta(path, 900)


# what goes wrong elsewhere


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("rule", ["bh1", "bh2", "exact"])
def test_unipc_is_finite_into_no_noise(order, rule):
    """UniPC with bh1 gives non-finite numbers elsewhere where a VP grid ends at σ = 0."""
    path = Chain.linear().as_path()
    field, x = mixture_2d(path), Streams(0, range(4)).normal(2).double()
    for spacing in ("trailing", "leading", "karras", "log_snr"):
        for steps in (order, 5, 20):
            solver = presets.unipc(order, rule)
            reached = solver.solve(field, x, grid_for(path, spacing, steps)).x
            assert torch.isfinite(reached).all()
            if steps == 20:
                assert float(reached.abs().max()) < 4


@pytest.mark.parametrize("spacing", ["karras", "log_snr"])
@pytest.mark.parametrize("name", ["dpm_3m", "dpm_single", "dpm_on_grid"])
def test_third_order_in_eps_is_finite_at_every_number_of_steps(name, spacing):
    """DPM-Solver of order 3 in ε turns non-finite elsewhere, at 200 steps among others."""
    path = ANCHOR_PATH
    field, x = Quick(path), ANCHOR_START[::10]
    solver = {
        "dpm_3m": presets.get("deis", order=3, coordinate="log_snr"),
        "dpm_single": presets.get("dpm_single"),
        "dpm_on_grid": presets.get("dpm_on_grid", order=3, lens="eps"),
    }[name]
    for steps in [*range(1, 250, 6), 150, 199, 200, 250]:
        reached = solver.solve(field, x, grid_for(path, spacing, steps)).x
        assert torch.isfinite(reached).all(), steps
        assert steps < 30 or float(reached.abs().max()) < 4, steps


def test_a_grid_that_ends_properly_converges():
    """Whole steps of a chain keep their error however many are taken, for the last goes from
    σ/α = 0.01 to 0 at once; levels that end lower do not."""
    path = Chain.linear().as_path()
    field, x = Quick(path), ANCHOR_START
    exact = flow_mixture(path, x, 1.0, 0.0)

    def error(grid):
        return float((presets.heun().solve(field, x, grid).x - exact).abs().mean())

    whole = [error(grids.linspace(path, n)) for n in (100, 200, 400)]
    lower = [error(grids.log_snr(path, n, sigma_min=2e-4)) for n in (100, 200, 400)]
    assert whole[0] < whole[1] < whole[2]  # the longer last step costs more than the rest gains
    assert whole[2] > 1e-4
    assert lower[2] < 3e-5
    for more, fewer in pairwise(lower):
        assert more / fewer > 3.5
