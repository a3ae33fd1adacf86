"""Solvers that are linear in their evaluations: coefficients, and one executor."""

from .churned import Churn, Churned
from .er_sde import ErSde
from .executor import Combination, LinearSolver, StepCoefficients
from .fixed import FixedMultistep, FixedWeights
from .multistep import Multistep, StochasticMultistep
from .runge_kutta import RungeKutta
from .sa_solver import SaSolver
from .sde import ConsistentAnnealing, EulerMaruyama, LearnedAncestral, ReverseDiffusion
from .single_step import SingleStep, Stage

__all__ = [
    "Churn",
    "Churned",
    "Combination",
    "ConsistentAnnealing",
    "ErSde",
    "EulerMaruyama",
    "FixedMultistep",
    "FixedWeights",
    "LearnedAncestral",
    "LinearSolver",
    "Multistep",
    "ReverseDiffusion",
    "RungeKutta",
    "SaSolver",
    "SingleStep",
    "Stage",
    "StepCoefficients",
    "StochasticMultistep",
]
