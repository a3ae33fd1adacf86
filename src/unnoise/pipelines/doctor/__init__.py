"""The doctor: every likely reason for bad samples, measured on a run."""

from .examine import doctor
from .finding import CHECKS, Finding, Report

__all__ = ["CHECKS", "Finding", "Report", "doctor"]
