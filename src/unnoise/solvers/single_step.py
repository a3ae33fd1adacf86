"""Single-step exponential integrators: stages inside a step, each a step of the one formula."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InvalidArgument, need_count, unknown
from ..fields.field import Field
from ..paths import GaussianPath
from .looks import advance
from .solver import Noise, OnStep, Solution, Solver, TimeGrid
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

    def why_unsupported(self, path: GaussianPath, start: float, end: float) -> str | None:
        return no_start(self.direction, path, start)

    def walk(
        self, field: Field, x: Tensor, times: TimeGrid, noise: Noise | None, on_step: OnStep | None
    ) -> Solution:
        def draw() -> Tensor:
            assert noise is not None
            return noise.normal(*x.shape[1:]).to(device=x.device, dtype=x.dtype)

        nfe, lens, plan, large = 0, "", None, x.nbytes >= LARGE
        for k, layout in enumerate(lay_out(self, field.path, times.floats)):
            reached, carried = None if on_step is None else x, None
            if layout.raised:
                x = torch.mul(x, layout.raised[0]).add_(draw(), alpha=layout.raised[1])
            end, kept, free = None, list[Tensor](), False
            for i, time in enumerate(layout.times):
                prediction = field(x, time)
                if plan is None:
                    lens = prediction.lens
                    plan = compile_plan(self, field.path, lens, times.floats, x.dtype)
                nfe += prediction.nfe
                if on_step is not None and on_step(layout.places[i], prediction) is False:
                    assert reached is not None
                    place = layout.places[0]
                    return Solution(reached, times.floats[place], place, nfe, False)
                if i == 0:
                    free = large and len(layout.times) <= 2 and spare(prediction, x)
                    start = x
                x, end = advance(plan[k][i], in_lens(prediction, lens), start, end, kept, free)
                if i + 2 >= len(layout.times):  # nothing is held on to that is not needed again
                    start = x
                    kept.clear()
                del prediction
                spared, fresh = layout.noise[i]
                carried = carried * spared if carried is not None and spared else None
                if fresh:
                    drawn = draw().mul_(fresh)
                    carried = drawn if carried is None else carried.add_(drawn)
                    del drawn
                if carried is not None:
                    x.add_(carried)
            del start
        return Solution(x, times.floats[-1], times.steps, nfe, True)
