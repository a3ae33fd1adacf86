"""Fields: predictions at (x_t, t), readable in any lens."""

from . import dynamics
from .condition import Condition
from .denoiser import Denoiser
from .energy import Energy
from .exact import FiniteData, Gaussian, Mixture
from .field import Along, Field, Given, Prediction, mix
from .flow_map import FlowMap
from .lenses import LENSES, conversion, convert, determinant, lens_row, refusal, residual

__all__ = [
    "LENSES",
    "Along",
    "Condition",
    "Denoiser",
    "Energy",
    "Field",
    "FiniteData",
    "FlowMap",
    "Gaussian",
    "Given",
    "Mixture",
    "Prediction",
    "conversion",
    "convert",
    "determinant",
    "dynamics",
    "lens_row",
    "mix",
    "refusal",
    "residual",
]
