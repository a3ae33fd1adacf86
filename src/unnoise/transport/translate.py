"""Translation from source to data along a field, and back, by a flow or a diffusion."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ..errors import InvalidArgument, Unsupported
from ..fields import Field
from ..fields.field import Conditions
from ..solvers.adaptive import integrate
from ..solvers.solver import Noise
from .interpolant import BridgeField

VelocityField = Field | BridgeField
Diffusion = Callable[[Tensor], Tensor] | float


@torch.no_grad()
def translate(
    field: VelocityField,
    x: Tensor,
    grid: Tensor | Sequence[float],
    tableau: str = "rk4",
    condition: Conditions = None,
) -> Tensor:
    """Carry x from grid[0] to grid[-1] by dx/dt = velocity: (batch, *event) to the same.

    A falling grid, 1 to 0, takes source samples to data; a rising one, 0 to 1, data to source
    (their encoding). field: any Field or BridgeField. The order is the tableau's. Raises
    InvalidArgument for a bad grid or tableau, and the field's error if it has no velocity.
    """
    return integrate(lambda s, t: (field(s[0], t, condition).velocity,), (x,), grid, tableau)[0]


@torch.no_grad()
def diffuse(
    field: BridgeField,
    x: Tensor,
    grid: Tensor | Sequence[float],
    noise: Noise,
    diffusion: Diffusion = 1.0,
    condition: Conditions = None,
) -> Tensor:
    """Carry x from grid[0] to grid[-1] by an SDE with the interpolant's marginals.

    Forward in time dx = (b + ε·s)dt + √(2ε)dw, backward dx = (b − ε·s)dt + √(2ε)dw̄, with velocity
    b, score s and any ε(t) ≥ 0 (Albergo et al. 2023, section 2); Euler–Maruyama, weak order 1.
    diffusion: a number c for ε = c·γ(t), which needs no score where γ = 0, or a function of t.
    noise: draws (batch, *event) a step. Raises InvalidArgument for an ε that is negative,
    Unsupported if the interpolant has no latent, or ε/γ is infinite at a time stepped from.
    """
    path = field.interpolant
    if path.latent == "none":
        raise Unsupported(f"{path} has no latent, so it has no score; use translate, its flow")
    times = torch.as_tensor(grid, dtype=torch.float64)
    gaps = times.diff()
    if not len(gaps) or not (bool((gaps > 0).all()) or bool((gaps < 0).all())):
        raise InvalidArgument(f"times {times.tolist()}; give two or more that rise, or that fall")
    for start, end in pairwise(times.unbind()):
        size, gamma = float(end - start), float(path.gamma(start))
        if callable(diffusion):
            level = float(diffusion(start))
            share = level / gamma if gamma else (math.inf if level else 0.0)
        else:
            level, share = diffusion * gamma, diffusion
        if not level >= 0:
            raise InvalidArgument(f"ε({float(start):g}) is {level!r}; give a function ≥ 0")
        if not math.isfinite(share):
            raise Unsupported(
                f"ε/γ is infinite at t = {float(start):g}, where γ = 0; give a number c for "
                "ε = c·γ, or a grid that starts inside"
            )
        prediction = field(x, start, condition)
        step = x + size * prediction.velocity - abs(size) * share * prediction.z
        if level:
            draw = noise.normal(*x.shape[1:]).to(device=x.device, dtype=x.dtype)
            step = step + math.sqrt(2 * level * abs(size)) * draw
        x = step
    return x
