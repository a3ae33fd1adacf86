"""Solvers: any field, any grid, from noise to data."""

from . import presets
from .euler_maruyama import EulerMaruyama
from .multistep import Multistep
from .registry import PRESETS, get, preset
from .runge_kutta import RungeKutta
from .sampling import GRIDS, Samples, grid_for, sample
from .solver import Noise, Solution, Solver, SolverFlowMap, Times

__all__ = [
    "GRIDS",
    "PRESETS",
    "EulerMaruyama",
    "Multistep",
    "Noise",
    "RungeKutta",
    "Samples",
    "Solution",
    "Solver",
    "SolverFlowMap",
    "Times",
    "get",
    "grid_for",
    "preset",
    "presets",
    "sample",
]
