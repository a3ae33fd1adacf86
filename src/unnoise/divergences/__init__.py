"""Distances between distributions: closed form, quadrature, Monte Carlo with its error."""

from .divergence import divergence, integrated, sampled
from .fisher import fisher, score_of
from .fits import fit_normal
from .generators import GENERATORS, Generator, alpha, from_f, generator
from .normal import Normal, between_normals
from .quadrature import integrate
from .value import Density, Estimate
from .wasserstein import sliced, wasserstein, wasserstein_1d, wasserstein_gaussian

__all__ = [
    "GENERATORS",
    "Density",
    "Estimate",
    "Generator",
    "Normal",
    "alpha",
    "between_normals",
    "divergence",
    "fisher",
    "fit_normal",
    "from_f",
    "generator",
    "integrate",
    "integrated",
    "sampled",
    "score_of",
    "sliced",
    "wasserstein",
    "wasserstein_1d",
    "wasserstein_gaussian",
]
