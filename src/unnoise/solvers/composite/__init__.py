"""Solvers that combine others' steps: predictor–corrector, Restart, parallel steps."""

from .parallel import Parallel, ParallelSolution
from .predictor_corrector import PredictorCorrector
from .restart import Interval, Restart

__all__ = ["Interval", "Parallel", "ParallelSolution", "PredictorCorrector", "Restart"]
