"""What a trained model is on disk, and the object it becomes."""

from .model import Model, Samples, load, sample
from .precision import Precision, autocast, resolve

__all__ = ["Model", "Precision", "Samples", "autocast", "load", "resolve", "sample"]
