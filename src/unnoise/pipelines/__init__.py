"""Compositions of the other rooms, without new mathematics."""

from .held_out import held_out
from .likelihood import measure_likelihood
from .likelihood_report import LikelihoodReport
from .measure import measure

__all__ = ["LikelihoodReport", "held_out", "measure", "measure_likelihood"]
