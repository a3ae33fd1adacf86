"""The variational bound on log p(x0), term by term (Ho et al. 2020; Kingma et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InvalidArgument, NonFinite, need_count
from ..fields import Field, Prediction, conversion, residual
from ..paths import GaussianPath, expand
from ..randomness import Streams
from .decoder import Levels, gaussian_nll, level_nll
from .steps import ReverseSteps, check_variance, fraction_of, need_independent
from .value import Likelihood


@dataclass(frozen=True)
class Bound:
    """−log p(x0) ≤ prior + Σ diffusion + reconstruction, each in nats.

    prior: (batch,) KL(q(x_1|x0) ‖ p(x_1)). diffusion: (batch, k), whose sum over k is the KL of all
    steps: each step's own if every step was taken, else the shares of a Monte Carlo sum. t: (batch,
    k) the noisier time of each. reconstruction: (batch,) −log p(x0|x_1). likelihood: minus the sum
    of all, of kind "bound".
    """

    prior: Tensor
    diffusion: Tensor
    t: Tensor
    reconstruction: Tensor
    likelihood: Likelihood

    def by_level(self, bins: int = 10) -> list[tuple[float, float, float]]:
        """Return (t from, t to, nats) of the diffusion term in even bins of t.

        The nats are means over the samples.
        """
        need_count("bins", bins)
        which = (self.t * bins).ceil().long().sub(1).clamp(0, bins - 1)
        sums = torch.zeros(bins, dtype=torch.float64)
        sums.index_add_(0, which.flatten(), self.diffusion.double().flatten())
        mean = (sums / len(self.prior)).tolist()
        return [(i / bins, (i + 1) / bins, mean[i]) for i in range(bins)]

    @staticmethod
    def cat(parts: list[Bound]) -> Bound:
        """Return the bounds of the batches of a data set as one."""
        return Bound(
            torch.cat([part.prior for part in parts]),
            torch.cat([part.diffusion for part in parts]),
            torch.cat([part.t for part in parts]),
            torch.cat([part.reconstruction for part in parts]),
            Likelihood.cat([part.likelihood for part in parts]),
        )


@torch.no_grad()
def variational_bound(
    field: Field,
    x0: Tensor,
    noise: Streams,
    *,
    grid: Tensor | list[float] | int | None = None,
    variance: str = "posterior",
    levels: Levels | None = None,
    decoder_variance: float | None = None,
    strata: int | None = None,
    repeats: int | None = None,
    data_std: float = 1.0,
) -> Bound:
    """Return the bound of a chain of steps: L_T + Σ L_{n−1} + L_0 (Ho et al. 2020, eq. 5).

    L_{n−1} = KL(q(x_{n−1}|x_n, x0) ‖ p(x_{n−1}|x_n)) of two Gaussians, for any field of any lens;
    `ReverseSteps` gives the variances. grid: decreasing times, or a number of even ones; by default
    every step of the field's chain. x0: (batch, *event). levels: the values that x0 can take, for
    the discretised decoder; None for the density of continuous data. decoder_variance replaces that
    of p(x0|x_1). Each term is taken at `repeats` draws of ε (1). With `strata` the sum over n is a
    Monte Carlo sum: n drawn `repeats` times (2) in each of that many equal shares of the steps. Two
    repeats or more give a standard error. data_std: of the prior N(0, σ² + α²·data_std²).

    Raises InvalidArgument for impossible settings, Unsupported for a learned variance that the
    field does not have or a lens that does not determine x0, NonFinite if a term is not finite.
    """
    check_variance(variance)
    steps = ReverseSteps.of(field.path, grid)
    inner = steps.count - steps.first + 1
    if strata is not None and need_count("strata", strata) > inner:
        raise InvalidArgument(
            f"{strata} strata of {inner} steps; give no more, or None to take every step"
        )
    repeats = need_count("repeats", (1 if strata is None else 2) if repeats is None else repeats)
    states, clock = _NoisyStates(field, x0, noise, levels), noise.purpose("times")
    terms, times = [], []
    for stratum in range(inner if strata is None else strata):
        for _ in range(repeats):
            n: int | Tensor
            if strata is None:
                n, share = steps.first + stratum, 1.0
            else:
                u = (stratum + clock.uniform().double()) / strata
                n, share = steps.first + (u * inner).long().clamp(max=inner - 1), inner / strata
            t = steps.t[n]
            prediction, error = states.errors(t)
            value = steps.kl(n, error, fraction_of(variance, prediction)).flatten(1).sum(1)
            terms.append(value * (share / repeats))
            times.append(t.expand(len(x0)))
    time = steps.decoder[0]

    def log_variance(prediction: Prediction) -> Tensor | float:
        if decoder_variance is not None:
            return math.log(_positive("decoder_variance", decoder_variance))
        return steps.decoder_log_variance(fraction_of(variance, prediction))

    decoded = [states.decode(time, log_variance) for _ in range(repeats)]
    prior = prior_kl(field.path, x0, steps.times[-1], data_std)
    return states.bound(prior, terms, times, decoded, repeats)


@torch.no_grad()
def continuous_bound(
    field: Field,
    x0: Tensor,
    noise: Streams,
    *,
    start: float = 1.0,
    end: float | None = None,
    levels: Levels | None = None,
    decoder_variance: float | None = None,
    strata: int = 64,
    repeats: int = 2,
    data_std: float = 1.0,
) -> Bound:
    """Return the bound of infinitely many steps on any path (Kingma et al. 2021, eq. 11).

    KL(q(x_start|x0) ‖ p) + ∫ −(dλ/dt)·E‖ε − ε̂‖² dt from `end` to `start` + −log p(x0|x_end), where
    λ = log(α/σ), so that −dλ/dt·‖ε − ε̂‖² = −½·dSNR/dt·‖x0 − x̂0‖². The integral is a Monte Carlo
    sum of `repeats` draws in each of `strata` even shares of log(1 + α/σ), the measure in which its
    integrand is bounded. The decoder has mean x̂0(x_end) and variance σ²/α² there, or
    `decoder_variance`; `end` is by default the time of σ/α = 1e-3, or 0 if the path never reaches
    that. The other arguments and the errors are those of `variational_bound`.
    """
    path = field.path
    need_independent(path)
    need_count("strata", strata)
    need_count("repeats", repeats)
    if end is None:
        end = (
            0.0 if float(path.log_snr(0.0)) < -math.log(1e-3) else float(path.time(-math.log(1e-3)))
        )
    if not 0 <= end < start <= 1:
        raise InvalidArgument(f"a bound from {start!r} to {end!r}; need 0 ≤ end < start ≤ 1")
    if float(path.sigma(end)) == 0:
        raise InvalidArgument(
            f"the continuous bound cannot end at t = {end!r}, where no noise is left; end where "
            "the decoder takes over, such as end=None"
        )
    states, clock = _NoisyStates(field, x0, noise, levels), noise.purpose("times")
    low, high = (math.log1p(math.exp(float(path.log_snr(t)))) for t in (start, end))
    terms, times = [], []
    for stratum in range(strata):
        for _ in range(repeats):
            u = (stratum + clock.uniform().double()) / strata
            y = low + (high - low) * (1 - u)  # never log 1 = 0, where α = 0
            log_snr = y + (-torch.expm1(-y)).log()
            t = path.time(log_snr).clamp(end, start)
            _, error = states.errors(t)
            # dλ = dy·(1 + e^−λ); error of x0 times SNR is that of ε
            size = (2 * log_snr).exp() * (1 + (-log_snr).exp())
            value = expand(size, error) * error
            terms.append(value.flatten(1).sum(1) * ((high - low) / (strata * repeats)))
            times.append(t)
    wide = -2 * float(path.log_snr(end))
    if decoder_variance is not None:
        wide = math.log(_positive("decoder_variance", decoder_variance))
    decoded = [states.decode(end, lambda prediction: wide) for _ in range(repeats)]
    return states.bound(prior_kl(path, x0, start, data_std), terms, times, decoded, repeats)


def prior_kl(path: GaussianPath, x0: Tensor, t: float = 1.0, data_std: float = 1.0) -> Tensor:
    """Return KL(q(x_t|x0) ‖ N(0, σ² + α²·data_std²)) of each sample, (batch,), in nats.

    The second distribution is the start of sampling (`GaussianPath.prior`). The KL is 0 if α(t) =
    0.
    """
    alpha, sigma = float(path.alpha(t)), float(path.sigma(t))
    ratio = sigma**2 / (sigma**2 + (alpha * data_std) ** 2)
    mean = (alpha * x0.double()).square() / (sigma**2 + (alpha * data_std) ** 2)
    return 0.5 * (ratio - 1 - math.log(ratio) + mean).flatten(1).sum(1)


class _NoisyStates:
    """A field evaluated at noisy states of given data, with the count of evaluations."""

    def __init__(self, field: Field, x0: Tensor, noise: Streams, levels: Levels | None) -> None:
        if x0.ndim < 2 or not len(x0):
            raise InvalidArgument(
                f"x0 of shape {tuple(x0.shape)}; give at least one sample, (batch, *event)"
            )
        self.field, self.x0, self.noise, self.levels = field, x0, noise, levels
        self.exact = x0.double()
        self.nfe = 0
        if levels is not None:
            levels.index(self.exact)

    def _predict(self, t: Tensor) -> tuple[Prediction, Tensor]:
        eps = self.noise.normal(*self.x0.shape[1:]).to(self.x0)
        prediction = self.field(self.field.path.diffuse(self.x0, eps, t), t)
        self.nfe += prediction.nfe
        return prediction, eps

    def errors(self, t: Tensor) -> tuple[Prediction, Tensor]:
        """Return (the field's prediction at time t, (x0 − x̂0)² in float64)."""
        prediction, eps = self._predict(t)
        return prediction, squared_error(prediction, self.exact, eps.double(), t)

    def decode(self, t: float, log_variance: Callable[[Prediction], Tensor | float]) -> Tensor:
        """Return −log p(x0|x_t), (batch,)."""
        time = torch.tensor(t, dtype=torch.float64)
        prediction, _ = self._predict(time)
        mean, spread = prediction.x0.double(), log_variance(prediction)
        if self.levels is None:
            return gaussian_nll(self.exact, mean, spread).flatten(1).sum(1)
        return level_nll(self.exact, mean, spread, self.levels).flatten(1).sum(1)

    def bound(
        self,
        prior: Tensor,
        terms: list[Tensor],
        times: list[Tensor],
        decoded: list[Tensor],
        repeats: int,
    ) -> Bound:
        """Return the sum of all terms as a Bound, with its standard error for two repeats or more.

        Raises NonFinite if the bound of a sample is not finite.
        """
        diffusion = torch.stack([*terms], 1) if terms else self.exact.new_zeros(len(self.x0), 0)
        reconstruction = torch.stack(decoded, 1)
        error = None
        if repeats > 1:
            # shares of a stratum, times `repeats`, are independent values of the same quantity
            inside = (diffusion * repeats).unflatten(1, (-1, repeats)) if terms else None
            variance = reconstruction.var(1) / repeats
            if inside is not None:
                variance = variance + (inside.var(2) / repeats).sum(1)
            error = variance.sqrt()
        t = torch.stack([*times], 1) if times else diffusion.clone()
        total = prior + diffusion.sum(1) + reconstruction.mean(1)
        bad = ~torch.isfinite(total)
        if bool(bad.any()):
            raise NonFinite(
                f"the bound of sample {int(bad.nonzero()[0])} of {len(bad)} is not finite; the "
                "field's predictions of it are at "
                "fault: inspect field(x_t, t) for this sample"
            )
        likelihood = Likelihood(-total, "bound", math.prod(self.x0.shape[1:]), error, nfe=self.nfe)
        return Bound(prior, diffusion, t, reconstruction.mean(1), likelihood)


def squared_error(prediction: Prediction, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """Return (x0 − x̂0)² of each number, from the field's error in its own lens.

    Never a difference of two large numbers where x0 and x̂0 are close: with the lens a·x0 + b·ε and
    x0 = c·x_t + d·(lens), the error of x0 is d times that of the lens.
    """
    path, lens = prediction.path, prediction.lens
    _, on_value = conversion(path, lens, "x0", t)
    miss = residual(path, lens, prediction.value.to(x0.dtype), x0, eps, t)
    return (expand(on_value, x0) * miss).square()


def _positive(name: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise InvalidArgument(f"{name} is {value!r}; give a positive number")
    return value
