"""DPM-Solver-12 and -23: steps in log-SNR as long as an error estimate allows, sample by sample."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import InvalidArgument, NonFinite, need_count
from ...fields.field import Prediction
from ...paths import GaussianPath, expand
from ..linear.direction import no_start
from ..registry import preset
from ..solver import Noise, Outcome, Request, Solver, Steps, TimeGrid

NEAR = 1e-9  # a sample this close to its goal in λ has reached it
Evaluations = Generator[Request, Prediction, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class DPMAdaptive(Solver):
    """DPM-Solver-2 with DPM-Solver-1's error, or -3 with -2's (Lu et al. 2022a, appendix C).

    The error E = rms over the event of (x_high − x_low)/max(atol, rtol·max(|x_low|, |x_before|))
    sets the next step h ← h·(1 + atan(f − 1)), f = (E + 1e-8)^(−1/order); a step is accepted where
    that factor is at least `accept` (k-diffusion's controller). Departs from both in one thing:
    every sample has its own steps, and none depends on its batch; at batch 1 it is k-diffusion's.

    The flow is integrated from the grid's first time to its last; with `stops` every grid time is
    reached exactly, without it the times between are not used. Where the grid ends at σ = 0 the
    steps reach σ/α = `sigma_min`, and one step of order 1 follows. `nfe` is that of the slowest
    sample. Raises InvalidArgument when max_passes evaluations were not enough.
    """

    order: int = 3
    rtol: float = 0.05
    atol: float = 0.0078
    h_init: float = 0.05
    accept: float = 0.81
    sigma_min: float = 0.002
    stops: bool = False
    max_passes: int = 10_000

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

    def why_unsupported(self, path: GaussianPath, start: float, end: float) -> str | None:
        return no_start((0.0, 1.0), path, start)

    def steps(self, path: GaussianPath, x: Tensor, grid: TimeGrid, noise: Noise | None) -> Steps:
        marks = grid.floats if self.stops else (grid.floats[0], grid.floats[-1])
        now = _Progress(self, path, x, float(path.log_snr(marks[0])))
        for k, end in enumerate(marks[1:]):
            reached, goal = now.x, float(path.log_snr(end))
            last = goal == math.inf
            if last:
                goal = max(-math.log(self.sigma_min), float(now.lam[0]))
            try:
                while bool((active := now.lam < goal - NEAR).any()):
                    ahead = torch.where(active, (now.lam + now.h).clamp(max=goal), now.lam)
                    now.accept(*(yield from now.attempt(ahead, k)), ahead, active, k)
                if last:  # the step of order 1 into σ = 0
                    prediction = yield now.request(now.x, now.lam, k)
                    alpha = path.alpha(torch.tensor(end, dtype=torch.float64))
                    now.x = expand(alpha, now.x) * prediction.x0
            except GeneratorExit:
                return Outcome(reached, fields={"t": marks[k], "steps": k})
        return now.x


class _Progress:
    """The state x of every sample at log-SNR `lam`, its next step `h`, its last lower order."""

    def __init__(self, solver: DPMAdaptive, path: GaussianPath, x: Tensor, lam: float) -> None:
        self.solver, self.path = solver, path
        self.x = self.before = x
        self.lam = torch.full((len(x),), lam, dtype=torch.float64, device=x.device)
        self.h = torch.full_like(self.lam, solver.h_init)
        self.calls = 0

    def request(self, x: Tensor, lam: Tensor, k: int) -> Request:
        """Return the evaluation of x at log-SNR `lam`; raise where max_passes are used up."""
        if self.calls >= self.solver.max_passes:
            raise InvalidArgument(
                f"{self.solver} used its {self.solver.max_passes} passes in step {k}, at log-SNR "
                f"{float(self.lam.min()):.4g}; loosen rtol and atol, or raise max_passes"
            )
        self.calls += 1
        return x, self.path.time(lam).clamp(0, 1), k

    def scales(self, lam: Tensor) -> tuple[Tensor, Tensor]:
        """Return α and σ at log-SNR `lam`."""
        t = self.path.time(lam).clamp(0, 1)
        return expand(self.path.alpha(t), self.x), expand(self.path.sigma(t), self.x)

    def step(self, lam: Tensor, *terms: tuple[Tensor, Tensor]) -> Tensor:
        """Return x at `lam`: α₁·(x/α₀) − σ₁·(e^h − 1)·Σ wᵢεᵢ, terms being (wᵢ, εᵢ)."""
        (a0, _), (a1, s1) = self.scales(self.lam), self.scales(lam)
        h = expand(torch.expm1(lam - self.lam), self.x)
        return a1 / a0 * self.x - s1 * h * sum(expand(w, self.x) * eps for w, eps in terms)

    def attempt(self, ahead: Tensor, k: int) -> Evaluations:
        """Return (x of the lower order, x of the higher order) at `ahead`."""
        h, one = ahead - self.lam, torch.ones_like(self.lam)
        first = (yield self.request(self.x, self.lam, k)).eps
        if self.solver.order == 2:
            middle = self.lam + h / 2
            second = (yield self.request(self.step(middle, (one, first)), middle, k)).eps
            return self.step(ahead, (one, first)), self.step(ahead, (one, second))
        third, rest = self.lam + h / 3, self.lam + h * 2 / 3
        second = (yield self.request(self.step(third, (one, first)), third, k)).eps
        share = 2 * _slope(h * 2 / 3)
        x = self.step(rest, (1 - share, first), (share, second))
        last = (yield self.request(x, rest, k)).eps
        share = 1.5 * _slope(h)
        return (
            self.step(ahead, (-0.5 * one, first), (1.5 * one, second)),
            self.step(ahead, (1 - share, first), (share, last)),
        )

    def accept(self, low: Tensor, high: Tensor, ahead: Tensor, active: Tensor, k: int) -> None:
        """Move the samples whose error is small enough, and choose every sample's next step."""
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
        moved = passed.reshape(-1, *(1,) * (self.x.ndim - 1))
        self.before = torch.where(moved, low, self.before)
        self.x = torch.where(moved, high, self.x)
        self.lam = torch.where(passed, ahead, self.lam)
        self.h = torch.where(active, self.h * factor, self.h)


def _slope(h: Tensor) -> Tensor:
    """Return ∫θ·e^(−hθ)dθ/∫e^(−hθ)dθ over [0, 1] = 1/h − 1/(e^h − 1), a slope's share."""
    safe = torch.where(h.abs() < 1e-3, torch.ones_like(h), h)
    return torch.where(h.abs() < 1e-3, 0.5 - h / 12, 1 / safe - 1 / torch.expm1(safe))


def _round(value: Tensor) -> Tensor:
    """Round to 40 bits: sums over an event differ in their last bits between batch sizes."""
    mantissa, exponent = torch.frexp(value)
    return torch.ldexp((mantissa * 2.0**40).round() / 2.0**40, exponent)


@preset
def dpm_adaptive(order: int = 3, rtol: float = 0.05, atol: float = 0.0078) -> Solver:
    """DPM-Solver-12 (order 2) or -23 with k-diffusion's tolerances, every sample for itself."""
    return DPMAdaptive(order, rtol, atol)
