"""Guidance: a function from field to field; guidances nest."""

from .classifier_free import ClassifierFree, classifier_free
from .thresholds import Clip, Shaped, Threshold, X0Rule, shaped

__all__ = ["ClassifierFree", "Clip", "Shaped", "Threshold", "X0Rule", "classifier_free", "shaped"]
