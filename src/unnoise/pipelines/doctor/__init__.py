"""Why a run gives only noise: every likely reason, measured."""

from .examine import doctor
from .finding import CHECKS, Finding, Report

__all__ = ["CHECKS", "Finding", "Report", "doctor"]
