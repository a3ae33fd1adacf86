"""Fields known in closed form: Gaussian, Gaussian mixture, finite data set.

Each gives x0 = E[x0 | x_t], log p_t(x) and exact samples of p_t at every t; its score is that of
the Prediction. Densities are over the whole event, in nats.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import InvalidArgument
from ..paths import GaussianPath, as_time, expand
from ..randomness import Streams
from .field import Conditions, Field, Prediction

LOG_2PI = math.log(2 * math.pi)


class Gaussian(Field):
    """x0 ~ N(mean, covariance): E[x0|x] = m + αΣ(α²Σ + σ²)⁻¹(x − αm).

    mean: (*event); covariance: a variance, variances (*event), or a matrix (d, d) over the
    flattened event. With variances every operation is elementwise.
    """

    def __init__(self, mean: Tensor, covariance: Tensor | float, path: GaussianPath) -> None:
        covariance = torch.as_tensor(covariance, dtype=mean.dtype)
        self.path, self.mean = path, mean
        self.basis: Tensor | None = None
        if covariance.ndim == 2 and covariance.shape == (mean.numel(),) * 2 != mean.shape:
            if not torch.allclose(covariance, covariance.T):
                raise InvalidArgument("a covariance matrix must be symmetric; this one is not")
            values, self.basis = torch.linalg.eigh(covariance)
            rounding = 1e-5 if values.dtype == torch.float32 else 1e-10
            self.variance = torch.where(values.abs() <= rounding * values.max(), 0.0, values)
        elif covariance.shape in ((), mean.shape):
            self.variance = covariance.expand(mean.shape)
        else:
            raise InvalidArgument(
                f"a covariance of shape {tuple(covariance.shape)} for a mean of shape "
                f"{tuple(mean.shape)}; give one variance, one per number, or a square matrix"
            )
        if bool((self.variance < 0).any()):
            raise InvalidArgument(
                f"a variance is negative, {float(self.variance.min())!r}; give variances ≥ 0"
            )

    def _turn(self, x: Tensor) -> Tensor:
        return x if self.basis is None else x.flatten(1) @ self.basis

    def _back(self, z: Tensor, shape: torch.Size) -> Tensor:
        return z if self.basis is None else (z @ self.basis.T).reshape(shape)

    def __call__(self, x_t: Tensor, t: Tensor, condition: Conditions = None) -> Prediction:
        times = as_time(t).double()
        alpha, sigma = (expand(c, x_t) for c in (self.path.alpha(times), self.path.sigma(times)))
        if self.basis is not None and alpha.ndim:
            alpha, sigma = alpha.reshape(-1, 1), sigma.reshape(-1, 1)
        total = alpha**2 * self.variance + sigma**2
        gain = alpha * self.variance / total.clamp(min=torch.finfo(total.dtype).tiny)
        mean = self.mean
        centred = x_t - expand(self.path.alpha(times), x_t) * mean
        x0 = mean + self._back(gain * self._turn(centred), x_t.shape)
        return Prediction(x_t, t, self.path, "x0", x0)

    def log_density(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Return log p_t(x), (batch,), in nats."""
        times = as_time(t).double()
        alpha, sigma = expand(self.path.alpha(times), x), expand(self.path.sigma(times), x)
        z = self._turn(x - alpha * self.mean)
        if self.basis is not None and alpha.ndim:
            alpha, sigma = alpha.reshape(-1, 1), sigma.reshape(-1, 1)
        variance = (alpha**2 * self.variance + sigma**2).expand(z.shape)
        return -0.5 * (z**2 / variance + variance.log() + LOG_2PI).flatten(1).sum(1)

    def sample(self, noise: Streams, t: float = 0.0) -> Tensor:
        """Draw exact samples of p_t, (n, *event)."""
        alpha, sigma = float(self.path.alpha(t)), float(self.path.sigma(t))
        draw = noise.normal(*self.mean.shape).to(self.mean.dtype)
        scale = (alpha**2 * self.variance + sigma**2).sqrt()
        z = scale * (draw.flatten(1) if self.basis is not None else draw)
        return alpha * self.mean + self._back(z, draw.shape)


class Mixture(Field):
    """A mixture of Gaussians: posterior weights times each component's own prediction.

    weights: (k,); means: (k, *event); covariance: one entry a component, each as for `Gaussian`.
    """

    def __init__(
        self, weights: Tensor, means: Tensor, covariances: Tensor | list, path: GaussianPath
    ) -> None:
        if len(weights) != len(means) or len(covariances) != len(means):
            raise InvalidArgument(
                f"{len(weights)} weights, {len(means)} means and {len(covariances)} covariances; "
                "give as many of each"
            )
        if bool((weights <= 0).any()):
            raise InvalidArgument("mixture weights must be positive")
        self.path = path
        self.log_weights = (weights / weights.sum()).log().to(means.dtype)
        self.parts = [
            Gaussian(mean, covariance, path)
            for mean, covariance in zip(means, covariances, strict=True)
        ]

    def _joint(self, x: Tensor, t: Tensor | float) -> Tensor:
        parts = torch.stack([part.log_density(x, t) for part in self.parts], 1)
        return parts + self.log_weights

    def __call__(self, x_t: Tensor, t: Tensor, condition: Conditions = None) -> Prediction:
        share = self._joint(x_t, t).softmax(1)
        answers = torch.stack([part(x_t, t).value for part in self.parts], 1)
        x0 = (share.reshape(*share.shape, *(1,) * (x_t.ndim - 1)) * answers).sum(1)
        return Prediction(x_t, t, self.path, "x0", x0)

    def log_density(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Return log p_t(x), (batch,), in nats."""
        return self._joint(x, t).logsumexp(1)

    def sample(self, noise: Streams, t: float = 0.0) -> Tensor:
        """Draw exact samples of p_t, (n, *event)."""
        edges = self.log_weights.exp().cumsum(0)[:-1].contiguous()
        which = torch.searchsorted(edges, noise.uniform().to(edges.dtype), right=True)
        every = torch.stack([part.sample(noise.rewound(noise.mark()), t) for part in self.parts])
        noise.normal(*every.shape[2:])
        return every[which, torch.arange(len(which))]


class FiniteData(Field):
    """The ideal denoiser of a data set: E[x0|x] = Σ wᵢxᵢ, w = softmax(−‖x − αxᵢ‖²/2σ²).

    points: (n, *event). A network of unlimited capacity would learn this field, whose samples are
    the points alone. Raises InvalidArgument at σ = 0, where x0 is not a function of x.
    """

    def __init__(self, points: Tensor, path: GaussianPath) -> None:
        if len(points) == 0:
            raise InvalidArgument("an empty data set has no ideal denoiser")
        self.path, self.points = path, points
        self._flat = points.flatten(1)

    def _exponents(self, x: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor]:
        times = as_time(t).double().to(x.device)
        alpha = expand(self.path.alpha(times), x).reshape(-1, 1)
        sigma = expand(self.path.sigma(times), x).reshape(-1, 1)
        if bool((sigma == 0).any()):
            raise InvalidArgument("the ideal denoiser is not defined at σ = 0; stop before t = 0")
        centre = self._flat.mean(0)  # distances between centred points lose fewer digits
        z, points = x.flatten(1) - alpha * centre, self._flat - centre
        square = (z**2).sum(1, True) - 2 * alpha * (z @ points.T) + alpha**2 * (points**2).sum(1)
        return -0.5 * square / sigma**2, sigma

    def __call__(self, x_t: Tensor, t: Tensor, condition: Conditions = None) -> Prediction:
        x0 = self._exponents(x_t, t)[0].softmax(1) @ self._flat
        return Prediction(x_t, t, self.path, "x0", x0.reshape(x_t.shape))

    def log_density(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Return log p_t(x), (batch,), in nats.

        p_t is a mixture of n equal Gaussians of deviation σ(t).
        """
        exponents, sigma = self._exponents(x, t)
        size = self._flat.shape[1]
        level = size * (sigma.flatten().log() + 0.5 * LOG_2PI) + math.log(len(self.points))
        return exponents.logsumexp(1) - level

    def sample(self, noise: Streams, t: float = 0.0) -> Tensor:
        """Draw exact samples of p_t, (n, *event)."""
        which = noise.integers(len(self.points))
        draw = noise.normal(*self.points.shape[1:]).to(self.points.dtype)
        return float(self.path.alpha(t)) * self.points[which] + float(self.path.sigma(t)) * draw
