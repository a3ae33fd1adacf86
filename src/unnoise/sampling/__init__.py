"""Drawing samples of a trained model: what a call requests, block by block."""

from .conditions import CycleClasses, Labels, SampleConditions, conditions_for
from .facts import ModelFacts
from .inference_copy import InferenceCopy
from .plan import Plan, guide, make_plan
from .precision import Precision, autocast, find_device, resolve
from .request import SampleRequest
from .stream import SampleReport, Stream, open_stream
from .tuned_solver import TunedSolver
from .tuning import calibrate

__all__ = [
    "CycleClasses",
    "InferenceCopy",
    "Labels",
    "ModelFacts",
    "Plan",
    "Precision",
    "SampleConditions",
    "SampleReport",
    "SampleRequest",
    "Stream",
    "TunedSolver",
    "autocast",
    "calibrate",
    "conditions_for",
    "find_device",
    "guide",
    "make_plan",
    "open_stream",
    "resolve",
]
