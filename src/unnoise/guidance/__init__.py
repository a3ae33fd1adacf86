"""Guidance: a function from field to field; guidances nest."""

from .classifier_free import ClassifierFree, classifier_free

__all__ = ["ClassifierFree", "classifier_free"]
