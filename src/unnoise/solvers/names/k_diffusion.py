"""k-diffusion's functions sample_* and get_sigmas_*."""

from __future__ import annotations

from .row import rows_of

_row = rows_of("k-diffusion")
BROWNIAN = (
    "the noise of a stage is part of the step's: k-diffusion's Brownian motion runs in σ, ours as "
    "the reverse process does; the same numbers for the same noise"
)
OWN_STEPS = "chooses its own steps; the same at batch 1, each sample for itself at any other"
PASSES = "takes the number of passes n: a grid of ⌊n/3⌋ + 1 steps, and last = n mod 3"
_SCALED = {"s_churn": 4.0, "s_tmax": 50.0, "s_noise": 1.003}
_CHURN = "edm_churn:method={},churn=4.0,t_min={},t_max=50.0,scale={}"

ROWS = (
    _row("sample_euler", "ddim"),
    _row("sample_euler", _CHURN.format("euler", 0.0, 1.003), **_SCALED),
    _row("sample_euler_ancestral", "euler_ancestral"),
    _row("sample_euler_ancestral", "euler_ancestral:eta=0.4", eta=0.4),
    _row("sample_heun", "heun:coordinate=sigma"),
    _row("sample_heun", _CHURN.format("heun", 0.05, 1.003), s_tmin=0.05, **_SCALED),
    _row("sample_dpm_2", "dpm2"),
    _row("sample_dpm_2", _CHURN.format("dpm2", 0.05, 1.0), s_churn=4.0, s_tmin=0.05, s_tmax=50.0),
    _row("sample_dpm_2_ancestral", "dpm2_ancestral"),
    _row("sample_dpm_2_ancestral", "dpm2_ancestral:eta=0.4", eta=0.4),
    _row("sample_lms", "lms"),
    _row("sample_lms", "lms:order=2", order=2),
    _row("sample_dpm_fast", "dpm_fast", "log_snr", PASSES),
    _row("sample_dpm_adaptive", "dpm_adaptive", note=OWN_STEPS),
    _row("sample_dpm_adaptive", "dpm_adaptive:order=2", note=OWN_STEPS, order=2),
    _row("sample_dpmpp_2s_ancestral", "dpmpp_2s_ancestral"),
    _row("sample_dpmpp_2s_ancestral", "dpmpp_2s", eta=0.0),
    _row("sample_dpmpp_sde", "dpmpp_sde", note=BROWNIAN),
    _row("sample_dpmpp_2m", "dpmpp_2m"),
    _row("sample_dpmpp_2m_sde", "dpmpp_2m_sde"),
    _row("sample_dpmpp_2m_sde", "dpmpp_2m_sde:eta=0.4,variance=sde", eta=0.4),
    _row("sample_dpmpp_2m_sde", "dpmpp_2m_sde:rule=exact", solver_type="heun"),
    _row("sample_dpmpp_3m_sde", "dpmpp_3m_sde"),
    _row("sample_dpmpp_3m_sde", "dpmpp_3m_sde:eta=0.4,variance=sde", eta=0.4),
)

GRIDS = {
    "get_sigmas_karras": "karras",
    "get_sigmas_exponential": "log_snr",
    "get_sigmas_polyexponential": "polyexponential",
}
