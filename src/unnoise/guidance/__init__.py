"""Guidance: a function from field to field; guidances nest."""

from .classifier_free import ClassifierFree, classifier_free
from .composed import Composed, composed
from .thresholds import Clip, Shaped, Threshold, X0Rule, shaped

__all__ = [
    "ClassifierFree",
    "Clip",
    "Composed",
    "Shaped",
    "Threshold",
    "X0Rule",
    "classifier_free",
    "composed",
    "shaped",
]
