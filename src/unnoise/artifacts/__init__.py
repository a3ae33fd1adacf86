"""What a trained model is on disk, and the object it becomes."""

from .labels import InTurn, Labels
from .model import Model, load, sample
from .precision import Precision, autocast, resolve
from .stream import Samples, Stream
from .tuned import TunedFile, calibrate, write_tuned

__all__ = [
    "InTurn",
    "Labels",
    "Model",
    "Precision",
    "Samples",
    "Stream",
    "TunedFile",
    "autocast",
    "calibrate",
    "load",
    "resolve",
    "sample",
    "write_tuned",
]
