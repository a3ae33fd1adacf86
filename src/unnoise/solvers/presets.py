"""Named solvers: each a setting of a general one."""

from __future__ import annotations

from ..errors import need_known
from .linear.direction import EPS, FLOW, X0
from .linear.multistep import Multistep, StochasticMultistep
from .linear.one_step import DDIM
from .linear.runge_kutta import RungeKutta
from .linear.sde import EulerMaruyama
from .linear.single_presets import PSEUDO_HEUN, PSEUDO_RK4
from .registry import PRESETS, get, preset
from .solver import Solver

__all__ = ["PRESETS", "get"]


@preset
def ddim(eta: float = 0.0) -> Solver:
    """DDIM (Song et al. 2021, eq. 12): η = 0 deterministic, 1 ancestral."""
    return DDIM(eta)


@preset
def ddpm(variance: str = "posterior") -> Solver:
    """Ancestral DDPM (Ho et al. 2020): variance "posterior" is β̃, "transition" is β, "learned" the
    model's own between the two (Nichol & Dhariwal 2021)."""
    return DDIM(1.0, variance)


@preset
def euler(coordinate: str = "flow") -> Solver:
    """Euler; as DDIM in 'sigma', 'signal' and 'flow'; the plain ODE in 't' and 'log_snr'."""
    return RungeKutta("euler", coordinate)


@preset
def heun(coordinate: str = "flow") -> Solver:
    """Heun; coordinate 'sigma' is EDM's (Karras et al. 2022, alg. 1)."""
    return RungeKutta("heun", coordinate)


@preset
def midpoint(coordinate: str = "flow") -> Solver:
    """Midpoint: the explicit midpoint rule, of order 2."""
    return RungeKutta("midpoint", coordinate)


@preset
def rk4(coordinate: str = "flow") -> Solver:
    """Runge–Kutta of order 4, the classical method."""
    return RungeKutta("rk4", coordinate)


@preset
def dpmpp_2m() -> Solver:
    """DPM-Solver++ 2M (Lu et al. 2022b, alg. 2)."""
    return Multistep(points=2, rule="midpoint")


@preset
def dpmpp_2m_exact() -> Solver:
    """DPM-Solver++ 2M with the exact integral: diffusers' solver_type "heun", ComfyUI's RES."""
    return Multistep(points=2)


@preset
def dpmpp_3m(lower_last: bool = False) -> Solver:
    """DPM-Solver++ 3M as published and in use: of order 2, for its curvature term is halved.

    lower_last: fewer points in the last steps, as the official code has it below 15 steps.
    """
    return Multistep(points=3, rule="half_curvature", lower_last=bool(lower_last))


@preset
def dpmpp_3m_exact() -> Solver:
    """DPM-Solver++ with three points and the exact integral: of order 3."""
    return Multistep(points=3)


@preset
def dpm_2m() -> Solver:
    """DPM-Solver multistep 2 in ε (Lu et al. 2022a)."""
    return Multistep(points=2, direction=EPS, rule="midpoint")


@preset
def dpmpp_2m_sde(eta: float = 1.0, rule: str = "midpoint", variance: str = "posterior") -> Solver:
    """SDE-DPM-Solver++ 2M (Lu et al. 2022b); rule "exact" is k-diffusion's "heun".

    η is the share of the posterior's noise, with variance "sde" that of the reverse SDE's, as in
    k-diffusion; they are the same at η = 1.
    """
    return _stochastic(2, eta, rule, variance)


@preset
def dpmpp_3m_sde(eta: float = 1.0, variance: str = "posterior") -> Solver:
    """k-diffusion's dpmpp_3m_sde, whose curvature term is halved."""
    return _stochastic(3, eta, "half_curvature_only", variance)


def _stochastic(points: int, eta: float, rule: str, variance: str) -> Solver:
    if not eta:
        return Multistep(points, rule=rule)
    return StochasticMultistep(points, eta, rule=rule, variance=variance)


@preset
def deis(order: int = 3, coordinate: str = "t") -> Solver:
    """DEIS (Zhang & Chen 2023): ε extrapolated in t (tAB), 'sigma' (ρAB) or 'log_snr' (log-ρ)."""
    return _in_eps(order, coordinate)


@preset
def ipndm(order: int = 4) -> Solver:
    """Improved PNDM: ε combined by Adams–Bashforth's weights for even steps (Zhang & Chen 2023).

    Of order 2 at most, for the steps are not even in what is integrated; `lms` has the right
    weights, and is what others call ipndm_v.
    """
    return Multistep(order, EPS, rule="even" if order > 1 else "exact")


@preset
def pndm() -> Solver:
    """PNDM (Liu et al. 2022): iPNDM of four points, its first three steps by pseudo Runge–Kutta."""
    return Multistep(points=4, direction=EPS, rule="even", starter=PSEUDO_RK4)


@preset
def plms() -> Solver:
    """PNDM without Runge–Kutta, as latent diffusion has it: the first step by pseudo Heun."""
    return Multistep(points=4, direction=EPS, rule="even", starter=PSEUDO_HEUN, starter_steps=1)


@preset
def lms(order: int = 4) -> Solver:
    """Linear multistep in σ/α (k-diffusion's LMS): exact Adams–Bashforth weights for ε."""
    return _in_eps(order, "sigma")


def _in_eps(order: int, coordinate: str) -> Solver:
    """Return Adams–Bashforth's steps in ε; with one point there is no polynomial in anything."""
    return Multistep(order, EPS, coordinate if order > 1 else "log_snr")


@preset
def adams(order: int = 2) -> Solver:
    """Adams–Bashforth on the velocity of the straight path, in σ/(σ+α)."""
    return Multistep(order, FLOW, "flow" if order > 1 else "log_snr")


@preset
def unipc(order: int = 2, rule: str = "bh2", lens: str = "x0", lower_last: bool = False) -> Solver:
    """UniPC-p (Zhao et al. 2023): order p + 1 with its corrector; lens "x0" or "eps".

    lower_last: fewer points in the last steps, as the official code has it.
    """
    need_known("lens of UniPC", lens, ("x0", "eps"))
    direction = X0 if lens == "x0" else EPS
    return Multistep(order, direction, corrector=True, rule=rule, lower_last=bool(lower_last))


@preset
def euler_maruyama(eta: float = 1.0) -> Solver:
    """Euler–Maruyama on the reverse SDE (Song et al. 2021)."""
    return EulerMaruyama(eta)
