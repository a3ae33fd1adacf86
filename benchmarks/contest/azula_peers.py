"""Samplers of azula, on schedules that follow the grids in use from t = 1 to t = 0."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from .arena import VE_START, VP_START, Arena, Contestant, Evaluations

LOWEST = 0.002


def schedule(grid: str, lowest: float):
    """Return t → (α, σ): σ/α from its start at t = 1 down to `lowest` at t = 0."""
    kind, *rest = grid.split()

    def ve(t: Tensor) -> tuple[Tensor, Tensor]:
        if kind == "exponential":
            sigma = VE_START**t * max(lowest, LOWEST) ** (1 - t)
        else:
            rho = float(rest[0])
            sigma = (lowest ** (1 / rho) + t * (VE_START ** (1 / rho) - lowest ** (1 / rho))) ** rho
        return torch.ones_like(t), sigma

    def vp(t: Tensor) -> tuple[Tensor, Tensor]:  # log-SNR as on the linear chain of 1000 steps
        log_alpha = -0.25 * t**2 * 19.9 - 0.05 * t
        scale = math.log(1 + VP_START**2) / (2 * (0.25 * 19.9 + 0.05))
        alpha = (log_alpha * scale).exp()
        return alpha, (1 - alpha**2 + (lowest * (1 - t)) ** 2).sqrt()

    def flow(t: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - (t * VE_START + (1 - t) * lowest) / (1 + VE_START), (
            t * VE_START + (1 - t) * lowest
        ) / (1 + VE_START)

    return {"vp": vp, "flow": flow}.get(kind, ve)


SAMPLERS = {
    "DDIMSampler": (1, {}),
    "HeunSampler": (2, {}),
    **{
        f"{kind}Sampler {order}": (1, {"order": order})
        for kind in ("zAB", "vAB", "zEAB", "xEAB", "REAB")
        for order in (2, 3)
    },
}
INTO_ZERO = ("DDIM", "zAB", "vAB")  # the others take the logarithm of the last σ, or evaluate there


def walk(name: str, grid: str, lowest: float, evaluate: Evaluations, arena: Arena, budget: int):
    """Return (state, start, end) of one sampler on one grid."""
    from azula import sample
    from azula.denoise import Denoiser, DiracPosterior

    stages, options = SAMPLERS[name]
    levels = schedule(grid, lowest)

    class Exactly(Denoiser):
        def __init__(self) -> None:
            super().__init__()
            self.schedule = levels

        def forward(self, x_t: Tensor, t: Tensor, **_) -> DiracPosterior:
            alpha, sigma = self.schedule(t)
            return DiracPosterior(evaluate(x_t / alpha, float(sigma / alpha)))

    sampler = getattr(sample, name.split()[0])(
        Exactly(), steps=budget // stages, silent=True, dtype=torch.float64, **options
    )
    (alpha, sigma), (last, noise) = (levels(torch.tensor(t, dtype=torch.float64)) for t in (1, 0))
    begin = float(sigma / alpha)
    z = sampler(arena.start(begin) * alpha)
    return z / last, begin, float(noise / last)


def contestants() -> list[Contestant]:
    """Return all of azula's contestants."""
    every = []
    for name in SAMPLERS:
        ends = (0.0, 0.002, 0.01) if name.startswith(INTO_ZERO) else (0.002, 0.01)
        for grid in ("vp", "flow", "karras 7", "karras 3", "exponential"):
            for lowest in ends:
                if grid == "exponential" and lowest == 0:
                    continue
                label = f"azula {name}, {grid}, σ_min {lowest:g}"
                every.append(Contestant(label, partial(walk, name, grid, lowest)))
        every.append(
            Contestant(f"azula {name}, vp, σ_min 0.001 [default]",
                       partial(walk, name, "vp", 0.001), True)
        )  # fmt: skip
    return every
