"""Guidance: a function from field to field; guidances nest."""

from .classifier_free import ClassifierFree, classifier_free
from .composed import Composed, composed

__all__ = ["ClassifierFree", "Composed", "classifier_free", "composed"]
