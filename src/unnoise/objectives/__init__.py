"""Objectives: what to regress, at which noise levels, with which weight."""

from .denoising import Batch, Denoising, Loss, Objective, condition_from_labels
from .times import TIMES, LogitNormal, LogNormal, OnChain, Times, Uniform
from .weights import NAMES as WEIGHTS
from .weights import Weight, weight

__all__ = [
    "TIMES",
    "WEIGHTS",
    "Batch",
    "Denoising",
    "LogNormal",
    "LogitNormal",
    "Loss",
    "Objective",
    "OnChain",
    "Times",
    "Uniform",
    "Weight",
    "condition_from_labels",
    "weight",
]
