"""Samplers and schedulers as ComfyUI and A1111's web UI list them."""

from __future__ import annotations

from dataclasses import replace

from .k_diffusion import BROWNIAN, OWN_STEPS
from .row import rows_of

_comfy, _web = rows_of("ComfyUI"), rows_of("A1111")

MAP = "it walks a distilled consistency model, which is a flow map and no field"
CFG_PP = "CFG++ steps along the unconditional noise: it is a guidance, not a solver"
MIXED = "its third stage mixes slopes with weights that follow no order; use heun, or dpm_single"
UNIPC = (
    "ComfyUI ends at σ = 0.001 in place of 0 and lowers the order on its last steps, and leaves "
    "the last correction out"
)
GUESS = "extrapolates the prediction by a constant; use adams or dpmpp_2m"
LAST = "the same but for the last step into σ = 0, which is of order 1 there"
SECOND_LAST = "A1111 leaves out the next-to-last level of the grid"
THIRDS = "its grid has ⌊n/3⌋ + 1 steps"
OWN_TIMES = "A1111's UniPC ends above σ = 0 and picks its own times"

COMFY = (
    _comfy("euler", "ddim"),
    _comfy("euler_ancestral", "euler_ancestral"),
    _comfy("heun", "heun:coordinate=sigma"),
    _comfy("heunpp2", note=MIXED),
    _comfy("exp_heun_2_x0", "dpmpp_single:ratio=1.0,kind=exact"),
    _comfy("dpm_2", "dpm2"),
    _comfy("dpm_2_ancestral", "dpm2_ancestral"),
    _comfy("lms", "lms"),
    _comfy("dpm_fast", "dpm_fast", "log_snr", THIRDS),
    _comfy("dpm_adaptive", "dpm_adaptive", note=OWN_STEPS),
    _comfy("dpmpp_2s_ancestral", "dpmpp_2s_ancestral"),
    _comfy("dpmpp_sde", "dpmpp_sde", note=BROWNIAN),
    _comfy("dpmpp_2m", "dpmpp_2m"),
    _comfy("dpmpp_2m_sde", "dpmpp_2m_sde"),
    _comfy("dpmpp_2m_sde_heun", "dpmpp_2m_sde:rule=exact"),
    _comfy("dpmpp_3m_sde", "dpmpp_3m_sde"),
    _comfy("ddpm", "ddpm"),
    _comfy("ddim", "ddim"),
    _comfy("ipndm", "ipndm"),
    _comfy("ipndm_v", "lms", note=LAST),
    _comfy("deis", "deis:order=3,coordinate=t", note="its t is that of EDM, σ itself"),
    _comfy("res_multistep", "dpmpp_2m_exact"),
    _comfy("uni_pc", "unipc:order=3,rule=bh1,lower_last=True", note=UNIPC),
    _comfy("uni_pc_bh2", "unipc:order=3,lower_last=True", note=UNIPC),
    _comfy("lcm", note=MAP),
    _comfy("gradient_estimation", note=GUESS),
    _comfy("euler_cfg_pp", note=CFG_PP),
    _comfy("euler_ancestral_cfg_pp", note=CFG_PP),
    _comfy("dpmpp_2s_ancestral_cfg_pp", note=CFG_PP),
    _comfy("dpmpp_2m_cfg_pp", note=CFG_PP),
    _comfy("res_multistep_cfg_pp", note=CFG_PP),
    _comfy("gradient_estimation_cfg_pp", note=CFG_PP),
)
# the same on a graphics card's own noise
COMFY += tuple(
    replace(found, name=found.name + "_gpu")
    for found in COMFY
    if found.name in ("dpmpp_sde", "dpmpp_2m_sde", "dpmpp_2m_sde_heun", "dpmpp_3m_sde")
)

WEB = (
    _web("Euler", "ddim", "normal"),
    _web("Euler a", "euler_ancestral", "normal"),
    _web("LMS", "lms", "normal"),
    _web("Heun", "heun:coordinate=sigma", "normal"),
    _web("DPM2", "dpm2", "karras", SECOND_LAST),
    _web("DPM2 a", "dpm2_ancestral", "karras", SECOND_LAST),
    _web("DPM++ 2S a", "dpmpp_2s_ancestral", "karras"),
    _web("DPM++ 2M", "dpmpp_2m", "karras"),
    _web("DPM++ SDE", "dpmpp_sde", "karras", BROWNIAN),
    _web("DPM++ 2M SDE", "dpmpp_2m_sde", "log_snr"),
    _web("DPM++ 2M SDE Heun", "dpmpp_2m_sde:rule=exact", "log_snr"),
    _web("DPM++ 3M SDE", "dpmpp_3m_sde", "log_snr", SECOND_LAST),
    _web("DPM fast", "dpm_fast", "log_snr", THIRDS),
    _web("DPM adaptive", "dpm_adaptive", "log_snr", OWN_STEPS),
    _web("DDIM", "ddim", "leading:offset=1"),
    _web("DDIM CFG++", note=CFG_PP),
    _web("PLMS", "plms", "leading:offset=1"),
    _web("UniPC", "unipc:order=3,rule=bh1,lower_last=True", "leading:offset=1", OWN_TIMES),
    _web("Restart", "restart", "karras", "A1111 derives the restarts from the steps"),
    _web("LCM", note=MAP),
)

# their schedulers; a reason where there is no such grid here
GRIDS = {
    "automatic": "normal",
    "uniform": "normal",
    "normal": "normal",
    "karras": "karras",
    "exponential": "log_snr",
    "polyexponential": "polyexponential",
    "sgm_uniform": "sgm_uniform",
    "simple": "simple",
    "ddim_uniform": "leading:offset=1",
    "ddim": "leading:offset=1",
    "beta": "beta",
    "kl_optimal": "kl_optimal",
    "align_your_steps": "align_your_steps",
}
NO_GRIDS = {
    "linear_quadratic": "it is made for one video model; use uniform or karras",
    "turbo": "it is made for a distilled model of four steps; use trailing",
}
