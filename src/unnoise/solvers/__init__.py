"""Solvers: any field, any grid, from noise to data."""

from . import names, presets
from .adaptive import Adaptive, AdaptiveSolution
from .auto import Auto
from .calibration import Calibration, tune
from .consistent_annealing import ConsistentAnnealing
from .dpm_adaptive import DPMAdaptive
from .dpm_solver_v3 import DpmSolverV3
from .er_sde import ErSde
from .euler_maruyama import EulerMaruyama
from .langevin import kinetic_langevin, langevin, mala, score_at
from .learned import LearnedAncestral
from .model_statistics import EMS, empirical_statistics
from .multistep import Multistep
from .ode import integrate
from .parallel import Parallel, ParallelSolution
from .predictor_corrector import PredictorCorrector
from .registry import PRESETS, get, preset
from .restart import Interval, Restart
from .reverse_diffusion import ReverseDiffusion
from .runge_kutta import RungeKutta
from .sa_solver import SaSolver
from .sampling import GRIDS, Samples, grid_for, own_grid, sample
from .single_step import Churn, SingleStep, Stage
from .solver import Noise, Solution, Solver, SolverFlowMap, Times
from .stochastic_gradient import MinibatchScore, polynomial_decay
from .tuned import Tuned

__all__ = [
    "EMS",
    "GRIDS",
    "PRESETS",
    "Adaptive",
    "AdaptiveSolution",
    "Auto",
    "Calibration",
    "Churn",
    "ConsistentAnnealing",
    "DPMAdaptive",
    "DpmSolverV3",
    "ErSde",
    "EulerMaruyama",
    "Interval",
    "LearnedAncestral",
    "MinibatchScore",
    "Multistep",
    "Noise",
    "Parallel",
    "ParallelSolution",
    "PredictorCorrector",
    "Restart",
    "ReverseDiffusion",
    "RungeKutta",
    "SaSolver",
    "Samples",
    "SingleStep",
    "Solution",
    "Solver",
    "SolverFlowMap",
    "Stage",
    "Times",
    "Tuned",
    "empirical_statistics",
    "get",
    "grid_for",
    "integrate",
    "kinetic_langevin",
    "langevin",
    "mala",
    "names",
    "own_grid",
    "polynomial_decay",
    "preset",
    "presets",
    "sample",
    "score_at",
    "tune",
]
