"""Multistep solvers: one formula, any direction, coordinate, order, corrector and noise."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import InvalidArgument, need_count, need_known
from ...paths import GaussianPath
from ..relay import as_stages
from ..solver import Noise, Solver, Steps, TimeGrid
from .direction import X0, Direction, check_direction, no_start
from .executor import cached_plan, execute
from .moves import Levels, Move, MultistepSolver, oldest_used
from .one_step import check_noise, noise_added
from .weights import COORDINATES, RULES, step_weights


@dataclass(frozen=True)
class Multistep(MultistepSolver):
    """x₁ = (s₁/s₀)·x + ((σ₁α₀ − α₁σ₀)/s₀)·Σ ŵⱼgⱼ: see `linear.weights`.

    points: how many g's a step uses; direction (p, q): g = q·ε − p·x0; coordinate: what the
    polynomial through them is a polynomial in; corrector: redo each step with the new g included
    (it is the next step's evaluation anyway; not on the last step); rule: how ŵ is found, "exact"
    or a published rounding.

    Early steps use as many points as there are, unless `starter` (a deterministic one-step solver)
    takes them: the first `starter_steps` steps, by default points − 1, whose evaluations at each
    step's start join the history. lower_last: step N − j uses at most j points, as the official
    codes do. A grid of fewer steps than points never reaches the order: `solve` then warns
    (UserWarning).

    Raises InvalidArgument for impossible settings and for those that would change nothing, such as
    a coordinate or a rule with one point and no corrector, where there is no polynomial.
    """

    points: int = 1
    direction: tuple[float, float] = X0
    coordinate: str = "log_snr"
    corrector: bool = False
    rule: str = "exact"
    starter: Solver | None = None
    starter_steps: int | None = None
    lower_last: bool = False

    def __post_init__(self) -> None:
        _check(self.points, self.coordinate, self.rule, self.corrector)
        check_direction(self.direction)
        p, q = self.direction
        if self.rule != "exact" and (p * q != 0 or self.coordinate != "log_snr"):
            raise InvalidArgument(
                f"the published rule {self.rule!r} is for log_snr and direction (1, 0) or (0, 1)"
            )
        if self.points == 1 and not self.corrector:
            for name in ("coordinate", "rule", "starter", "lower_last"):
                value = getattr(self, name)
                if value != getattr(Multistep, name):
                    raise InvalidArgument(
                        f"{name}={value!r} changes nothing with one point and no corrector; leave "
                        "it out, or give points ≥ 2 or corrector=True"
                    )
        if self.starter_steps is not None:
            need_count("starter_steps", self.starter_steps)
        if self.starter is None:
            if self.starter_steps is not None:
                raise InvalidArgument(
                    f"starter_steps={self.starter_steps!r} without a starter; give a solver too"
                )
        elif self.starter.stochastic or isinstance(self.starter, Multistep):
            raise InvalidArgument(
                "a starter is a deterministic one-step solver (single_step, runge_kutta)"
            )
        elif self.points == 1:
            raise InvalidArgument("a starter fills the history, and one point needs none")

    @property
    def order(self) -> int:  # type: ignore[override]
        """points (+1 with a corrector); 2 at most for half_curvature, even and lower_last."""
        if "half_curvature" in self.rule or self.rule == "even":
            return min(self.points, 2)
        return min(self.points + self.corrector, 2 if self.lower_last else 99)

    def why_unsupported(self, path: GaussianPath, start: float, end: float) -> str | None:
        return no_start(self.direction, path, start) or (
            self.starter.why_unsupported(path, start, end) if self.starter else None
        )

    @property
    def started(self) -> int:
        """The number of steps that the starter takes."""
        if self.starter is None:
            return 0
        return self.points - 1 if self.starter_steps is None else self.starter_steps

    def moves(self, path: GaussianPath, times: tuple[float, ...], levels: Levels) -> Iterator[Move]:
        steps = len(levels.alpha) - 1

        def step(k: int, nodes: list[int]) -> tuple[float, list[tuple[int, float]]]:
            lam = [levels.lam[j] for j in nodes]
            weights = step_weights(
                path, self.coordinate, lam, levels.lam[k + 1], self.direction, self.rule
            )
            return levels.step(self.direction, k, nodes, weights, levels.sigma[k + 1])

        for k in range(steps):
            points = min(self.points, steps - k) if self.lower_last else self.points
            known = list(range(k, max(k - points, -1), -1))
            redone = self.corrector and self.started <= k < steps - 1
            correct = step(k, [k, k + 1, *known[1:]]) if redone else None
            yield Move(*step(k, known), correct=correct)

    def steps(self, path: GaussianPath, x: Tensor, grid: TimeGrid, noise: Noise | None) -> Steps:
        fed = 2 if self.points == 1 and self.corrector else self.points - self.started
        _warn_of_few(self.points, grid.steps, fed, self.corrector)
        if self.starter is None:
            return (yield from super().steps(path, x, grid, noise))
        return (yield from self._started_steps(self.starter, path, x, grid))

    def _started_steps(
        self, starter: Solver, path: GaussianPath, x: Tensor, grid: TimeGrid
    ) -> Steps:
        """Take the starter's steps, store their first evaluations, then follow the plan."""
        history, first, lens = list[Tensor](), min(self.started, grid.steps), ""
        for k in range(first):
            prediction = yield x, grid.tensors[k]
            lens = lens or prediction.lens
            g = Direction.of(path, lens, self.direction, grid.tensors[k].reshape(1))
            form, value = g.stored(0, 0, 1), prediction.as_lens(lens)
            history.insert(0, value if form is None else form.of([x, value]))
            walk = starter.steps(path, x, grid.part(k, k + 2), None)
            x = yield from as_stages(walk, k, known=prediction)
        if first == grid.steps:
            return x
        plan = cached_plan(self, path, lens, grid.floats, x.dtype, first)
        levels = Levels.of(path, torch.tensor(grid.floats, dtype=torch.float64))
        used = first - oldest_used(list(self.moves(path, grid.floats, levels)))[first]
        tensors = [x, *([x] if self.corrector else ()), *history[:used]]
        return (yield from execute(lambda _: plan, tensors, grid, None, first))


@dataclass(frozen=True)
class StochasticMultistep(MultistepSolver):
    """Multistep steps on x0 to (α₁, √(σ₁² − ς²)), then ς·ξ: see `Multistep`.

    points: 2 or more; with one the step is `DDIM`'s, whose eta and variance ("posterior" or "sde")
    these are. There is no corrector, and no other direction: ε is not smooth along a path that
    receives noise. Weak order 2. Raises as Multistep does.
    """

    points: int = 2
    eta: float = 1.0
    coordinate: str = "log_snr"
    rule: str = "exact"
    variance: str = "posterior"
    order = 2
    stochastic = True

    def __post_init__(self) -> None:
        need_count("points", self.points, 2)
        _check(self.points, self.coordinate, self.rule, False)
        if self.rule != "exact" and self.coordinate != "log_snr":
            raise InvalidArgument(f"the published rule {self.rule!r} is for log_snr")
        check_noise(self.eta, self.variance, ("posterior", "sde"))
        if not self.eta:
            raise InvalidArgument("eta is 0; give a number > 0, or use Multistep")

    def moves(self, path: GaussianPath, times: tuple[float, ...], at: Levels) -> Iterator[Move]:
        for k, sigma in enumerate(at.sigma[1:]):
            h, stretch = at.lam[k + 1] - at.lam[k], 1.0
            aim, noise = noise_added(self.eta, sigma, h, self.variance)
            if 0 < aim < math.inf and math.isfinite(h):
                stretch = (math.log(at.alpha[k + 1] / aim) - at.lam[k]) / h
            known = list(range(k, max(k - self.points, -1), -1))
            lam = [at.lam[j] for j in known]
            weights = step_weights(
                path, self.coordinate, lam, at.lam[k + 1], X0, self.rule, stretch
            )
            yield Move(*at.step(X0, k, known, weights, aim), noise)

    def steps(self, path: GaussianPath, x: Tensor, grid: TimeGrid, noise: Noise | None) -> Steps:
        _warn_of_few(self.points, grid.steps, self.points)
        return (yield from super().steps(path, x, grid, noise))


def _check(points: int, coordinate: str, rule: str, corrector: bool) -> None:
    need_count("points", points)
    need_known("coordinate", coordinate, COORDINATES)
    need_known("weight rule", rule, RULES)
    if "half_curvature" in rule and (points != 3 or corrector):
        raise InvalidArgument(
            f"the published rule {rule!r} is DPM-Solver++ 3M's: it needs points=3 and "
            "corrector=False"
        )
    if rule == "even" and (points > 4 or corrector):
        raise InvalidArgument(
            "the published rule 'even' is iPNDM's: it needs points ≤ 4 and corrector=False"
        )


def _warn_of_few(points: int, steps: int, need: int, corrector: bool = False) -> None:
    if steps < need:
        what = "correct anything" if points == 1 else f"know {points} points"
        warnings.warn(
            f"{points} points{', corrected,' * corrector} on a grid of {steps} "
            f"step{'s' * (steps > 1)}: it takes {need} steps to {what}, so this walk is of a "
            "lower order; give more steps, or a single-step solver",
            stacklevel=5,
        )
