"""Named single-step solvers: DPM-Solver and what k-diffusion and EDM made of it."""

from __future__ import annotations

from ...errors import InvalidArgument, need_known
from ..registry import preset
from ..solver import Solver
from .churned import Churn, Churned
from .direction import EPS, X0
from .single_step import SingleStep, Stage

KINDS = ("published", "exact")


def _second(ratio: float, kind: str) -> tuple[Stage, ...]:
    return (Stage(ratio), Stage(1.0, (0, 1), "midpoint" if kind == "published" else "exact"))


def _third(kind: str) -> tuple[Stage, ...]:
    """r₁ = 1/3, r₂ = 2/3; the published end leaves out the first stage, the exact one does not."""
    through = (0, 2) if kind == "published" else (0, 1, 2)
    return (Stage(1 / 3), Stage(2 / 3, (0, 1)), Stage(1.0, through))


def _single(
    order: int, direction: tuple[float, float], ratio: float, kind: str, eta: float = 0.0
) -> SingleStep:
    need_known("kind of DPM-Solver", kind, KINDS)
    if order not in (1, 2, 3):
        raise InvalidArgument(f"order is {order!r}; single-step DPM-Solver has 1, 2 and 3")
    if order != 2 and ratio != 0.5:
        raise InvalidArgument(f"ratio {ratio!r} is that of order 2; leave it out at order {order}")
    if order == 1 and kind != "published":
        raise InvalidArgument("order 1 has no integral to round; leave kind out")
    stages = {1: (Stage(),), 2: _second(ratio, kind), 3: _third(kind)}[order]
    return SingleStep(stages, order, direction, eta=eta)


@preset
def dpm_single(order: int = 3, ratio: float = 0.5, kind: str = "published") -> Solver:
    """DPM-Solver-1, -2, -3: single steps in ε (Lu et al. 2022a, alg. 1 and 2).

    kind "exact" integrates the polynomial through every stage (the official code's "taylor").
    """
    return _single(order, EPS, ratio, kind)


@preset
def dpmpp_single(order: int = 2, ratio: float = 0.5, kind: str = "published") -> Solver:
    """DPM-Solver++ 2S (Lu et al. 2022b, alg. 1) and, as the official code has it, 3S."""
    return _single(order, X0, ratio, kind)


@preset
def dpmpp_2s() -> Solver:
    """DPM-Solver++ 2S (Lu et al. 2022b, alg. 1)."""
    return _single(2, X0, 0.5, "published")


@preset
def dpm2(eta: float = 0.0) -> Solver:
    """k-diffusion's dpm_2: DPM-Solver-2 with r = ½; η = 1 is dpm_2_ancestral."""
    return _single(2, EPS, 0.5, "published", eta)


@preset
def dpm2_ancestral(eta: float = 1.0) -> Solver:
    """k-diffusion's dpm_2_ancestral."""
    return dpm2(eta)


@preset
def euler_ancestral(eta: float = 1.0) -> Solver:
    """k-diffusion's euler_ancestral: ddim(eta), in k-diffusion's order of operations."""
    return SingleStep(eta=eta)


@preset
def dpmpp_2s_ancestral(eta: float = 1.0) -> Solver:
    """k-diffusion's dpmpp_2s_ancestral."""
    return _single(2, X0, 0.5, "published", eta)


@preset
def dpmpp_sde(eta: float = 1.0, ratio: float = 0.5) -> Solver:
    """SDE-DPM-Solver++ 2S: k-diffusion's dpmpp_sde.

    The stage's noise is part of the step's, as one path of the reverse process has it; k-diffusion
    draws both from a Brownian motion in σ.
    """
    return SingleStep(_second(ratio, "published"), 2, X0, eta=eta, noisy_stages=True)


@preset
def dpm_fast(last: int = 1) -> Solver:
    """DPM-Solver-fast (Lu et al. 2022a, sec. 3.4): third-order steps, then the rest of the budget.

    On a grid of ⌊n/3⌋ + 1 steps in even log-SNR it makes n passes: last = 1 or 2 is the remainder
    of n/3 (a last step of that order), last = 0 (n divides) ends in steps of order 2 and 1.
    """
    endings = {0: (2, 1), 1: (1,), 2: (2,)}
    if last not in endings:
        raise InvalidArgument(f"last is {last!r}; give the remainder of the passes by 3: 0, 1, 2")
    ending = tuple(_single(order, EPS, 0.5, "published") for order in endings[last])
    order = min(3, 1 + min(endings[last]))
    return SingleStep(_third("published"), order, EPS, ending=ending)


@preset
def dpm_on_grid(order: int = 2, lens: str = "x0", kind: str = "published") -> Solver:
    """diffusers' DPMSolverSinglestep: stages at the grid's own times, one pass a grid step.

    The last step is of order 1, which leaves the whole of order 2 at most. Its second stage is
    rounded as the second order is, whatever the kind.
    """
    need_known("lens of DPM-Solver", lens, ("x0", "eps"))
    if order not in (2, 3):
        raise InvalidArgument(f"order is {order!r}; give 2 or 3")
    need_known("kind of DPM-Solver", kind, KINDS)
    rule = "midpoint" if kind == "published" else "exact"
    first, second = Stage(0.5), Stage(1.0, (0, 1), rule)
    direction = X0 if lens == "x0" else EPS
    one = SingleStep((Stage(),), 1, direction)
    two = SingleStep((first, second), 2, direction, on_grid=True, ending=(one,))
    if order == 2:
        return two
    end = _third(kind)[-1]
    return SingleStep((first, second, end), 2, direction, on_grid=True, ending=(two, one))


@preset
def edm_churn(
    method: str = "heun",
    churn: float = 40.0,
    t_min: float = 0.05,
    t_max: float = 50.0,
    scale: float = 1.0,
) -> Solver:
    """EDM's stochastic sampler (Karras et al. 2022, alg. 2), with its limits for ImageNet-64.

    method "heun", "euler" or "dpm2"; t_min and t_max are levels σ/α. The paper's scale there is
    1.003, to make up for a network that removes too much noise; only 1 keeps the marginals.
    """
    noise = Churn(churn, t_min, t_max, scale)
    stages = {
        "euler": (Stage(),),
        "heun": (Stage(1.0), Stage(1.0, (0, 1))),
        "dpm2": _second(0.5, "published"),
    }
    need_known("method of EDM", method, stages)
    coordinate = "sigma" if method == "heun" else "log_snr"
    order = len(stages[method])
    return Churned(SingleStep(stages[method], order, EPS, coordinate), noise)


# Runge–Kutta's weights on DDIM steps to the middle and the end of the step (Liu et al. 2022)
PSEUDO_RK4 = SingleStep(
    (
        Stage(0.5),
        Stage(0.5, weights=(0.0, 1.0)),
        Stage(1.0, weights=(0.0, 0.0, 1.0)),
        Stage(1.0, weights=(1 / 6, 1 / 3, 1 / 3, 1 / 6)),
    ),
    2,
    EPS,
    "t",
)
PSEUDO_HEUN = SingleStep((Stage(1.0), Stage(1.0, weights=(0.5, 0.5))), 2, EPS)
