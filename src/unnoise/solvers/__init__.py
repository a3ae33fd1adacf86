"""Solvers: any field, any grid, from noise to data."""

from . import names, presets
from .adaptive import Adaptive, AdaptiveSolution, DPMAdaptive, integrate
from .composite import Interval, Parallel, ParallelSolution, PredictorCorrector, Restart
from .fitted import EMS, Auto, Calibration, DpmSolverV3, Tuned, empirical_statistics, tune
from .flow_map import SolverFlowMap
from .linear import (
    DDIM,
    Churn,
    Churned,
    ClippedDDIM,
    ConsistentAnnealing,
    ErSde,
    EulerMaruyama,
    Multistep,
    ReverseDiffusion,
    RungeKutta,
    SaSolver,
    SingleStep,
    Stage,
    StochasticMultistep,
)
from .registry import PRESETS, get, preset
from .sampling import Samples, own_grid, sample
from .solver import Noise, Solution, Solver, TimeGrid

__all__ = [
    "DDIM",
    "EMS",
    "PRESETS",
    "Adaptive",
    "AdaptiveSolution",
    "Auto",
    "Calibration",
    "Churn",
    "Churned",
    "ClippedDDIM",
    "ConsistentAnnealing",
    "DPMAdaptive",
    "DpmSolverV3",
    "ErSde",
    "EulerMaruyama",
    "Interval",
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
    "integrate",
    "names",
    "own_grid",
    "preset",
    "presets",
    "sample",
    "tune",
]
