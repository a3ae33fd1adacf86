"""Solvers that are linear in their evaluations: coefficients, and one executor."""

from .churned import Churn, Churned
from .clipped import ClippedDDIM
from .er_sde import ErSde
from .executor import Combination, LinearSolver, StepCoefficients
from .fixed import FixedMultistep, FixedWeights
from .multistep import Multistep, StochasticMultistep
from .one_step import DDIM, OneStep
from .runge_kutta import RungeKutta
from .sa_solver import SaSolver
from .sde import ConsistentAnnealing, EulerMaruyama, ReverseDiffusion
from .single_step import SingleStep, Stage

__all__ = [
    "DDIM",
    "Churn",
    "Churned",
    "ClippedDDIM",
    "Combination",
    "ConsistentAnnealing",
    "ErSde",
    "EulerMaruyama",
    "FixedMultistep",
    "FixedWeights",
    "LinearSolver",
    "Multistep",
    "OneStep",
    "ReverseDiffusion",
    "RungeKutta",
    "SaSolver",
    "SingleStep",
    "Stage",
    "StepCoefficients",
    "StochasticMultistep",
]
