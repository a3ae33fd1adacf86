"""Named solvers: each a setting of a general one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress

from ..errors import InvalidArgument, unknown
from .euler_maruyama import EulerMaruyama
from .multistep import Multistep
from .runge_kutta import RungeKutta
from .solver import Solver

X0, EPS, FLOW = (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)


def ddim(eta: float = 0.0) -> Solver:
    """DDIM (Song et al. 2021, eq. 12): η = 0 deterministic, 1 ancestral."""
    return Multistep(points=1, eta=eta)


def ddpm(variance: str = "posterior") -> Solver:
    """Ancestral DDPM (Ho et al. 2020): variance "posterior" is β̃, "transition" is β."""
    return Multistep(points=1, eta=1.0, variance=variance)


def euler(coordinate: str = "flow") -> Solver:
    """Euler; as DDIM in 'sigma', 'signal' and 'flow'; the plain ODE in 't' and 'log_snr'."""
    return RungeKutta("euler", coordinate)


def heun(coordinate: str = "flow") -> Solver:
    """Heun; coordinate 'sigma' is EDM's (Karras et al. 2022, alg. 1)."""
    return RungeKutta("heun", coordinate)


def midpoint(coordinate: str = "flow") -> Solver:
    """The explicit midpoint rule."""
    return RungeKutta("midpoint", coordinate)


def rk4(coordinate: str = "flow") -> Solver:
    """The classical Runge–Kutta method of order 4."""
    return RungeKutta("rk4", coordinate)


def dpmpp_2m() -> Solver:
    """DPM-Solver++ 2M (Lu et al. 2022b, alg. 2)."""
    return Multistep(points=2, rule="midpoint")


def dpmpp_3m() -> Solver:
    """DPM-Solver++ 3M as published and in use: of order 2, for its curvature term is halved."""
    return Multistep(points=3, rule="half_curvature")


def dpmpp_3m_exact() -> Solver:
    """DPM-Solver++ with three points and the exact integral: of order 3."""
    return Multistep(points=3)


def dpm_2m() -> Solver:
    """DPM-Solver multistep 2 in ε (Lu et al. 2022a)."""
    return Multistep(points=2, direction=EPS, rule="midpoint")


def dpmpp_2m_sde(eta: float = 1.0) -> Solver:
    """SDE-DPM-Solver++ 2M (Lu et al. 2022b)."""
    return Multistep(points=2, rule="midpoint", eta=eta)


def deis(order: int = 3, coordinate: str = "t") -> Solver:
    """DEIS, tAB variant: ε extrapolated in t (Zhang & Chen 2023); 'sigma' is ρAB."""
    return Multistep(points=order, direction=EPS, coordinate=coordinate)


def lms(order: int = 4) -> Solver:
    """Linear multistep in σ/α (k-diffusion's LMS): exact Adams–Bashforth weights for ε."""
    return Multistep(points=order, direction=EPS, coordinate="sigma")


def adams(order: int = 2) -> Solver:
    """Adams–Bashforth on the velocity of the straight path, in σ/(σ+α)."""
    return Multistep(points=order, direction=FLOW, coordinate="flow")


def unipc(order: int = 2, rule: str = "bh2", lens: str = "x0") -> Solver:
    """UniPC-p (Zhao et al. 2023): order p + 1 with its corrector; lens "x0" or "eps"."""
    if lens not in ("x0", "eps"):
        raise unknown("lens of UniPC", lens, ("x0", "eps"))
    return Multistep(points=order, direction=X0 if lens == "x0" else EPS, corrector=True, rule=rule)


def euler_maruyama(eta: float = 1.0) -> Solver:
    """Euler–Maruyama on the reverse SDE (Song et al. 2021)."""
    return EulerMaruyama(eta)


PRESETS: dict[str, Callable[..., Solver]] = {
    make.__name__: make
    for make in (
        adams, ddim, ddpm, deis, dpm_2m, dpmpp_2m, dpmpp_2m_sde, dpmpp_3m, dpmpp_3m_exact, euler,
        euler_maruyama, heun, lms, midpoint, rk4, unipc,
    )
}  # fmt: skip


def _number(text: str) -> object:
    """A whole number, a number, or the text itself."""
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def get(solver: str | Solver, **options: object) -> Solver:
    """A solver by name, with its options: get("ddim", eta=0.5), or as one text "ddim:eta=0.5".

    Raises InvalidArgument naming what is known.
    """
    if isinstance(solver, Solver):
        if options:
            raise InvalidArgument(f"options {sorted(options)} for a solver that is built already")
        return solver
    solver, colon, text = solver.partition(":")
    for setting in text.split(",") if colon else ():
        name, equals, value = (part.strip() for part in setting.partition("="))
        if not (name and equals and value):
            raise InvalidArgument(
                f"solver option {setting!r} of {solver!r}; write {solver}:name=value, such as "
                "ddim:eta=0.5"
            )
        options[name] = _number(value)
    if solver not in PRESETS:
        raise unknown("solver", solver, PRESETS)
    allowed = inspect.signature(PRESETS[solver]).parameters
    for name in options:
        if name not in allowed:
            raise unknown(f"option of solver {solver!r}", name, allowed)
    return PRESETS[solver](**options)
