"""The claims of the literature, each with the code that measures it again."""

from .claim import CHAPTERS, VERDICTS, Claim, Finding, Interval, Result
from .registry import CLAIMS, chosen, claim, known
from .report import json_of, markdown, write
from .runner import run

__all__ = [
    "CHAPTERS",
    "CLAIMS",
    "VERDICTS",
    "Claim",
    "Finding",
    "Interval",
    "Result",
    "chosen",
    "claim",
    "json_of",
    "known",
    "markdown",
    "run",
    "write",
]
