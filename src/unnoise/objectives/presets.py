"""Objectives named after papers: settings of the general ones."""

from __future__ import annotations

from .denoising import Denoising
from .dropout import Dropout
from .times import Ladder, OneLevel
from .weights import weight


def ncsn(
    levels: int | None = 10,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    condition_dropout: Dropout = 0.0,
) -> Denoising:
    """Return the objective of a noise-conditional score network (Song & Ermon 2019, eq. 6).

    The mean over a geometric ladder of σ of λ(σ)·‖s + ε/σ‖², λ(σ) = σ²: on a path with α = 1 the
    plain squared error of ε. Averaged over the event; the paper has half of the sum. levels None
    is the continuous ladder of the VE SDE (Song et al. 2021).
    """
    times = Ladder(levels=levels, sigma_min=sigma_min, sigma_max=sigma_max)
    return Denoising(weight("simple"), times, condition_dropout)


def denoising_score_matching(sigma: float, condition_dropout: Dropout = 0.0) -> Denoising:
    """Return the objective ‖s + ε/σ‖² at the one noise level σ/α = `sigma` (Vincent 2011, eq. 9).

    Its minimum is the score of the data with that noise. Averaged over the event; the paper has
    half of the sum.
    """
    return Denoising(weight("score"), OneLevel(sigma=sigma), condition_dropout)
