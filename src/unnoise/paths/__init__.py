"""Paths from data to noise: schedules, discrete chains, grids of times."""

from . import grids, peer_grids
from .chains import Chain, ChainPath, Posterior
from .coupled import Coupled
from .couplings import COUPLINGS, Coupling, Independent, Optimal, coupling
from .path import GaussianPath, Restricted, Shifted, as_time, expand
from .schedules import EDM, VE, Cosine, Flow, SubVP, Trigonometric, VPLinear
from .spacings import GRIDS, grid_for

__all__ = [
    "COUPLINGS",
    "EDM",
    "GRIDS",
    "VE",
    "Chain",
    "ChainPath",
    "Cosine",
    "Coupled",
    "Coupling",
    "Flow",
    "GaussianPath",
    "Independent",
    "Optimal",
    "Posterior",
    "Restricted",
    "Shifted",
    "SubVP",
    "Trigonometric",
    "VPLinear",
    "as_time",
    "coupling",
    "expand",
    "grid_for",
    "grids",
    "peer_grids",
]
