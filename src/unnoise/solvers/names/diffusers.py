"""Schedulers of diffusers, by class and options.

Grids are named by a scheduler's own options (timestep_spacing, use_karras_sigmas …): `GRIDS`.
final_sigmas_type is "zero", the default, unless a row's note names another.
"""

from __future__ import annotations

from .row import rows_of

_row = rows_of("diffusers")
SHORT = "below 15 steps it lowers the order of its last steps (lower_order_final), ours does not"
DEIS = "it ends at the first step of the chain, not at σ = 0; " + SHORT
BROWNIAN = (
    "one noise sampler for stage and step: a Brownian motion in σ; ours the reverse process's"
)
IPNDM = (
    "only on its own trigonometric schedule, whose clock stands still on the chain's; the same "
    "weights"
)
NOT_SMOOTH = (
    "it extrapolates ε along a path that receives noise, where ε is not smooth; use dpmpp_2m_sde"
)
FROM_15 = "from 15 steps on it lowers no order: lower_last=False"
SIGMA_MIN = "with final_sigmas_type=sigma_min, as it demands; " + SHORT
SA = "its τ is 1 at timesteps 200 to 800, its grid ends at the first step of the chain"
CONSISTENCY = "it walks a distilled consistency model, which is a flow map and no field"
DPM, SINGLE = "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"
PLUS, SDE_PLUS = {"algorithm_type": "dpmsolver++"}, {"algorithm_type": "sde-dpmsolver++"}
EPS, SDE_EPS = {"algorithm_type": "dpmsolver"}, {"algorithm_type": "sde-dpmsolver"}

ROWS = (
    _row("DDIMScheduler", "ddim"),
    _row("DDIMScheduler", "ddim:eta=0.5", eta=0.5),
    _row("DDIMScheduler", "ddim:eta=1.0", eta=1.0),
    _row("DDPMScheduler", "ddpm", variance_type="fixed_small"),
    _row("DDPMScheduler", "ddpm:variance=transition", variance_type="fixed_large"),
    _row("DDPMScheduler", "ddpm:variance=learned", variance_type="learned_range"),
    _row("EulerDiscreteScheduler", "ddim"),
    _row("EulerAncestralDiscreteScheduler", "euler_ancestral"),
    _row("HeunDiscreteScheduler", "heun:coordinate=sigma"),
    _row("KDPM2DiscreteScheduler", "dpm2"),
    _row("KDPM2AncestralDiscreteScheduler", "dpm2_ancestral"),
    _row("LMSDiscreteScheduler", "lms"),
    _row("PNDMScheduler", "pndm", skip_prk_steps=False),
    _row("PNDMScheduler", "plms", skip_prk_steps=True),
    _row("IPNDMScheduler", "ipndm", note=IPNDM),
    _row(DPM, "ddim", **PLUS, solver_order=1),
    _row(DPM, "dpmpp_2m", **PLUS, solver_order=2),
    _row(DPM, "dpmpp_2m_exact", **PLUS, solver_order=2, solver_type="heun"),
    _row(DPM, "dpmpp_3m:lower_last=True", note=FROM_15, **PLUS, solver_order=3),
    _row(DPM, "dpm_2m", note=SIGMA_MIN, **EPS, solver_order=2),
    _row(DPM, "dpmpp_2m_sde", **SDE_PLUS, solver_order=2),
    _row(DPM, "dpmpp_2m_sde:rule=exact", **SDE_PLUS, solver_order=2, solver_type="heun"),
    _row(DPM, note=NOT_SMOOTH, **SDE_EPS, solver_order=2),
    _row(SINGLE, "dpm_on_grid:order=2", solver_order=2),
    _row(SINGLE, "dpm_on_grid:order=3", solver_order=3),
    _row(SINGLE, "dpm_on_grid:order=2,kind=exact", solver_order=2, solver_type="heun"),
    _row(SINGLE, "dpm_on_grid:order=3,kind=exact", solver_order=3, solver_type="heun"),
    _row("DEISMultistepScheduler", "deis:order=2,coordinate=log_snr", note=DEIS, solver_order=2),
    _row("DEISMultistepScheduler", "deis:order=3,coordinate=log_snr", note=DEIS, solver_order=3),
    *(
        _row(
            "UniPCMultistepScheduler",
            f"unipc:order={order},rule={rule},lens={lens}{',lower_last=True' * (order > 1)}",
            solver_order=order,
            solver_type=rule,
            predict_x0=lens == "x0",
        )
        for order in (1, 2, 3)
        for rule in ("bh1", "bh2")
        for lens in ("x0", "eps")
    ),
    _row("DPMSolverSDEScheduler", "dpmpp_sde", note=BROWNIAN),
    _row("SASolverScheduler", "sa_solver:first=0.2005,last=0.8015,lower_last=True", note=SA),
    _row("EDMEulerScheduler", "ddim"),
    _row("EDMDPMSolverMultistepScheduler", "dpmpp_2m", solver_order=2),
    _row("FlowMatchEulerDiscreteScheduler", "ddim"),
    _row("FlowMatchHeunDiscreteScheduler", "heun:coordinate=flow"),
    _row("LCMScheduler", note=CONSISTENCY),
    _row("TCDScheduler", note=CONSISTENCY),
    _row("CMStochasticIterativeScheduler", note=CONSISTENCY),
)

GRIDS = {
    "timestep_spacing=trailing": "trailing",
    "timestep_spacing=leading": "leading",
    "timestep_spacing=leading, steps_offset=1": "leading:offset=1",
    "timestep_spacing=linspace": "linspace",
    "use_karras_sigmas=True": "karras",
    "use_exponential_sigmas=True": "log_snr",
    "use_beta_sigmas=True": "beta",
}
