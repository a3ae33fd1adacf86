"""Claims about the motion of densities."""

from __future__ import annotations

import torch

from unnoise.fields import Field, Gaussian, dynamics
from unnoise.paths import EDM, VE, Chain, Cosine, Flow, GaussianPath, SubVP, Trigonometric, VPLinear
from unnoise.randomness import Streams

from .claim import Finding
from .registry import claim
from .worlds import F64, exactly, ring

PATHS: list[GaussianPath] = [
    VPLinear(), SubVP(), Cosine(), VE(), EDM(), Flow(), Trigonometric(), Chain.linear().as_path(),
]  # fmt: skip
TIMES = torch.tensor([0.0437, 0.2113, 0.5057, 0.7831, 0.9713], dtype=F64)


def worst(equation) -> dict[str, float]:
    """Return the largest relative residual of an equation on every path.

    The data are a mixture and a Gaussian.
    """
    found = {"mixture": 0.0, "Gaussian": 0.0}
    for path in PATHS:
        fields: dict[str, Field] = {
            "mixture": ring(path),
            "Gaussian": Gaussian(torch.tensor([0.5, -1.0, 2.0], dtype=F64), 0.3, path),
        }
        for name, field in fields.items():
            event = 2 if name == "mixture" else 3
            size = (path.alpha(TIMES) ** 2 + path.sigma(TIMES) ** 2).sqrt()
            x = size[:, None] * Streams(0, range(len(TIMES))).normal(event).double()
            left = float(equation(field, x, TIMES).relative.max())
            found[name] = max(found[name], left)
    return {f"largest relative residual on {len(PATHS)} paths, {k}": v for k, v in found.items()}


@claim(
    "dynamics",
    "Song et al. 2021b; Lai et al. 2025, ch. 4",
    "The densities of x_t = α·x0 + σ·ε solve the Fokker–Planck equation of dx = f·x dt + g dw, "
    "f = α̇/α, g² = 2σ(σ̇ − σ·α̇/α).",
)
def fokker_planck_holds() -> Finding:
    found = worst(dynamics.fokker_planck)
    return exactly(found, max(found.values()), "The equation does not hold.")


@claim(
    "dynamics",
    "Song et al. 2021b, eq. 13",
    "The same densities are carried by a deterministic equation, the probability-flow ODE.",
)
def the_flow_carries_the_densities() -> Finding:
    found = worst(dynamics.continuity)
    return exactly(found, max(found.values()), "The continuity equation does not hold.")


@claim(
    "dynamics",
    "Anderson 1982; Song et al. 2021b; Karras et al. 2022, app. B",
    "Every diffusion SDE has an exact reverse-time SDE that needs only the score; so does every "
    "mixture η of it with the ODE.",
)
def anderson_reverses_time() -> Finding:
    found = {}
    for eta in (0.5, 1.0, 2.0):
        left = worst(lambda field, x, t, eta=eta: dynamics.reverse_sde(field, x, t, eta))
        found[f"η = {eta:g}: largest relative residual"] = max(left.values())
    return exactly(found, max(found.values()), "The reverse SDE has other marginals.")
