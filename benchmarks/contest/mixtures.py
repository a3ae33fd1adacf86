"""The contest's data: mixtures whose denoiser is exact, fast, and the same for every contestant."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from unnoise.fields import Field, Mixture, Prediction
from unnoise.paths import GaussianPath, as_time

F64 = torch.float64


@dataclass(frozen=True)
class Problem:
    """A mixture Σ wₖ·N(mₖ, Q·diag(vₖ)·Qᵀ) with one basis Q.

    Weights (k,), means and variances (k, d), the means in that basis.
    """

    name: str
    about: str
    weights: Tensor
    means: Tensor
    variances: Tensor
    basis: Tensor

    @property
    def dim(self) -> int:
        """The dimension d."""
        return self.means.shape[1]

    @property
    def rms(self) -> float:
        """√(E‖x‖²/d), the scale of the data."""
        square = (self.means**2 + self.variances).sum(1)
        return math.sqrt(float(self.weights @ square) / self.dim)

    def shares(self, z: Tensor, ratio: float) -> Tensor:
        """Return the posterior share of each component at z = x0 + ratio·ε, (batch, k)."""
        turned = z @ self.basis
        inverse = 1 / (self.variances + ratio**2)
        square = (
            turned**2 @ inverse.T
            - 2 * turned @ (self.means * inverse).T
            + (self.means**2 * inverse).sum(1)
        )
        return (self.weights.log() + 0.5 * (inverse.log().sum(1) - square)).softmax(1)

    def denoise(self, z: Tensor, ratio: float) -> Tensor:
        """Return E[x0 | z], z = x0 + ratio·ε, (batch, d)."""
        shares = self.shares(z, ratio)
        gain = self.variances / (self.variances + ratio**2)
        turned = (z @ self.basis) * (shares @ gain) + shares @ (self.means * (1 - gain))
        return turned @ self.basis.T

    def solve(self, z: Tensor, start: float, ends: list[float], tolerance: float) -> list[Tensor]:
        """Solve dz/dr = (z − E[x0|z])/r from `start` to each of `ends` by DOP853, in asinh(r/c)."""
        c = 0.05 * self.rms

        def rate(u: float, flat: np.ndarray) -> np.ndarray:
            r = c * math.sinh(u)
            state = torch.from_numpy(flat).reshape(z.shape)
            near = max(r, 1e-8)  # ε is smooth there: its limit to fourteen digits
            eps = (state - self.denoise(state, near)) / near
            return (eps * (c * math.cosh(u))).numpy().ravel()

        order = sorted(ends, reverse=True)
        solved = solve_ivp(
            rate,
            (math.asinh(start / c), math.asinh(order[-1] / c)),
            z.numpy().ravel(),
            method="DOP853",
            t_eval=[math.asinh(e / c) for e in order],
            rtol=tolerance,
            atol=tolerance,
        )
        found = {
            e: torch.from_numpy(y.copy()).reshape(z.shape)
            for e, y in zip(order, solved.y.T, strict=True)
        }
        return [found[e] for e in ends]


class Exact(Field):
    """A Problem as a field on any path: the same as `fields.Mixture`, but faster."""

    def __init__(self, problem: Problem, path: GaussianPath) -> None:
        self.problem, self.path = problem, path

    def __call__(self, x_t: Tensor, t: Tensor, condition=None) -> Prediction:
        time = as_time(t).double()
        alpha, sigma = float(self.path.alpha(time)), float(self.path.sigma(time))
        if alpha == 0:
            return Prediction(x_t, t, self.path, "x0", self.mean.expand_as(x_t))
        x0 = self.problem.denoise(x_t / alpha, sigma / alpha)
        return Prediction(x_t, t, self.path, "x0", x0)

    @property
    def mean(self) -> Tensor:
        return (self.problem.weights @ self.problem.means) @ self.problem.basis.T

    def check(self, states: Tensor, ratio: float) -> float:
        """Return the largest difference from `fields.Mixture` at these states."""
        p = self.problem
        basis = p.basis
        slow = Mixture(
            p.weights, p.means @ basis.T, [(basis * v) @ basis.T for v in p.variances], self.path
        )
        t = self.path.time(-math.log(ratio))
        x = states * float(self.path.alpha(t))
        return float((slow(x, t).x0 - self(x, t).x0).abs().max())


def _turn(rng: np.random.Generator, dim: int) -> Tensor:
    return torch.from_numpy(np.linalg.qr(rng.normal(size=(dim, dim)))[0])


def _problem(name: str, about: str, weights, means, variances, basis: Tensor) -> Problem:
    as_tensor = lambda a: torch.as_tensor(np.asarray(a), dtype=F64)  # noqa: E731
    weights = as_tensor(weights)
    variances = as_tensor(variances).expand(len(weights), basis.shape[0]).contiguous()
    return Problem(name, about, weights / weights.sum(), as_tensor(means), variances, basis)


def problems() -> list[Problem]:
    """Return four mixtures; none of their parameters served to choose a default of ours."""
    rng = np.random.default_rng(2025)
    angle = np.arange(8) * math.pi / 4 + 0.1
    ring = _problem(
        "ring",
        "2-D, 8 equal components of deviation 0.12 on a circle of radius 1",
        np.ones(8),
        np.stack([np.cos(angle), np.sin(angle)], 1),
        0.12**2,
        torch.eye(2, dtype=F64),
    )
    spread = 0.9 * 0.02 ** (np.arange(64) / 63)
    anisotropic = _problem(
        "anisotropic",
        "64-D, 5 components, deviations 0.9 … 0.018 along turned axes, means among them",
        [0.3, 0.25, 0.2, 0.15, 0.1],
        1.5 * rng.normal(size=(5, 64)) * spread,
        (0.6 * spread) ** 2,
        _turn(rng, 64),
    )
    unequal = _problem(
        "unequal",
        "8-D, weights 0.96 / 0.03 / 0.01, deviations 0.25 / 0.12 / 0.2",
        [0.96, 0.03, 0.01],
        [0.3 * rng.normal(size=8), *rng.normal(size=(2, 8))],
        np.array([[0.25], [0.12], [0.2]]) ** 2,
        _turn(rng, 8),
    )
    crowd = _problem(
        "crowd",
        "16-D, 24 components in a 3-D subspace, deviations 0.3 inside and 0.05 outside of it",
        rng.uniform(0.5, 1.5, size=24),
        np.concatenate([1.4 * rng.normal(size=(24, 3)), np.zeros((24, 13))], 1),
        np.array([0.3**2] * 3 + [0.05**2] * 13),
        _turn(rng, 16),
    )
    return [ring, anisotropic, unequal, crowd]
