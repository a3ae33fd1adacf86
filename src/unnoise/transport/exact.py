"""Interpolants known in closed form: the pair (x0, x1) is Gaussian, or a mixture of such pairs."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InvalidArgument
from ..fields.exact import LOG_2PI
from ..fields.field import Conditions
from ..paths import as_time
from ..randomness import Streams
from .interpolant import Bridge, BridgeField, Interpolant

Component = tuple[Tensor, Tensor, Tensor]


class GaussianPairs(BridgeField):
    """(x0, x1) ~ Σ wₖ·N(mₖ, Cₖ): E[α̇x0 + β̇x1 | x_t], E[z | x_t] and log p_t exactly.

    weights: (k,); means: (k, 2, d), the mean of x0 and of x1; covariances: (k, 2d, 2d), of x0 and
    x1 together, so that a block off the diagonal is their coupling. Events are vectors of d
    numbers. In a component x_t ~ N(αm₀ + βm₁, α²C₀₀ + β²C₁₁ + αβ(C₀₁ + C₁₀) + γ²I), and x0, x1, z
    are linear in x_t. Raises InvalidArgument for shapes that do not fit, or covariances that are
    not symmetric.
    """

    def __init__(
        self, weights: Tensor, means: Tensor, covariances: Tensor, interpolant: Interpolant
    ) -> None:
        k, d = len(weights), means.shape[-1]
        if means.shape != (k, 2, d) or covariances.shape != (k, 2 * d, 2 * d):
            raise InvalidArgument(
                f"means of shape {tuple(means.shape)} and covariances of shape "
                f"{tuple(covariances.shape)} for {k} weights; give (k, 2, d) and (k, 2d, 2d)"
            )
        if not torch.allclose(covariances, covariances.mT) or bool((weights <= 0).any()):
            raise InvalidArgument("covariances must be symmetric, and weights positive")
        self.interpolant, self.means, self.covariances = interpolant, means, covariances
        self.log_weights = (weights / weights.sum()).log().to(means.dtype)

    @staticmethod
    def independent(first: Component, second: Component, interpolant: Interpolant) -> GaussianPairs:
        """Return the field of independent x0 and x1.

        Each is given by (weights (k,), means (k, d), covariances (k, d, d)).
        """
        pairs = [(i, j) for i in range(len(first[0])) for j in range(len(second[0]))]
        return GaussianPairs(
            torch.stack([first[0][i] * second[0][j] for i, j in pairs]),
            torch.stack([torch.stack([first[1][i], second[1][j]]) for i, j in pairs]),
            torch.stack([torch.block_diag(first[2][i], second[2][j]) for i, j in pairs]),
            interpolant,
        )

    @staticmethod
    def optimal(
        mean0: Tensor, covariance0: Tensor, mean1: Tensor, covariance1: Tensor,
        interpolant: Interpolant,
    ) -> GaussianPairs:  # fmt: skip
        """Return the field of two Gaussians joined by optimal transport.

        x0 = m₀ + A(x1 − m₁), A = C₁^(−½)(C₁^½C₀C₁^½)^½C₁^(−½).
        """
        root = _power(covariance1, 0.5)
        inverse = _power(covariance1, -0.5)
        across = inverse @ _power(root @ covariance0 @ root, 0.5) @ inverse @ covariance1
        joint = torch.cat(
            [torch.cat([covariance0, across], 1), torch.cat([across.T, covariance1], 1)]
        )
        return GaussianPairs(
            torch.ones(1, dtype=mean0.dtype), torch.stack([mean0, mean1])[None],
            0.5 * (joint + joint.T)[None], interpolant,
        )  # fmt: skip

    def _coefficients(self, t: Tensor | float, rows: int) -> list[Tensor]:
        times = as_time(t).double()
        kinds = ("alpha", "beta", "gamma", "alpha_rate", "beta_rate")
        return [
            getattr(self.interpolant, kind)(times).to(self.means.dtype).expand(rows)
            for kind in kinds
        ]

    def _solved(self, x: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor]:
        """Return C_t⁻¹(x − μ_t) and log wₖ·N(x; μ_t, C_t) of every component.

        Shapes: (batch, k, d) and (batch, k).
        """
        d = self.means.shape[-1]
        alpha, beta, gamma = (c[:, None] for c in self._coefficients(t, len(x))[:3])
        a, b, g = (c[:, :, None, None] for c in (alpha, beta, gamma))
        c = self.covariances
        cross = c[:, :d, d:] + c[:, d:, :d]
        eye = torch.eye(d, dtype=x.dtype)
        total = a**2 * c[:, :d, :d] + b**2 * c[:, d:, d:] + a * b * cross + g**2 * eye
        mean = alpha[..., None] * self.means[:, 0] + beta[..., None] * self.means[:, 1]
        lower = torch.linalg.cholesky(total)
        off = (x[:, None] - mean)[..., None]
        solved = torch.cholesky_solve(off, lower)
        square = (off * solved).sum((-2, -1))
        level = 2 * lower.diagonal(dim1=-2, dim2=-1).log().sum(-1) + d * LOG_2PI
        return solved[..., 0], self.log_weights - 0.5 * (square + level)

    def __call__(self, x_t: Tensor, t: Tensor, condition: Conditions = None) -> Bridge:
        d = self.means.shape[-1]
        alpha, beta, gamma, alpha_rate, beta_rate = (
            c[:, None, None] for c in self._coefficients(t, len(x_t))
        )
        solved, logs = self._solved(x_t, t)
        share = logs.softmax(1)[..., None]
        c = self.covariances

        def mean_of(end: int) -> Tensor:
            rows = c[:, end * d : (end + 1) * d]
            on0 = torch.einsum("kij,bkj->bki", rows[:, :, :d], solved)
            on1 = torch.einsum("kij,bkj->bki", rows[:, :, d:], solved)
            return self.means[:, end] + alpha * on0 + beta * on1

        drift = alpha_rate * mean_of(0) + beta_rate * mean_of(1)
        z = gamma * solved
        return Bridge(x_t, t, self.interpolant, (share * drift).sum(1), (share * z).sum(1))

    def log_density(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Return log p_t(x), (batch,), in nats."""
        return self._solved(x, t)[1].logsumexp(1)

    def sample(self, noise: Streams) -> tuple[Tensor, Tensor]:
        """Draw exact pairs (x0, x1), each (n, d)."""
        d = self.means.shape[-1]
        edges = self.log_weights.exp().cumsum(0)[:-1].contiguous()
        which = torch.searchsorted(edges, noise.uniform().to(edges.dtype), right=True)
        draw = noise.normal(2 * d).to(self.means.dtype)
        roots = torch.stack([_power(c, 0.5) for c in self.covariances])
        pairs = self.means.flatten(1)[which] + torch.einsum("bij,bj->bi", roots[which], draw)
        return pairs[:, :d], pairs[:, d:]


def _power(matrix: Tensor, exponent: float) -> Tensor:
    values, basis = torch.linalg.eigh(matrix)
    return (basis * values.clamp(min=0) ** exponent) @ basis.T
