"""Solvers: any field, any grid, from noise to data."""

from . import names, presets
from .adaptive import Adaptive, AdaptiveSolution, DPMAdaptive, integrate
from .composite import Interval, Parallel, ParallelSolution, PredictorCorrector, Restart
from .fitted import EMS, Auto, Calibration, DpmSolverV3, Tuned, empirical_statistics, tune
from .linear import (
    Churn,
    Churned,
    ConsistentAnnealing,
    ErSde,
    EulerMaruyama,
    LearnedAncestral,
    Multistep,
    ReverseDiffusion,
    RungeKutta,
    SaSolver,
    SingleStep,
    Stage,
    StochasticMultistep,
)
from .registry import PRESETS, get, preset
from .sampling import GRIDS, Samples, grid_for, own_grid, sample
from .solver import Noise, Solution, Solver, SolverFlowMap, TimeGrid

__all__ = [
    "EMS",
    "GRIDS",
    "PRESETS",
    "Adaptive",
    "AdaptiveSolution",
    "Auto",
    "Calibration",
    "Churn",
    "Churned",
    "ConsistentAnnealing",
    "DPMAdaptive",
    "DpmSolverV3",
    "ErSde",
    "EulerMaruyama",
    "Interval",
    "LearnedAncestral",
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
    "StochasticMultistep",
    "TimeGrid",
    "Tuned",
    "empirical_statistics",
    "get",
    "grid_for",
    "integrate",
    "names",
    "own_grid",
    "preset",
    "presets",
    "sample",
    "tune",
]
