"""The weight of an error at each noise level, stated once as a function of log-SNR.

A weight is w(λ)·‖error‖² in the lens in which it was published. At fixed x_t the errors of two
lenses are proportional, det(a)/det(b), so the same weight on a network's own lens is
w(λ)·(det(base)/det(own))²: every weight works with every network.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InvalidArgument, unknown
from ..fields import determinant
from ..paths import GaussianPath


def lens_factor(path: GaussianPath, source: str, target: str, t: Tensor | float) -> Tensor:
    """Return the factor from a loss in lens `source` to the same model's loss in lens `target`.

    ‖error in target‖² = (det(target)/det(source))²·‖error in source‖² for any two predictions at
    the same x_t and t; same shape as t. From ε: 1/SNR to x0, 1/σ² to score; infinite or zero where
    one lens does not determine the other.
    """
    return (determinant(path, target, t) / determinant(path, source, t)) ** 2


@dataclass(frozen=True)
class Weight:
    """w(λ)·‖error in lens `base`‖²; `rule` gives w from λ and the parameter."""

    name: str
    base: str
    rule: Callable[[Tensor, float], Tensor]
    parameter: float = 0.0

    def on(self, lens: str, path: GaussianPath, t: Tensor) -> Tensor:
        """Return the factor of the squared error of `lens`; same shape as t."""
        if self.name == "likelihood":  # −λ̇·(α/det)² with −λ̇ = W/(ασ): finite where α = 0
            turn = determinant(path, "velocity", t) / path.sigma(t)
            if lens == "eps":
                return turn / path.alpha(t)
            return turn * path.alpha(t) / determinant(path, lens, t) ** 2
        value = self.rule(path.log_snr(t), self.parameter)
        if lens == self.base:
            return value
        return value * lens_factor(path, lens, self.base, t)


def _one(lam: Tensor, _: float) -> Tensor:
    return torch.ones_like(lam)


# name: (base lens, w(λ, parameter), default parameter or None, what it is)
_WEIGHTS: dict[str, tuple[str, Callable[[Tensor, float], Tensor], float | None]] = {
    "simple": ("eps", _one, None),  # Ho et al. 2020
    "snr": ("x0", lambda lam, _: (2 * lam).exp(), None),  # the same, on x0
    "x0": ("x0", _one, None),
    "v": ("v", _one, None),  # SNR + 1 on x0 (Salimans & Ho 2022)
    "velocity": ("velocity", _one, None),  # flow matching
    "score": ("score", _one, None),  # the Fisher divergence (Hyvärinen 2005, Vincent 2011)
    "truncated_snr": ("x0", lambda lam, _: (2 * lam).exp().clamp(min=1), None),
    "min_snr": ("x0", lambda lam, gamma: (2 * lam).exp().clamp(max=gamma), 5.0),  # Hang 2023
    "edm": ("x0", lambda lam, std: (2 * lam).exp() + std**-2, 0.5),  # Karras et al. 2022
    "sigmoid": ("eps", lambda lam, bias: torch.sigmoid(bias - 2 * lam), 0.0),  # Kingma & Gao 2023
    "likelihood": ("eps", _one, None),  # −dλ/dt: the variational bound (Kingma et al. 2021)
}
NAMES = tuple(_WEIGHTS)


def weight(name: str, parameter: float | None = None) -> Weight:
    """Return a weight by name: a factor on the error at the sampled times.

    Papers that state w per unit of log-SNR (Kingma & Gao 2023) mean this times −dλ/dt under
    uniform times; `sigmoid` is their function without that rate. `parameter` is γ of min_snr, the
    data's deviation of edm, the bias of sigmoid.

    Raises InvalidArgument for an unknown name, or a parameter that the weight does not have.
    """
    if name not in _WEIGHTS:
        raise unknown("weight", name, _WEIGHTS)
    base, rule, default = _WEIGHTS[name]
    if parameter is not None and default is None:
        raise InvalidArgument(f"weight {name!r} has no parameter; leave {parameter!r} out")
    value = default if parameter is None else parameter
    if value is not None and (
        not math.isfinite(value) or (value <= 0 and name in ("min_snr", "edm"))
    ):
        raise InvalidArgument(f"parameter of weight {name!r} is {value!r}; give a positive number")
    return Weight(name, base, rule, 0.0 if value is None else value)
