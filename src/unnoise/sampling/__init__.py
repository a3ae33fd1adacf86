"""Drawing samples of a trained model: what a call requests, block by block."""

from .classes import InTurn, Labels
from .facts import ModelFacts
from .inference_copy import InferenceCopy
from .plan import Plan, make_plan
from .precision import Precision, autocast, find_device, resolve
from .stream import Samples, Stream
from .tuned_solver import TunedSolver
from .tuning import calibrate

__all__ = [
    "InTurn",
    "InferenceCopy",
    "Labels",
    "ModelFacts",
    "Plan",
    "Precision",
    "Samples",
    "Stream",
    "TunedSolver",
    "autocast",
    "calibrate",
    "find_device",
    "make_plan",
    "resolve",
]
