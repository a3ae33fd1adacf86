"""Score matching without a target: the Fisher divergence up to a constant, from the score alone.

By parts, ½E‖s − ∇log p‖² = E[½‖s‖² + tr ∂s/∂x] + ½E‖∇log p‖² (Hyvärinen 2005): the objectives
here are three ways to estimate the bracket. Denoising score matching, the fourth, is
`Denoising` with a weight on the score: see `objectives.presets`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import InvalidArgument, Unsupported, need_count, unknown
from ..fields import Field
from ..fields.derivatives import PROBES, Function, basis, curvatures, draw_probes
from ..paths import GaussianPath, Independent, expand
from ..randomness import Streams, moved
from .denoising import draw_source
from .dropout import Dropout, check_dropout, drop_some
from .objective import Batch, Loss, Objective
from .times import TimeDistribution, Uniform
from .weights import Weight, weight


@dataclass(frozen=True)
class ScoreMatching(Objective):
    """E_t E_{x_t} w·(½‖s‖² + tr ∂s/∂x), s the model's score at (x_t, t), for any lens of the model.

    Summed over the event, as in the papers: ½ the Fisher divergence from p_t plus a constant of
    the data. weight: see `objectives.weights`, as a factor on ‖error of the score‖²: "simple" is
    NCSN's λ(σ) = σ², "score" is 1. times: distribution of noise levels; `OneLevel(0)` is the data
    itself, for models that predict score and weight "score". condition_dropout: as for `Denoising`.

    Raises InvalidArgument for a share outside [0, 1]; Unsupported for the likelihood weight with
    times that are not uniform, and if the model's lens does not determine the score.
    """

    derivatives: ClassVar[int] = 2  # the trace is one

    weight: Weight = field(default_factory=lambda: weight("simple"))
    times: TimeDistribution = field(default_factory=Uniform)
    condition_dropout: Dropout = 0.0

    def __post_init__(self) -> None:
        check_dropout(self.condition_dropout)
        if self.weight.name == "likelihood" and not isinstance(self.times, Uniform):
            raise Unsupported(
                "the likelihood weight is a bound on log p under uniform times only; use "
                "times 'uniform' (stratified or not)"
            )

    def __call__(self, model: Field, batch: Batch, noise: Streams) -> Loss:
        x0, path = batch.x0, model.path
        t = moved(self.times.sample(path, noise.purpose("times"), *batch.place), x0.device)
        eps = draw_source(batch, path, Independent(), noise)
        condition = drop_some(batch.condition, self.condition_dropout, noise)

        def score(x: Tensor) -> Tensor:
            value = model(x, t, condition).score
            return value.to(torch.promote_types(value.dtype, torch.float32))

        risk = self.risk(
            score, path.diffuse(x0, eps, t), path.sigma(t), noise.purpose("projections")
        )
        per_sample = on_score(self.weight, path, t).to(risk.dtype) * risk
        return Loss(per_sample.mean(), per_sample.detach(), t)

    def held_out(self) -> ScoreMatching:
        """Return this loss for held-out data: no condition is dropped."""
        return replace(self, condition_dropout=0.0)

    @abstractmethod
    def risk(self, score: Function, x: Tensor, sigma: Tensor, noise: Streams) -> Tensor:
        """Return ½‖s‖² + tr ∂s/∂x of each sample, or an estimate of it, (batch,).

        x: (batch, *event); sigma: the noise in each, (batch,); noise: for projections.
        """


@dataclass(frozen=True)
class ImplicitScoreMatching(ScoreMatching):
    """½‖s‖² + tr ∂s/∂x with the exact trace (Hyvärinen 2005, eq. 4).

    Costs as many derivatives as the event has numbers, in time and in memory: for low dimensions.
    """

    def risk(self, score: Function, x: Tensor, sigma: Tensor, noise: Streams) -> Tensor:
        value, parts = curvatures(score, x, basis(x))
        return 0.5 * value.square().flatten(1).sum(1) + parts.sum(0)


@dataclass(frozen=True)
class Projected(ScoreMatching):
    """Score matching along random directions v with E[vvᵀ] = I, drawn for each sample.

    projections: number of directions, averaged; distribution: "rademacher" or "gaussian". Raises
    InvalidArgument for other values.
    """

    projections: int = 1
    distribution: str = "rademacher"

    def __post_init__(self) -> None:
        super().__post_init__()
        need_count("projections", self.projections)
        if self.distribution not in PROBES:
            raise unknown("distribution of projections", self.distribution, PROBES)

    def draw(self, x: Tensor, noise: Streams) -> Tensor:
        """Draw the directions, (projections, batch, *event)."""
        drawn = draw_probes(noise, self.projections, tuple(x.shape[1:]), self.distribution)
        return moved(drawn, x.device).to(x.dtype)


@dataclass(frozen=True)
class SlicedScoreMatching(Projected):
    """vᵀ·∂s/∂x·v + ½‖s‖², or with ½(vᵀs)² instead (Song et al. 2019b, eqs. 8 and 7).

    variance_reduced: the first form, whose square needs no projection.
    """

    variance_reduced: bool = True

    def risk(self, score: Function, x: Tensor, sigma: Tensor, noise: Streams) -> Tensor:
        directions = self.draw(x, noise)
        value, parts = curvatures(score, x, directions)
        if self.variance_reduced:
            return 0.5 * value.square().flatten(1).sum(1) + parts.mean(0)
        along = (value * directions).flatten(2).sum(2)
        return (0.5 * along.square() + parts).mean(0)


@dataclass(frozen=True)
class FiniteDifferenceScoreMatching(Projected):
    """vᵀ(s⁺ − s⁻)/2h + ⅛‖s⁺ + s⁻‖², s± = s(x ± h·v): two evaluations and no derivative of s.

    Off the sliced objective by O(h²) (Pang et al. 2020, the variance-reduced form for scores;
    there v is on a sphere of radius h). step: h in units of σ(t), the scale on which the score
    bends, or of x itself where σ(t) = 0. Raises InvalidArgument unless it is positive.
    """

    derivatives: ClassVar[int] = 1

    step: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (math.isfinite(self.step) and self.step > 0):
            raise InvalidArgument(f"step is {self.step!r}; give a positive number, such as 0.1")

    def risk(self, score: Function, x: Tensor, sigma: Tensor, noise: Streams) -> Tensor:
        h = self.step * torch.where(sigma > 0, sigma, 1.0)
        reach = expand(h, x)
        total = torch.zeros((), dtype=x.dtype, device=x.device)
        for direction in self.draw(x, noise):
            ahead, behind = score(x + reach * direction), score(x - reach * direction)
            slope = ((ahead - behind) * direction).flatten(1).sum(1) / (2 * h).to(ahead.dtype)
            total = total + slope + 0.125 * (ahead + behind).square().flatten(1).sum(1)
        return total / self.projections


def on_score(rule: Weight, path: GaussianPath, t: Tensor) -> Tensor:
    """Return a weight as the factor on ‖error of the score‖², (batch,): finite at α = 0 too."""
    if rule.base == "score":
        return rule.on("score", path, t)
    return rule.on("eps", path, t) * path.sigma(t) ** 2
