"""Markov chain Monte Carlo: samplers of one density, from its score or its logarithm."""

from .langevin import kinetic_langevin, langevin, mala, score_at
from .stochastic_gradient import MinibatchScore, polynomial_decay

__all__ = [
    "MinibatchScore",
    "kinetic_langevin",
    "langevin",
    "mala",
    "polynomial_decay",
    "score_at",
]
