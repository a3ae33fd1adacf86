"""Solvers with error control, and the integrators of ordinary differential equations."""

from .dpm import DPMAdaptive
from .ode import integrate
from .runge_kutta import Adaptive, AdaptiveSolution

__all__ = ["Adaptive", "AdaptiveSolution", "DPMAdaptive", "integrate"]
