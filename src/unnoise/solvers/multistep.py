"""Multistep solvers: one formula, any direction, coordinate, order, corrector and noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..errors import InvalidArgument, need_count, unknown
from ..fields.field import Field, Prediction
from ..fields.lenses import determinant, lens_row
from ..paths import GaussianPath
from .solver import Noise, OnStep, Solution, Solver, Times
from .weights import COORDINATES, RULES, step_weights

VARIANCES = ("posterior", "transition")


@dataclass(frozen=True)
class Multistep(Solver):
    """x₁ = (s₁/s₀)·x + ((σ₁α₀ − α₁σ₀)/s₀)·Σ ŵⱼgⱼ: see `solvers.weights`.

    points: how many g's a step uses; direction (p, q): g = q·ε − p·x0; coordinate: what the
    polynomial through them is a polynomial in; corrector: redo each step with the new g included
    (it is the next step's evaluation anyway; not on the last step); rule: how ŵ is found, "exact"
    or a published rounding. eta: noise as a share of that of the posterior q(x₁|x₀, x0), η = 0
    deterministic, 1 ancestral: the step aims at (α₁, √(σ₁² − ς²)) and adds ς·ξ. variance
    "transition" adds DDPM's larger variance β instead, which does not keep the marginals.

    Early steps use as many points as there are. Raises InvalidArgument for impossible settings.
    """

    points: int = 1
    direction: tuple[float, float] = (1.0, 0.0)
    coordinate: str = "log_snr"
    corrector: bool = False
    rule: str = "exact"
    eta: float = 0.0
    variance: str = "posterior"

    def __post_init__(self) -> None:
        need_count("points", self.points)
        if self.coordinate not in COORDINATES:
            raise unknown("coordinate", self.coordinate, COORDINATES)
        if self.rule not in RULES:
            raise unknown("weight rule", self.rule, RULES)
        if self.variance not in VARIANCES:
            raise unknown("variance", self.variance, VARIANCES)
        p, q = self.direction
        if not (p >= 0 and q >= 0 and 0 < p + q < math.inf):
            raise InvalidArgument(f"direction is {self.direction!r}; give p, q ≥ 0, not both 0")
        if self.rule != "exact" and (p * q != 0 or self.coordinate != "log_snr"):
            raise InvalidArgument(
                f"the published rule {self.rule!r} is for log_snr and direction (1, 0) or (0, 1)"
            )
        if self.rule == "half_curvature" and (self.points != 3 or self.corrector):
            raise InvalidArgument(
                "the published rule 'half_curvature' is DPM-Solver++ 3M's: it needs points=3 and "
                "corrector=False"
            )
        if not 0 <= self.eta <= 1:
            raise InvalidArgument(f"eta is {self.eta!r}; give a number from 0 to 1")
        if self.eta and (q or self.corrector) and (self.points > 1 or self.corrector):
            raise InvalidArgument(
                "a stochastic multistep predicts x0 and has no corrector: ε is not smooth along a "
                "path that receives noise; use direction (1, 0), corrector=False, or eta=0"
            )
        if self.variance == "transition" and (self.eta != 1 or self.points > 1):
            raise InvalidArgument("variance 'transition' is DDPM's: it needs eta=1 and points=1")

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        return self.eta > 0

    @property
    def order(self) -> int:  # type: ignore[override]
        """points (+1 with a corrector); 2 for half_curvature. Stochastic: weak, 2 at most."""
        if self.eta or self.rule == "half_curvature":
            return min(self.points, 2)
        return self.points + self.corrector

    def refusal(self, path: GaussianPath, start: float, end: float) -> str | None:
        if self.direction[0] == 0 and float(path.alpha(start)) == 0:
            return (
                f"a step in the direction of ε cannot start where α = 0 (t = {start:g}); use a "
                "solver that predicts x0, direction (1, 1), or start below that"
            )
        return None

    def walk(
        self, field: Field, x: Tensor, times: Times, noise: Noise | None, on_step: OnStep | None
    ) -> Solution:
        tensors, steps = times.tensors, times.steps
        prediction = field(x, tensors[0])
        plan = compile_plan(self, field.path, prediction.lens, times.floats)
        keep = self.points
        history: list[Prediction] = []
        passes, lens, base = 0, prediction.lens, x
        for k in range(steps):
            if k:
                prediction = field(x, tensors[k])
            if prediction.lens != lens:
                prediction = prediction.with_value(lens, prediction.through(lens))
            passes += prediction.passes
            if on_step is not None and on_step(k, prediction) is False:
                return Solution(x, times.floats[k], k, passes, False)
            step = plan[k]
            correct = step.correct
            base = x if correct is None else _combine(base, correct, [prediction, *history])
            history.insert(0, prediction)
            del history[keep:]
            x = _combine(base, step.predict, history)
            if step.noise and noise is not None:
                draw = noise.normal(*x.shape[1:]).to(device=x.device, dtype=x.dtype)
                x.add_(draw, alpha=step.noise)
        return Solution(x, times.floats[-1], steps, passes, True)


@dataclass(frozen=True)
class Terms:
    """A linear combination: of the base state, and (index, on x_t, on value) of Predictions."""

    base: float
    past: tuple[tuple[int, float, float], ...]


@dataclass(frozen=True)
class Step:
    """One step of a plan: the prediction, the correction of the state it starts from, the noise."""

    predict: Terms
    correct: Terms | None
    noise: float


def _combine(base: Tensor, terms: Terms, history: Sequence[Prediction]) -> Tensor:
    x = torch.mul(base, terms.base)
    for index, on_x, on_value in terms.past:
        past = history[index]
        x.add_(past.value, alpha=on_value)
        if on_x:
            x.add_(past.x_t, alpha=on_x)
    return x


@lru_cache(maxsize=128)
def compile_plan(
    solver: Multistep, path: GaussianPath, lens: str, times: tuple[float, ...]
) -> tuple[Step, ...]:
    """Every coefficient of a solve, as Python floats on x_t and on the network's own value."""
    t = torch.tensor(times, dtype=torch.float64)
    p, q = solver.direction
    alpha, sigma, lam = (f(t).tolist() for f in (path.alpha, path.sigma, path.log_snr))
    # g = (−(q·a + p·b)·x + s·value)/det at every node that is evaluated
    inner = t[:-1]
    a, b = lens_row(path, lens, inner)
    det = determinant(path, lens, inner)
    scale = [p * s + q * a_ for a_, s in zip(alpha, sigma, strict=True)]
    g_on_x = (-(q * a + p * b) / det).tolist()
    g_on_value = (torch.tensor(scale[:-1], dtype=torch.float64) / det).tolist()
    if not all(map(math.isfinite, [*g_on_x, *g_on_value])):
        from ..fields.lenses import conversion

        for time in times[:-1]:  # names the time and the lens
            conversion(path, lens, "eps" if p == 0 else "x0", time)

    def terms(k: int, nodes: list[int], merged: bool, aim: float, stretch: float) -> Terms:
        s1, gain = p * aim + q * alpha[k + 1], aim * alpha[k] - alpha[k + 1] * sigma[k]
        weights = step_weights(
            path,
            solver.coordinate,
            [lam[j] for j in nodes],
            lam[k + 1],
            solver.direction,
            solver.rule,
            stretch,
        )
        # the Lagrange nodes are given with the step's start first; history is newest first
        base, past = s1 / scale[k], []
        for j, weight in zip(nodes, weights, strict=True):
            on_g = weight * gain / scale[k]
            on_x, on_value = on_g * g_on_x[j], on_g * g_on_value[j]
            if j == k and merged:
                base, on_x = base + on_x, 0.0
            if on_x or on_value:
                past.append((newest(j), on_x, on_value))
        return Terms(base, tuple(past))

    plan = []
    for k in range(len(times) - 1):
        known = list(range(k, max(k - solver.points, -1), -1))
        newest = lambda j, k=k: k - j  # noqa: E731
        aim, noise, stretch = _noise(solver, path, alpha, sigma, lam, k)
        predict = terms(k, known, not solver.corrector, aim, stretch)
        correct = None
        if solver.corrector and k:
            before = list(range(k - 1, max(k - 1 - solver.points, -1), -1))
            correct = terms(k - 1, [before[0], k, *before[1:]], False, sigma[k], 1.0)
        plan.append(Step(predict, correct, noise))
    return tuple(plan)


def _noise(
    solver: Multistep,
    path: GaussianPath,
    alpha: list[float],
    sigma: list[float],
    lam: list[float],
    k: int,
) -> tuple[float, float, float]:
    """(where the step aims in σ, deviation of the noise it adds, stretch of its measure)."""
    if not solver.eta:
        return sigma[k + 1], 0.0, 1.0
    h = lam[k + 1] - lam[k]
    # ς = η·σ₁·√(1 − SNR₀/SNR₁): the posterior's deviation; 1 where SNR₀ = 0
    added = solver.eta * sigma[k + 1] * math.sqrt(-math.expm1(-2 * h))
    aim = math.sqrt(max(sigma[k + 1] ** 2 - added**2, 0.0))
    if solver.eta == 1:
        aim = sigma[k + 1] * math.exp(-h)
    stretch = 1.0
    if 0 < aim < math.inf and math.isfinite(h):
        stretch = (math.log(alpha[k + 1] / aim) - lam[k]) / h
    if solver.variance == "transition" and sigma[k + 1] > 0:
        keep = alpha[k] / alpha[k + 1]
        added = math.sqrt(sigma[k] ** 2 - (keep * sigma[k + 1]) ** 2)
    return aim, added, stretch
