"""Predictor–corrector: any solver from level to level, Langevin steps at each level."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor

from ...errors import InvalidArgument, need_count, need_known
from ...fields.field import Prediction
from ...fields.lenses import conversion
from ...paths import GaussianPath
from ..linear.sde import ReverseDiffusion, check_rate
from ..registry import get, preset
from ..relay import as_stages
from ..solver import Noise, Outcome, Solver, Steps, TimeGrid, draw

NORMS = ("level", "sample")


@dataclass(frozen=True)
class PredictorCorrector(Solver):
    """Take each step of the grid by `predictor`, then `corrections` Langevin steps at its end.

    A correction is x + h·score + √(2h)·ξ at the new time (Song et al. 2021, algs. 2–5). norms:
    "level": h = rate·σ², NCSN's α_i/2 with rate = ε/(2σ_L²). "sample": h = rate·a·‖ξ‖²/‖score‖²,
    at most σ², rate = 2r² for a signal-to-noise ratio r, a = 1 − β of the level, (α₁/α₂)² to the
    grid's next time (1 at the last); it tends to the former in high dimension, and is biased in
    low, where h depends on the state. `consistent` adds the noise √(h(2 − h/σ²)) instead, which
    preserves the level's variance where data is one point, and loses up to rate/2 of it where the
    data's own is far above σ².

    predictor None leaves x/α as it is from level to level (annealed Langevin dynamics, Song &
    Ermon 2019, alg. 1) and is E[x0|x] on a step into σ = 0. A predictor with history starts anew at
    every step. There is no correction where σ = 0.

    Departure: the paper takes the means of ‖ξ‖ and ‖score‖ over the batch; here "level" is their
    expected ratio and "sample" that of each sample. At a fixed rate Langevin's own bias remains
    however fine the grid: order 0, variances too wide by the share h/2v.

    Raises InvalidArgument for a rate outside (0, 1] and unknown norms.
    """

    predictor: Solver | None = field(default_factory=ReverseDiffusion)
    corrections: int = 1
    rate: float = 2 * 0.16**2
    norms: str = "level"
    consistent: bool = False
    order = 0
    stochastic = True

    def __post_init__(self) -> None:
        need_count("corrections", self.corrections)
        check_rate(self.rate)
        need_known("norms", self.norms, NORMS)

    def why_unsupported(self, path: GaussianPath, start: float, end: float) -> str | None:
        if self.predictor is not None:
            return self.predictor.why_unsupported(path, start, end)
        if float(path.alpha(start)) == 0:
            return (
                f"annealed Langevin keeps x/α, infinite at t = {start:g}, where α = 0; start below "
                "that (start=0.999), or use predictor_corrector"
            )
        return None

    def steps(self, path: GaussianPath, x: Tensor, grid: TimeGrid, noise: Noise | None) -> Steps:
        for k, level in enumerate(_levels(path, grid.floats)):
            begin = x
            try:
                if self.predictor is not None:
                    inner = self.predictor.steps(path, x, grid.part(k, k + 2), noise)
                    x = yield from as_stages(inner, k, states=1)
                elif level.sigma:
                    x = x * level.carry
                else:
                    x = (yield x, grid.tensors[k]).x0
                for _ in range(self.corrections if level.sigma else 0):
                    prediction = yield x, grid.tensors[k + 1], k
                    x = self._correct(x, prediction, level, grid.floats[k + 1], noise)
            except GeneratorExit:
                return Outcome(begin, fields={"t": grid.floats[k], "steps": k})
        return x

    def _correct(
        self, x: Tensor, prediction: Prediction, level: Level, t: float, noise: Noise | None
    ) -> Tensor:
        on_x, on_value = _to_score(prediction.path, prediction.lens, t)
        score = torch.mul(prediction.value, on_value)
        if on_x:
            score.add_(x, alpha=on_x)
        fresh, most = draw(noise, x), level.sigma**2
        if self.norms == "level":
            size: Tensor | float = self.rate * most
        else:
            size = norm_step(score, fresh, self.rate * level.kept, most)
        return langevin_step(x, score, size, fresh, most if self.consistent else math.inf)


def langevin_step(
    x: Tensor, score: Tensor, size: Tensor | float, draw: Tensor, level: float = math.inf
) -> Tensor:
    """Return x + h·score + ς·draw, ς² = h(2 − h/level): √(2h) of Langevin dynamics at level ∞.

    size: h, a number or (batch, 1, …). With level = σ² a point seen through noise σ has that
    noise's variance afterwards: (1 − h/σ²)²σ² + ς² = σ² (Jolicoeur-Martineau et al. 2020).
    """
    spread = (size * (2 - size / level)) ** 0.5
    return x + size * score + spread * draw


def norm_step(score: Tensor, draw: Tensor, rate: float, most: float) -> Tensor:
    """Return min(rate·‖draw‖²/‖score‖², most) of each sample, (batch, 1, …).

    2a(r‖z‖/‖g‖)² with rate = 2r²a (Song et al. 2021, algs. 4 and 5).
    """
    up, down = (v.flatten(1).square().sum(1) for v in (draw, score))
    size = (rate * up / down.clamp(min=torch.finfo(down.dtype).tiny)).clamp(max=most)
    return size.reshape(-1, *(1,) * (score.ndim - 1))


@dataclass(frozen=True)
class Level:
    """σ at a step's end, α₁/α₀ over the step, and (α₁/α₂)² to the time after it."""

    sigma: float
    carry: float
    kept: float


@lru_cache(maxsize=128)
def _levels(path: GaussianPath, times: tuple[float, ...]) -> tuple[Level, ...]:
    alpha, sigma = ([float(f(t)) for t in times] for f in (path.alpha, path.sigma))
    kept = [*((a / b) ** 2 for a, b in pairwise(alpha[1:])), 1.0]
    return tuple(
        Level(sigma[k + 1], alpha[k + 1] / alpha[k] if alpha[k] else math.inf, kept[k])
        for k in range(len(times) - 1)
    )


@lru_cache(maxsize=4096)
def _to_score(path: GaussianPath, lens: str, t: float) -> tuple[float, float]:
    on_x, on_value = conversion(path, lens, "score", t)
    return float(on_x), float(on_value)


@preset
def predictor_corrector(
    predictor: str = "reverse_diffusion",
    corrections: int = 1,
    snr: float = 0.16,
    norms: str = "level",
    consistent: bool = False,
) -> Solver:
    """Predictor–corrector (Song et al. 2021): predictor a solver's name, "ddpm" for ancestral.

    snr: r of the corrector; the paper takes 0.16 on VE and 0.01 on VP.
    """
    if not 0 < snr <= math.sqrt(0.5):
        raise InvalidArgument(f"snr is {snr!r}; give a number in (0, 0.707], such as 0.16")
    return PredictorCorrector(get(predictor), corrections, 2 * snr**2, norms, consistent)


@preset
def annealed_langevin(corrections: int = 5, rate: float = 0.1, consistent: bool = False) -> Solver:
    """Annealed Langevin dynamics (Song & Ermon 2019, alg. 1), `corrections` steps a level.

    Published: rate 0.1 (ε = 2e-5 over 2σ_L², σ_L = 0.01), 100 steps at each of 10 levels,
    `grids.log_snr(path, 9)`. Few steps and levels leave noise in: steps of rate·σ² hardly move data
    of variance far above σ².
    """
    return PredictorCorrector(None, corrections, rate, "level", consistent)
