"""DPM-Solver-12 and -23: steps in log-SNR as long as an error estimate allows, sample by sample."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InvalidArgument, NonFinite, need_count
from ..fields.field import Field, Prediction
from ..paths import GaussianPath, expand
from .registry import preset
from .solver import Noise, OnStep, Solution, Solver, Times
from .terms import no_start

NEAR = 1e-9  # a sample this close to its goal in λ has reached it


@dataclass(frozen=True)
class DPMAdaptive(Solver):
    """DPM-Solver-2 with DPM-Solver-1's error, or -3 with -2's (Lu et al. 2022a, appendix C).

    The error E = rms over the event of (x_high − x_low)/max(atol, rtol·max(|x_low|, |x_before|))
    sets the next step h ← h·(1 + atan(f − 1)), f = (E + 1e-8)^(−1/order); a step stands where
    that factor is at least `accept` (k-diffusion's controller). Departs from both in one thing:
    every sample has steps of its own, so that none depends on its batch; at batch 1 it is
    k-diffusion's.

    It goes from the grid's first time to its last; `stops` makes it meet the times between as
    well, and without it they are not used. Where the walk ends at σ = 0 it goes to σ/α =
    `sigma_min`, then takes one step of order 1. `passes` is what the slowest sample needed.
    Raises InvalidArgument when max_passes were not enough.
    """

    order: int = 3
    rtol: float = 0.05
    atol: float = 0.0078
    h_init: float = 0.05
    accept: float = 0.81
    sigma_min: float = 0.002
    stops: bool = False
    max_passes: int = 10_000
    adaptive = True

    def __post_init__(self) -> None:
        if self.order not in (2, 3):
            raise InvalidArgument(f"order is {self.order!r}; adaptive DPM-Solver has 2 and 3")
        for name in ("rtol", "atol", "h_init", "accept", "sigma_min"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InvalidArgument(f"{name} is {value!r}; give a positive number")
        if self.accept >= 1 + math.pi / 2:
            raise InvalidArgument(f"accept is {self.accept!r}; no factor reaches that, give 0.81")
        need_count("max_passes", self.max_passes)

    def refusal(self, path: GaussianPath, start: float, end: float) -> str | None:
        return no_start((0.0, 1.0), path, start)

    def walk(
        self, field: Field, x: Tensor, times: Times, noise: Noise | None, on_step: OnStep | None
    ) -> Solution:
        path = field.path
        marks = times.floats if self.stops else (times.floats[0], times.floats[-1])
        walk = _Walk(self, field, x, float(path.log_snr(marks[0])), on_step)
        for k, end in enumerate(marks[1:]):
            before, goal = walk.x, float(path.log_snr(end))
            if goal == math.inf:
                goal = max(-math.log(self.sigma_min), float(walk.lam[0]))
            if walk.to(goal, k) is False or (
                float(path.log_snr(end)) == math.inf and walk.into(end, k) is False
            ):
                return Solution(before, marks[k], k, walk.nfe, False)
        return Solution(walk.x, times.floats[-1], times.steps, walk.nfe, True)


class _Walk:
    """Where every sample stands: x at log-SNR `lam`, its next step `h`, its last low order."""

    def __init__(
        self, solver: DPMAdaptive, field: Field, x: Tensor, lam: float, on_step: OnStep | None
    ) -> None:
        self.solver, self.field, self.path, self.on_step = solver, field, field.path, on_step
        self.x = self.before = x
        self.lam = torch.full((len(x),), lam, dtype=torch.float64, device=x.device)
        self.h = torch.full_like(self.lam, solver.h_init)
        self.nfe = 0

    def look(self, x: Tensor, lam: Tensor, k: int) -> Prediction | None:
        """What the field says there; None where on_step ends the walk."""
        if self.nfe >= self.solver.max_passes:
            raise InvalidArgument(
                f"{self.solver} used its {self.solver.max_passes} passes in step {k}, at log-SNR "
                f"{float(self.lam.min()):.4g}; loosen rtol and atol, or raise max_passes"
            )
        prediction = self.field(x, self.path.time(lam).clamp(0, 1))
        self.nfe += prediction.nfe
        if self.on_step is not None and self.on_step(k, prediction) is False:
            return None
        return prediction

    def scales(self, lam: Tensor) -> tuple[Tensor, Tensor]:
        t = self.path.time(lam).clamp(0, 1)
        return expand(self.path.alpha(t), self.x), expand(self.path.sigma(t), self.x)

    def step(self, lam: Tensor, made: list[tuple[Tensor, Tensor]]) -> Tensor:
        """x at `lam` from x by Σ gain·ε, in ε's direction: α₁·(x/α₀) + σ₁·(e^h − 1)·Σ wᵢεᵢ."""
        (a0, _), (a1, s1) = self.scales(self.lam), self.scales(lam)
        h = expand(torch.expm1(lam - self.lam), self.x)
        total = sum(expand(weight, self.x) * eps for weight, eps in made)
        return a1 / a0 * self.x - s1 * h * total

    def to(self, goal: float, k: int) -> bool:
        """Take every sample to log-SNR `goal`."""
        while True:
            active = self.lam < goal - NEAR
            if not bool(active.any()):
                return True
            ahead = torch.where(active, (self.lam + self.h).clamp(max=goal), self.lam)
            tried = self.attempt(ahead, k)
            if tried is None:
                return False
            low, high = tried
            solver, dims = self.solver, tuple(range(1, self.x.ndim))
            size = torch.maximum(low.abs(), self.before.abs())
            allowed = (solver.rtol * size).clamp(min=solver.atol)
            error = ((low - high) / allowed).double().square().mean(dims).sqrt()
            if not bool(torch.isfinite(error).all()):
                bad = int((~torch.isfinite(error)).nonzero()[0])
                raise NonFinite(
                    f"the state is not finite at step {k}, t = "
                    f"{float(self.path.time(self.lam[bad])):.6g}, sample {bad} of {len(error)}; "
                    "the field there is at fault, or its guidance too strong"
                )
            factor = 1 + torch.atan(_round(error + 1e-8) ** (-1 / solver.order) - 1)
            passed = active & (factor >= solver.accept)
            keep = passed.reshape(-1, *(1,) * (self.x.ndim - 1))
            self.before = torch.where(keep, low, self.before)
            self.x = torch.where(keep, high, self.x)
            self.lam = torch.where(passed, ahead, self.lam)
            self.h = torch.where(active, self.h * factor, self.h)

    def attempt(self, ahead: Tensor, k: int) -> tuple[Tensor, Tensor] | None:
        """(x of the lower order, x of the higher order) at `ahead`."""
        h, one = ahead - self.lam, torch.ones_like(self.lam)
        eps: list[Tensor] = []

        def look(x: Tensor, lam: Tensor) -> bool:
            prediction = self.look(x, lam, k)
            if prediction is not None:
                eps.append(prediction.eps)
            return prediction is not None

        if not look(self.x, self.lam):
            return None
        if self.solver.order == 2:
            middle = self.lam + h / 2
            if not look(self.step(middle, [(one, eps[0])]), middle):
                return None
            return self.step(ahead, [(one, eps[0])]), self.step(ahead, [(one, eps[1])])
        first, second = self.lam + h / 3, self.lam + h * 2 / 3
        if not look(self.step(first, [(one, eps[0])]), first):
            return None
        share = 2 * _slope(h * 2 / 3)
        if not look(self.step(second, [(1 - share, eps[0]), (share, eps[1])]), second):
            return None
        share = 1.5 * _slope(h)
        return (
            self.step(ahead, [(-0.5 * one, eps[0]), (1.5 * one, eps[1])]),
            self.step(ahead, [(1 - share, eps[0]), (share, eps[2])]),
        )

    def into(self, end: float, k: int) -> bool:
        """The step of order 1 into σ = 0."""
        prediction = self.look(self.x, self.lam, k)
        if prediction is None:
            return False
        alpha = self.path.alpha(torch.tensor(end, dtype=torch.float64))
        self.x = expand(alpha, self.x) * prediction.x0
        return True


def _slope(h: Tensor) -> Tensor:
    """∫θ·e^(−hθ)dθ/∫e^(−hθ)dθ over [0, 1] = 1/h − 1/(e^h − 1): a slope's share; ½ at h = 0."""
    safe = torch.where(h.abs() < 1e-3, torch.ones_like(h), h)
    return torch.where(h.abs() < 1e-3, 0.5 - h / 12, 1 / safe - 1 / torch.expm1(safe))


def _round(value: Tensor) -> Tensor:
    """To 40 bits: sums over an event may differ in their last bits between batch sizes."""
    mantissa, exponent = torch.frexp(value)
    return torch.ldexp((mantissa * 2.0**40).round() / 2.0**40, exponent)


@preset
def dpm_adaptive(order: int = 3, rtol: float = 0.05, atol: float = 0.0078) -> Solver:
    """DPM-Solver-12 (order 2) or -23 with k-diffusion's tolerances, every sample for itself."""
    return DPMAdaptive(order, rtol, atol)
