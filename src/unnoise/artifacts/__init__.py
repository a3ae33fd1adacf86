"""What a trained model is on disk, and the object it becomes."""

from .model import Model, Samples, load, sample
from .precision import Precision, autocast, resolve
from .tuned import TunedFile, calibrate, write_tuned

__all__ = [
    "Model",
    "Precision",
    "Samples",
    "TunedFile",
    "autocast",
    "calibrate",
    "load",
    "resolve",
    "sample",
    "write_tuned",
]
