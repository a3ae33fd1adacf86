"""Solvers whose coefficients were fitted: to many fields (`Auto`), or to one (`tune`, DPM-v3)."""

from .auto import Auto
from .calibration import Calibration, tune
from .dpm_solver_v3 import DpmSolverV3
from .model_statistics import EMS, empirical_statistics
from .tuned import Tuned

__all__ = [
    "EMS",
    "Auto",
    "Calibration",
    "DpmSolverV3",
    "Tuned",
    "empirical_statistics",
    "tune",
]
