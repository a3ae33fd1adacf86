"""The steps of a variational bound: every Gaussian between neighbouring times of a path."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..errors import InvalidArgument, Unsupported, unknown
from ..fields import Prediction
from ..paths import ChainPath, GaussianPath, grids

VARIANCES = ("posterior", "transition", "learned")


@dataclass(frozen=True)
class ReverseSteps:
    """Times t_0 < t_1 < … < t_T of a path, and the reverse step t_n → t_{n−1} of each n = 1..T.

    With s = t_{n−1}, t = t_n: β = σ_t² − (α_t/α_s)²σ_s² the transition's variance, β̃ = β·σ_s²/σ_t²
    that of q(x_s|x_t, x0). The model's step has variance Σ = exp(v·log β + (1−v)·log β̃) with the
    fraction v: 0 "posterior", 1 "transition", or "learned", the field's own (Nichol & Dhariwal
    2021, eq. 15). On a chain these are its β_n and β̃_n; on part of a chain those of the longer
    steps.

    If σ(t_0) = 0 the step n = 1 is the decoder p(x0|x_1), of mean x̂0 and a variance between β_1
    and, for β̃_1 = 0, β̃_2; otherwise the decoder is at t_0, of variance σ²/α² there.
    """

    path: GaussianPath
    times: tuple[float, ...]

    @staticmethod
    def of(path: GaussianPath, grid: Tensor | list[float] | int | None = None) -> ReverseSteps:
        """Return the steps of a decreasing grid, of a number of even steps, or (None) of a chain.

        Raises InvalidArgument if there is no grid and the path is no chain, Unsupported if ε
        depends on x0.
        """
        need_independent(path)
        if isinstance(grid, int):
            grid = grids.uniform(grid)
        if grid is None:
            if not isinstance(path, ChainPath):
                raise InvalidArgument(
                    f"the steps of a bound on {path}, which is no chain; say how many, or give a "
                    "grid of times, or use the continuous bound"
                )
            grid = grids.trailing(path, path.chain.steps)
        return ReverseSteps(path, tuple(reversed(grids.check(grid).tolist())))

    @property
    def count(self) -> int:
        """The number of steps T."""
        return len(self.times) - 1

    @cached_property
    def t(self) -> Tensor:
        """The times t_0 … t_T, float64."""
        return torch.tensor(self.times, dtype=torch.float64)

    @property
    def decodes_first(self) -> bool:
        """Whether step 1 is the decoder, since there is no noise left at t_0."""
        return float(self.path.sigma(self.times[0])) == 0

    @property
    def first(self) -> int:
        """The first step that is a KL divergence."""
        return 2 if self.decodes_first else 1

    @cached_property
    def _log_snr(self) -> Tensor:
        return self.path.log_snr(self.t)

    @cached_property
    def signal(self) -> Tensor:
        """SNR(t_{n−1}) − SNR(t_n) at n; infinite at n = 1 of a decoder. n = 0 is not used."""
        lam = self._log_snr
        drop = -torch.expm1(2 * (lam[1:] - lam[:-1])) * (2 * lam[:-1]).exp()
        return torch.cat([torch.full((1,), torch.nan, dtype=torch.float64), drop])

    @cached_property
    def log_ratio(self) -> Tensor:
        """log(β/β̃) at n = 2·log(σ(t_n)/σ(t_{n−1}))."""
        log_sigma = self.path.sigma(self.t).log()
        return torch.cat([torch.full((1,), torch.nan).double(), 2 * log_sigma.diff()])

    @cached_property
    def log_beta(self) -> Tensor:
        """log β at n."""
        lam = self._log_snr
        log_sigma = self.path.sigma(self.t[1:]).log()
        share = (-torch.expm1(2 * (lam[1:] - lam[:-1]))).log()
        return torch.cat([torch.full((1,), torch.nan).double(), 2 * log_sigma + share])

    @cached_property
    def decoder(self) -> tuple[float, float, float]:
        """(time of the decoder's noisy state, log variance at fraction 0, at fraction 1)."""
        if not self.decodes_first:
            wide = -2 * float(self._log_snr[0])
            return self.times[0], wide, wide
        scale = 2 * float(self.path.alpha(self.times[0]).log())
        high = float(self.log_beta[1]) - scale
        low = float(self.log_beta[2] - self.log_ratio[2]) - scale if self.count > 1 else high
        return self.times[1], low, high

    def kl(self, n: Tensor | int, error: Tensor, fraction: Tensor | float) -> Tensor:
        """Return KL(q(x_s|x_t, x0) ‖ p(x_s|x_t)) of each number, in nats, for steps n ≥ `first`.

        error: (x0 − x̂0)², (batch, *event); n: one step or (batch,). With g = log(β/β̃):
        ½·[v·g − 1 + e^(−v·g)·(1 + (SNR_s − SNR_t)·error)].
        """
        signal, gap = self._at(self.signal, n, error), self._at(self.log_ratio, n, error)
        gap = gap * fraction
        return 0.5 * (gap + torch.expm1(-gap) + (-gap).exp() * signal * error)

    def decoder_log_variance(self, fraction: Tensor | float) -> Tensor | float:
        """Return log Σ of p(x0|x_1) at a fraction."""
        _, low, high = self.decoder
        return fraction * high + (1 - fraction) * low

    def _at(self, table: Tensor, n: Tensor | int, like: Tensor) -> Tensor:
        if isinstance(n, int):
            return table[n].to(like)
        rows = table[n.cpu()].to(like)
        return rows.reshape(-1, *(1,) * (like.ndim - 1))


def check_variance(variance: str) -> str:
    """Return `variance`; raise InvalidArgument with the allowed names for another."""
    if variance not in VARIANCES:
        raise unknown("variance", variance, VARIANCES)
    return variance


def fraction_of(variance: str, prediction: Prediction) -> Tensor | float:
    """Return the fraction v of a Prediction's step; raises Unsupported if none was learned."""
    if variance != "learned":
        return {"posterior": 0.0, "transition": 1.0}[check_variance(variance)]
    if prediction.variance_fraction is None:
        raise Unsupported(
            "the variance 'learned' is requested, and this field predicts none; train with "
            "model.learned_variance=true, or use variance 'posterior' or 'transition'"
        )
    return prediction.variance_fraction


def need_independent(path: GaussianPath) -> None:
    """Raise Unsupported on a path whose ε depends on x0."""
    if not path.independent:
        raise Unsupported(
            f"a variational bound on {path}, where ε depends on x0: q(x_s|x_t, x0) is no Gaussian "
            "there; train with an independent coupling"
        )
