"""Schedulers of diffusers on the linear chain of 1000 steps, driven as its pipelines do.

The model is evaluated at the noise level that the scheduler itself assumes at that step (its
pipelines round it to a whole timestep), in float64; the start lies on the exact trajectory.
"""

from __future__ import annotations

import itertools
import math
from functools import partial

from torch import Tensor

from .arena import VP_START, Arena, Contestant, Evaluations

CHAIN = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
GRIDS = {
    "linspace": {"timestep_spacing": "linspace"},
    "trailing": {"timestep_spacing": "trailing"},
    "karras": {"use_karras_sigmas": True},
    "exponential": {"use_exponential_sigmas": True},
    "beta": {"use_beta_sigmas": True},
}
FINAL = ("zero", "sigma_min")


def _quiet() -> None:
    import diffusers

    diffusers.logging.set_verbosity_error()


def _made(name: str, options: dict, budget: int):
    """Return the scheduler with as many steps as the budget allows."""
    import diffusers

    for steps in range(budget, 0, -1):
        scheduler = getattr(diffusers, name)(**CHAIN, **options)
        scheduler.set_timesteps(steps)
        if len(scheduler.timesteps) <= budget:
            return scheduler
    raise ValueError(f"{name} has no walk of {budget} evaluations")


def _level(scheduler, t: Tensor) -> float:
    """Return the σ/α at which the scheduler expects the model's output now."""
    if not hasattr(scheduler, "sigmas"):
        kept = float(scheduler.alphas_cumprod[int(t)])
        return math.sqrt((1 - kept) / kept)
    index = scheduler.step_index or 0
    if getattr(scheduler, "state_in_first_order", True) or not hasattr(
        scheduler, "sigmas_interpol"
    ):
        return float(scheduler.sigmas[index])
    return float(scheduler.sigmas_interpol[index])


def _end(scheduler) -> float:
    if hasattr(scheduler, "sigmas"):
        return float(scheduler.sigmas[-1])
    kept = float(scheduler.final_alpha_cumprod)
    return math.sqrt((1 - kept) / kept)


def walk(name: str, options: dict, scaled: bool, evaluate: Evaluations, arena: Arena, budget: int):
    """Return (state, start, end) of one scheduler; `scaled`: its state is x with α² + σ² = 1."""
    scheduler = _made(name, options, budget)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)
    begin = _level(scheduler, scheduler.timesteps[0])
    start = VP_START if abs(begin / VP_START - 1) > 1e-3 else begin
    z = arena.start(begin) if start == begin else arena.on_the_way(start, begin)
    x = z / math.hypot(1, begin) if scaled else z
    for t in scheduler.timesteps:
        ratio = _level(scheduler, t)
        z = x * math.hypot(1, ratio) if scaled else x
        eps = (z - evaluate(z, ratio)) / ratio
        x = scheduler.step(eps, t, x).prev_sample
    end = _end(scheduler)
    return (x * math.hypot(1, end) if scaled else x), start, end


def _contestant(name: str, options: dict, scaled: bool = True, default: bool = False):
    arguments = ", ".join(f"{v}" if isinstance(v, str) else f"{k}={v}" for k, v in options.items())
    short = name.removesuffix("Scheduler").removesuffix("Discrete")
    label = f"diffusers {short}({arguments})" + (" [default]" if default else "")
    return Contestant(label, partial(walk, name, options, scaled), default)


def contestants() -> list[Contestant]:
    """Return all of diffusers' contestants."""
    every = []
    _quiet()
    plain = {"clip_sample": False}
    for grid in ("linspace", "trailing"):
        spacing = {"timestep_spacing": grid}
        every.append(_contestant("DDIMScheduler", plain | spacing))
        for skip, one in itertools.product((False, True), (False, True)):
            options = {"skip_prk_steps": skip, "set_alpha_to_one": one}
            every.append(_contestant("PNDMScheduler", options | spacing))
    for name in ("EulerDiscrete", "LMSDiscrete", "HeunDiscrete", "KDPM2Discrete"):
        for spacing in GRIDS.values():
            every.append(_contestant(f"{name}Scheduler", spacing, False))
    dpm, single = "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"
    orders = [(1, "midpoint"), (2, "midpoint"), (2, "heun"), (3, "midpoint")]
    grids = [*GRIDS.values(), {"use_lu_lambdas": True}]
    for (order, kind), lower, grid in itertools.product(orders, (True, False), grids):
        options = {"solver_order": order, "solver_type": kind, "lower_order_final": lower, **grid}
        for final in FINAL:
            data = {"algorithm_type": "dpmsolver++", "final_sigmas_type": final}
            every.append(_contestant(dpm, options | data))
        noise = {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"}
        every.append(_contestant(dpm, options | noise))
    grids = [grid for name, grid in GRIDS.items() if name not in ("linspace", "trailing")] + [{}]
    for (order, kind), grid, final in itertools.product(orders, grids, FINAL):
        options = {
            "solver_order": order, "solver_type": kind, "lower_order_final": True,
            "final_sigmas_type": final, **grid,
        }  # fmt: skip
        every.append(_contestant(single, options))
    for order, rule, grid in itertools.product((1, 2, 3), ("bh1", "bh2"), GRIDS.values()):
        for final, data in itertools.product(FINAL, (True, False)):
            options = {
                "solver_order": order, "solver_type": rule, "predict_x0": data,
                "final_sigmas_type": final, **grid,
            }  # fmt: skip
            every.append(_contestant("UniPCMultistepScheduler", options))
    for order, grid in itertools.product((1, 2, 3), GRIDS.values()):
        every.append(_contestant("DEISMultistepScheduler", {"solver_order": order, **grid}))
    for name in ("DDIMScheduler", "PNDMScheduler", dpm, single, "UniPCMultistepScheduler",
                 "DEISMultistepScheduler"):  # fmt: skip
        options = plain if name == "DDIMScheduler" else {}
        every.append(_contestant(name, options, default=True))
    for name in ("EulerDiscrete", "LMSDiscrete", "HeunDiscrete", "KDPM2Discrete"):
        every.append(_contestant(f"{name}Scheduler", {}, False, default=True))
    return every
