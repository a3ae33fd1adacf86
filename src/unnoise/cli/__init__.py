"""The command line: `unnoise VERB …`, one file a verb."""

from .main import main

__all__ = ["main"]
