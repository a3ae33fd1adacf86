"""Named solvers: each a setting of a general one."""

from __future__ import annotations

from ..errors import unknown
from .euler_maruyama import EulerMaruyama
from .multistep import Multistep
from .registry import PRESETS, get, preset
from .runge_kutta import RungeKutta
from .solver import Solver

__all__ = ["PRESETS", "get"]

X0, EPS, FLOW = (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)


@preset
def ddim(eta: float = 0.0) -> Solver:
    """DDIM (Song et al. 2021, eq. 12): η = 0 deterministic, 1 ancestral."""
    return Multistep(points=1, eta=eta)


@preset
def ddpm(variance: str = "posterior") -> Solver:
    """Ancestral DDPM (Ho et al. 2020): variance "posterior" is β̃, "transition" is β."""
    return Multistep(points=1, eta=1.0, variance=variance)


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
    """The explicit midpoint rule."""
    return RungeKutta("midpoint", coordinate)


@preset
def rk4(coordinate: str = "flow") -> Solver:
    """The classical Runge–Kutta method of order 4."""
    return RungeKutta("rk4", coordinate)


@preset
def dpmpp_2m() -> Solver:
    """DPM-Solver++ 2M (Lu et al. 2022b, alg. 2)."""
    return Multistep(points=2, rule="midpoint")


@preset
def dpmpp_3m() -> Solver:
    """DPM-Solver++ 3M as published and in use: of order 2, for its curvature term is halved."""
    return Multistep(points=3, rule="half_curvature")


@preset
def dpmpp_3m_exact() -> Solver:
    """DPM-Solver++ with three points and the exact integral: of order 3."""
    return Multistep(points=3)


@preset
def dpm_2m() -> Solver:
    """DPM-Solver multistep 2 in ε (Lu et al. 2022a)."""
    return Multistep(points=2, direction=EPS, rule="midpoint")


@preset
def dpmpp_2m_sde(eta: float = 1.0) -> Solver:
    """SDE-DPM-Solver++ 2M (Lu et al. 2022b)."""
    return Multistep(points=2, rule="midpoint", eta=eta)


@preset
def deis(order: int = 3, coordinate: str = "t") -> Solver:
    """DEIS, tAB variant: ε extrapolated in t (Zhang & Chen 2023); 'sigma' is ρAB."""
    return Multistep(points=order, direction=EPS, coordinate=coordinate)


@preset
def lms(order: int = 4) -> Solver:
    """Linear multistep in σ/α (k-diffusion's LMS): exact Adams–Bashforth weights for ε."""
    return Multistep(points=order, direction=EPS, coordinate="sigma")


@preset
def adams(order: int = 2) -> Solver:
    """Adams–Bashforth on the velocity of the straight path, in σ/(σ+α)."""
    return Multistep(points=order, direction=FLOW, coordinate="flow")


@preset
def unipc(order: int = 2, rule: str = "bh2", lens: str = "x0") -> Solver:
    """UniPC-p (Zhao et al. 2023): order p + 1 with its corrector; lens "x0" or "eps"."""
    if lens not in ("x0", "eps"):
        raise unknown("lens of UniPC", lens, ("x0", "eps"))
    return Multistep(points=order, direction=X0 if lens == "x0" else EPS, corrector=True, rule=rule)


@preset
def euler_maruyama(eta: float = 1.0) -> Solver:
    """Euler–Maruyama on the reverse SDE (Song et al. 2021)."""
    return EulerMaruyama(eta)
