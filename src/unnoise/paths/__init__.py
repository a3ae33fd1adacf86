"""Paths from data to noise: schedules, discrete chains, grids of times."""

from . import grids
from .chains import Chain, ChainPath, Posterior
from .path import GaussianPath, Restricted, Shifted, as_time, expand
from .schedules import EDM, VE, Cosine, Flow, SubVP, Trigonometric, VPLinear

__all__ = [
    "EDM",
    "VE",
    "Chain",
    "ChainPath",
    "Cosine",
    "Flow",
    "GaussianPath",
    "Posterior",
    "Restricted",
    "Shifted",
    "SubVP",
    "Trigonometric",
    "VPLinear",
    "as_time",
    "expand",
    "grids",
]
