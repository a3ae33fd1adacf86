"""Multistep solvers: one formula, any direction, coordinate, order, corrector and noise."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

from torch import Tensor

from ..errors import InvalidArgument, need_count, unknown
from ..fields.field import Field
from ..paths import GaussianPath
from .multistep_plan import Step, compile_plan
from .opening import open_step
from .solver import Noise, OnStep, Solution, Solver, TimeGrid, stir
from .spare import LARGE, spare
from .terms import check_direction, combine, in_lens, marked, no_start
from .weights import COORDINATES, RULES

VARIANCES = ("posterior", "transition", "sde")


@dataclass(frozen=True)
class Multistep(Solver):
    """x₁ = (s₁/s₀)·x + ((σ₁α₀ − α₁σ₀)/s₀)·Σ ŵⱼgⱼ: see `solvers.weights`.

    points: how many g's a step uses; direction (p, q): g = q·ε − p·x0; coordinate: what the
    polynomial through them is a polynomial in; corrector: redo each step with the new g included
    (it is the next step's evaluation anyway; not on the last step); rule: how ŵ is found, "exact"
    or a published rounding. eta: noise as a share of that of the posterior q(x₁|x₀, x0), η = 0
    deterministic, 1 ancestral: the step aims at (α₁, √(σ₁² − ς²)) and adds ς·ξ. variance
    "transition" adds DDPM's larger variance β instead, which does not keep the marginals; "sde"
    takes η as the share of the reverse SDE's noise, ς² = σ₁²·(1 − e^(−2ηh)), any η ≥ 0.

    Early steps use as many points as there are, unless `opening` (a one-step solver) takes them:
    the first `opened` steps, points − 1 of them by default, its look at each step's start joining
    the history. lower_last: step N − j uses at most j points, as the official codes do. A grid of
    fewer steps than points never reaches the order: `solve` then warns (UserWarning).

    Raises InvalidArgument for impossible settings and for those that would change nothing: with
    one point and no corrector there is no polynomial, so coordinate, rule, opening and lower_last
    keep their defaults.
    """

    points: int = 1
    direction: tuple[float, float] = (1.0, 0.0)
    coordinate: str = "log_snr"
    corrector: bool = False
    rule: str = "exact"
    eta: float = 0.0
    variance: str = "posterior"
    opening: Solver | None = None
    opened: int | None = None
    lower_last: bool = False

    def __post_init__(self) -> None:
        need_count("points", self.points)
        if self.coordinate not in COORDINATES:
            raise unknown("coordinate", self.coordinate, COORDINATES)
        if self.rule not in RULES:
            raise unknown("weight rule", self.rule, RULES)
        if self.variance not in VARIANCES:
            raise unknown("variance", self.variance, VARIANCES)
        check_direction(self.direction)
        p, q = self.direction
        if self.rule != "exact" and (p * q != 0 or self.coordinate != "log_snr"):
            raise InvalidArgument(
                f"the published rule {self.rule!r} is for log_snr and direction (1, 0) or (0, 1)"
            )
        if "half_curvature" in self.rule and (self.points != 3 or self.corrector):
            raise InvalidArgument(
                f"the published rule {self.rule!r} is DPM-Solver++ 3M's: it needs points=3 and "
                "corrector=False"
            )
        if self.rule == "even" and (self.points > 4 or self.corrector):
            raise InvalidArgument(
                "the published rule 'even' is iPNDM's: it needs points ≤ 4 and corrector=False"
            )
        if not (math.isfinite(self.eta) and self.eta >= 0):
            raise InvalidArgument(f"eta is {self.eta!r}; give a number ≥ 0")
        if self.eta > 1 and self.variance != "sde":
            raise InvalidArgument(
                f"eta is {self.eta!r}; give a number from 0 to 1, or variance='sde'"
            )
        if self.eta and (q or self.corrector) and (self.points > 1 or self.corrector):
            raise InvalidArgument(
                "a stochastic multistep predicts x0 and has no corrector: ε is not smooth along a "
                "path that receives noise; use direction (1, 0), corrector=False, or eta=0"
            )
        if self.variance == "transition" and (self.eta != 1 or self.points > 1):
            raise InvalidArgument("variance 'transition' is DDPM's: it needs eta=1 and points=1")
        if self.variance == "sde" and not self.eta:
            raise InvalidArgument("variance 'sde' says what noise eta means; give eta > 0")
        self._refuse_what_changes_nothing()

    def _refuse_what_changes_nothing(self) -> None:
        if self.points == 1 and not self.corrector:
            for name, value, default in (
                ("coordinate", self.coordinate, "log_snr"),
                ("rule", self.rule, "exact"),
                ("opening", self.opening, None),
                ("lower_last", self.lower_last, False),
            ):
                if value != default:
                    raise InvalidArgument(
                        f"{name}={value!r} changes nothing with one point and no corrector; leave "
                        "it out, or give points ≥ 2 or corrector=True"
                    )
        if self.opened is not None:
            need_count("opened", self.opened)
        if (self.opening is None) != (self.opened is None) and self.opening is None:
            raise InvalidArgument(f"opened={self.opened!r} without an opening; give a solver too")
        if self.opening is not None and (
            self.eta or self.opening.stochastic or isinstance(self.opening, Multistep)
        ):
            raise InvalidArgument(
                "an opening is a deterministic one-step solver (single_step, runge_kutta) of a "
                "deterministic multistep one (eta=0)"
            )
        if self.opening is not None and self.points == 1:
            raise InvalidArgument("an opening fills the history, and one point needs none")

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        return self.eta > 0

    @property
    def order(self) -> int:  # type: ignore[override]
        """points (+1 with a corrector); 2 at most for half_curvature, even and lower_last.

        Stochastic: weak, 2 at most.
        """
        if self.eta or "half_curvature" in self.rule or self.rule == "even":
            return min(self.points, 2)
        return min(self.points + self.corrector, 2 if self.lower_last else 99)

    def why_unsupported(self, path: GaussianPath, start: float, end: float) -> str | None:
        return no_start(self.direction, path, start) or (
            self.opening.why_unsupported(path, start, end) if self.opening else None
        )

    @property
    def opening_steps(self) -> int:
        """How many steps the opening takes."""
        if self.opening is None:
            return 0
        return self.points - 1 if self.opened is None else self.opened

    def _warn_of(self, steps: int) -> None:
        need = 2 if self.points == 1 and self.corrector else self.points - self.opening_steps
        if steps < need:
            what = "correct anything" if self.points == 1 else f"know {self.points} points"
            warnings.warn(
                f"{self.points} points{', corrected,' * self.corrector} on a grid of {steps} "
                f"step{'s' * (steps > 1)}: it takes {need} steps to {what}, so this walk is of a "
                "lower order; give more steps, or a single-step solver",
                stacklevel=4,
            )

    def walk(
        self, field: Field, x: Tensor, times: TimeGrid, noise: Noise | None, on_step: OnStep | None
    ) -> Solution:
        tensors, steps = times.tensors, times.steps
        self._warn_of(steps)
        keep, opened, large = self.points - 1, self.opening_steps, x.nbytes >= LARGE
        points: list[Tensor] = []
        plan: tuple[Step, ...] = ()
        nfe, lens, base, mine = 0, "", x, False
        for k in range(steps):
            prediction = field(x, tensors[k])
            if not k:
                lens = prediction.lens
                plan = compile_plan(self, field.path, lens, times.floats, x.dtype)
            if prediction.lens != lens:
                prediction = in_lens(prediction, lens)
            nfe += prediction.nfe
            if on_step is not None and on_step(k, prediction) is False:
                return Solution(x, times.floats[k], k, nfe, False)
            step, free = plan[k], large and spare(prediction, x)
            # nothing is held on to that is not needed again
            if self.opening is not None and k < opened:
                ends = TimeGrid(times.floats[k : k + 2], tensors[k : k + 2])
                walked = open_step(self.opening, field, prediction, ends, on_step, k)
                nfe += walked.nfe
                if not walked.finished:
                    return Solution(x, times.floats[k], k, nfe, False)
                points, x = [marked(prediction, step.mark), *points], walked.x
                del prediction, walked
            elif self.corrector:  # a step starts where the one before is taken to have arrived
                points = [marked(prediction, step.mark, free and step.again is not None), *points]
                if step.again is None:
                    base, mine = x, False
                else:
                    base.add_(points[0], alpha=step.again)
                del prediction, x
                x = combine(base, step.predict, points)
                if step.correct is not None:
                    base, mine = combine(base, step.correct, points, mine), True
            else:
                points = [prediction.value, *points]
                x = combine(x, step.predict, points, free and not (keep and step.mark.share))
                if keep:
                    points[0] = marked(prediction, step.mark, free)
                del prediction
            del points[keep:]
            if step.noise and noise is not None:
                stir(x, noise, step.noise)
        return Solution(x, times.floats[-1], steps, nfe, True)
