"""Transport: reflow, straightness, interpolants between two data sets."""

from .exact import GaussianPairs
from .interpolant import LATENTS, Bridge, BridgeField, Interpolant
from .matching import InterpolantMatching, Translator
from .reflow import Pairs, reflow
from .straightness import Straightness, straightness
from .translate import diffuse, translate

__all__ = [
    "LATENTS",
    "Bridge",
    "BridgeField",
    "GaussianPairs",
    "Interpolant",
    "InterpolantMatching",
    "Pairs",
    "Straightness",
    "Translator",
    "diffuse",
    "reflow",
    "straightness",
    "translate",
]
