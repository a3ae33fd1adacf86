"""Samplers of k-diffusion on the VE path from σ = 80, its module loaded without its package."""

from __future__ import annotations

import importlib.util
import sys
import types
from functools import lru_cache, partial

import torch

from .arena import VE_START, Arena, Contestant, Evaluations


@lru_cache(maxsize=1)
def sampling():
    """Return k_diffusion.sampling alone: the package itself would import torchvision."""
    spec = importlib.util.find_spec("k_diffusion")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    package = types.ModuleType("k_diffusion")
    package.__path__ = list(spec.submodule_search_locations)
    utils = types.ModuleType("k_diffusion.utils")
    utils.append_dims = lambda x, n: x[(...,) + (None,) * (n - x.ndim)]  # type: ignore[attr-defined]
    kept = {name: sys.modules.get(name) for name in ("k_diffusion", "k_diffusion.utils")}
    sys.modules.update({"k_diffusion": package, "k_diffusion.utils": utils})
    try:
        where = f"{package.__path__[0]}/sampling.py"
        spec = importlib.util.spec_from_file_location("k_diffusion.sampling", where)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        for name, old in kept.items():
            if old is None:
                del sys.modules[name]
            else:
                sys.modules[name] = old
    return module


SAMPLERS = {
    "euler": (1, {}),
    "heun": (2, {}),
    "dpm_2": (2, {}),
    "dpmpp_2s_ancestral": (2, {"eta": 0.0}),
    "dpmpp_2m": (1, {}),
    "dpmpp_2m_sde": (1, {"eta": 0.0}),
    "dpmpp_3m_sde": (1, {"eta": 0.0}),
    **{f"lms {order}": (1, {"order": order}) for order in (2, 3, 4)},
}


def _sigmas(grid: str, steps: int, lowest: float):
    k, kind = sampling(), grid.split()
    if kind[0] == "karras":
        return k.get_sigmas_karras(steps, lowest, VE_START, float(kind[1])).double()
    if kind[0] == "exponential":
        return k.get_sigmas_exponential(steps, lowest, VE_START).double()
    return k.get_sigmas_polyexponential(steps, lowest, VE_START, float(kind[1])).double()


def walk(name: str, grid: str, lowest: float, evaluate: Evaluations, arena: Arena, budget: int):
    """Return (state, start, end) of one sampler on one grid."""
    stages, options = SAMPLERS[name]
    steps = (budget + stages - 1) // stages  # the last step, into 0, takes one evaluation
    sigmas = _sigmas(grid, steps, lowest)
    sigmas[0] = VE_START  # their tables are float32
    run = getattr(sampling(), f"sample_{name.split()[0]}")
    z = run(_model(evaluate), arena.start(VE_START), sigmas, disable=True, **options)
    return z, VE_START, 0.0


def fast(lowest: float, evaluate: Evaluations, arena: Arena, budget: int):
    """Return the result of DPM-Solver-fast on its own grid, even in log σ, down to `lowest`."""
    z = sampling().sample_dpm_fast(
        _model(evaluate), arena.start(VE_START), lowest, VE_START, budget, disable=True
    )
    return z, VE_START, lowest


def _model(evaluate: Evaluations):
    return lambda x, sigma, **_: evaluate(x, float(sigma.flatten()[0]))


def contestants() -> list[Contestant]:
    """Return all of k-diffusion's contestants."""
    every = []
    for name in SAMPLERS:
        for grid in ("karras 7", "karras 4", "exponential", "polyexponential 2"):
            for lowest in (0.002, 0.01, 0.03):
                label = f"k-diffusion {name}, {grid}, σ_min {lowest}"
                every.append(Contestant(label, partial(walk, name, grid, lowest)))
        every.append(
            Contestant(
                f"k-diffusion {name}, karras 7, σ_min 0.002 [default]",
                partial(walk, name, "karras 7", 0.002),
                True,
            )
        )
    for lowest in (0.002, 0.01, 0.03):
        every.append(Contestant(f"k-diffusion dpm_fast, σ_min {lowest}", partial(fast, lowest)))
    torch.set_default_dtype(torch.float32)
    return every
