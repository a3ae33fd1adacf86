"""Compositions of the other rooms, without new mathematics."""

from .held_out import open_held_out
from .likelihood import measure_likelihood
from .likelihood_report import LikelihoodReport
from .measure import measure
from .measure_samples import measure_samples
from .noise_levels import loss_by_level
from .sample_many import JobReport, sample_many

__all__ = [
    "JobReport",
    "LikelihoodReport",
    "loss_by_level",
    "measure",
    "measure_likelihood",
    "measure_samples",
    "open_held_out",
    "sample_many",
]
