"""Single-step exponential integrators: stages inside a step, each a step of the one formula."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InvalidArgument, need_count, unknown
from ..fields.field import Field
from ..paths import GaussianPath
from .looks import advance
from .registry import preset
from .solver import Noise, OnStep, Solution, Solver, Times
from .spare import LARGE, spare
from .stages import Churn, Stage, compile_plan, lay_out
from .terms import check_direction, in_lens, no_start
from .weights import COORDINATES, RULES


@dataclass(frozen=True)
class SingleStep(Solver):
    """Every stage and the step itself by x₁ = (s₁/s₀)·x + ((σ₁α₀ − α₁σ₀)/s₀)·Σ ŵⱼgⱼ.

    See `solvers.weights`: g = q·ε − p·x0, ŵ the integral of the polynomial, in `coordinate`,
    through the g's of earlier stages; the last stage is the step's end. A step one of whose stages
    cannot be (it would lie where σ = 0, or outside the path, or its coordinate is infinite) has
    the start's g alone: first order, DDIM's step.

    eta: noise as a share of the posterior's, as in Multistep: the whole step, its stages included,
    goes to (α₁, √(σ₁² − ς²)), then ς·ξ is added; the flow to a lower noise and the noise back up
    both keep the marginals, so the weak order is `order`. With noisy_stages (DPM-Solver++ SDE) the
    stages stay on the way to σ₁, receive the noise due there, and the step's own noise contains
    theirs. churn: noise before each step. on_grid: a step spans as many steps of the grid as it
    has stages, which lie at the grid's own times. ending: solvers of the last steps (of the rest
    of the grid where on_grid: by their number of stages).
    """

    stages: tuple[Stage, ...] = (Stage(),)
    order: int = 1
    direction: tuple[float, float] = (1.0, 0.0)
    coordinate: str = "log_snr"
    eta: float = 0.0
    noisy_stages: bool = False
    churn: Churn | None = None
    on_grid: bool = False
    ending: tuple[SingleStep, ...] = ()

    def __post_init__(self) -> None:
        need_count("order", self.order)
        check_direction(self.direction)
        if self.coordinate not in COORDINATES:
            raise unknown("coordinate", self.coordinate, COORDINATES)
        if not self.stages or self.stages[-1].at != 1:
            raise InvalidArgument("the last stage is the step's end; give Stage(at=1, …) last")
        for i, stage in enumerate(self.stages):
            self._check_stage(i, stage)
        if not 0 <= self.eta <= 1:
            raise InvalidArgument(f"eta is {self.eta!r}; give a number from 0 to 1")
        if self.noisy_stages and (not self.eta or self.direction[1] or len(self.stages) == 1):
            raise InvalidArgument(
                "noisy stages need stages, eta > 0 and direction (1, 0): ε is not smooth along a "
                "path that receives noise"
            )
        if self.churn and self.eta:
            raise InvalidArgument("churn and eta both add noise; give one of them")
        if self.on_grid and (len(self.stages) == 1 or self.eta or self.churn):
            raise InvalidArgument("stages on the grid need stages, and add no noise (eta=0)")

    def _check_stage(self, i: int, stage: Stage) -> None:
        if not 0 < stage.at <= 1:
            raise InvalidArgument(f"stage {i} lies at {stage.at!r}; give a number in (0, 1]")
        if stage.rule not in RULES:
            raise unknown("weight rule", stage.rule, RULES)
        if stage.weights is not None:
            if len(stage.weights) != i + 1 or abs(sum(stage.weights) - 1) > 1e-12:
                raise InvalidArgument(
                    f"weights {stage.weights!r} of stage {i}; give {i + 1} that sum to 1"
                )
        elif (
            not stage.through
            or stage.through[0] != 0
            or not set(stage.through) <= set(range(i + 1))
        ):
            raise InvalidArgument(
                f"stage {i} runs through {stage.through!r}; start with 0 and name earlier stages, "
                f"up to {i}"
            )

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        return self.eta > 0 or self.churn is not None

    def refusal(self, path: GaussianPath, start: float, end: float) -> str | None:
        return no_start(self.direction, path, start)

    def walk(
        self, field: Field, x: Tensor, times: Times, noise: Noise | None, on_step: OnStep | None
    ) -> Solution:
        def draw() -> Tensor:
            assert noise is not None
            return noise.normal(*x.shape[1:]).to(device=x.device, dtype=x.dtype)

        passes, lens, plan, large = 0, "", None, x.nbytes >= LARGE
        for k, layout in enumerate(lay_out(self, field.path, times.floats)):
            reached, carried = None if on_step is None else x, None
            if layout.raised:
                x = torch.mul(x, layout.raised[0]).add_(draw(), alpha=layout.raised[1])
            end, kept, free = None, list[Tensor](), False
            for i, time in enumerate(layout.times):
                said = field(x, time)
                if plan is None:
                    lens = said.lens
                    plan = compile_plan(self, field.path, lens, times.floats, x.dtype)
                passes += said.passes
                if on_step is not None and on_step(layout.places[i], said) is False:
                    assert reached is not None
                    place = layout.places[0]
                    return Solution(reached, times.floats[place], place, passes, False)
                if i == 0:
                    free = large and len(layout.times) <= 2 and spare(said, x)
                    start = x
                x, end = advance(plan[k][i], in_lens(said, lens), start, end, kept, free)
                if i + 2 >= len(layout.times):  # nothing is held on to that is not needed again
                    start = x
                    kept.clear()
                del said
                spared, fresh = layout.noise[i]
                carried = carried * spared if carried is not None and spared else None
                if fresh:
                    drawn = draw().mul_(fresh)
                    carried = drawn if carried is None else carried.add_(drawn)
                    del drawn
                if carried is not None:
                    x.add_(carried)
            del start
        return Solution(x, times.floats[-1], times.steps, passes, True)


X0, EPS = (1.0, 0.0), (0.0, 1.0)
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
    if kind not in KINDS:
        raise unknown("kind of DPM-Solver", kind, KINDS)
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
    """k-diffusion's euler_ancestral: the same as ddim(eta), step for step."""
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
    if lens not in ("x0", "eps"):
        raise unknown("lens of DPM-Solver", lens, ("x0", "eps"))
    if order not in (2, 3):
        raise InvalidArgument(f"order is {order!r}; give 2 or 3")
    if kind not in KINDS:
        raise unknown("kind of DPM-Solver", kind, KINDS)
    rule = "midpoint" if kind == "published" else "exact"
    first, second = Stage(0.5), Stage(1.0, (0, 1), rule)
    direction = X0 if lens == "x0" else EPS
    one = SingleStep((Stage(),), 1, direction)
    two = SingleStep((first, second), 2, direction, on_grid=True)
    if order == 2:
        return SingleStep(two.stages, 2, direction, on_grid=True, ending=(one,))
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
    stirred = Churn(churn, t_min, t_max, scale)
    stages = {
        "euler": (Stage(),),
        "heun": (Stage(1.0), Stage(1.0, (0, 1))),
        "dpm2": _second(0.5, "published"),
    }
    if method not in stages:
        raise unknown("method of EDM", method, stages)
    coordinate = "sigma" if method == "heun" else "log_snr"
    order = len(stages[method])
    return SingleStep(stages[method], order, EPS, coordinate, churn=stirred)


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
