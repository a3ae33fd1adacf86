"""Objectives: what to regress, at which noise levels, with which weight."""

from .denoising import Denoising, baseline_error, draw_source
from .history import LossHistory
from .maximum_likelihood import MaximumLikelihood
from .objective import Batch, Loss, Objective
from .presets import denoising_score_matching, ncsn
from .score_matching import (
    FiniteDifferenceScoreMatching,
    ImplicitScoreMatching,
    ScoreMatching,
    SlicedScoreMatching,
)
from .times import (
    TIMES,
    Ladder,
    LogitNormal,
    LogNormal,
    OnChain,
    OneLevel,
    TimeDistribution,
    Uniform,
)
from .variational import Variational
from .weights import NAMES as WEIGHTS
from .weights import Weight, lens_factor, weight

__all__ = [
    "TIMES",
    "WEIGHTS",
    "Batch",
    "Denoising",
    "FiniteDifferenceScoreMatching",
    "ImplicitScoreMatching",
    "Ladder",
    "LogNormal",
    "LogitNormal",
    "Loss",
    "LossHistory",
    "MaximumLikelihood",
    "Objective",
    "OnChain",
    "OneLevel",
    "ScoreMatching",
    "SlicedScoreMatching",
    "TimeDistribution",
    "Uniform",
    "Variational",
    "Weight",
    "baseline_error",
    "denoising_score_matching",
    "draw_source",
    "lens_factor",
    "ncsn",
    "weight",
]
