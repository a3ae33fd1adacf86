"""diffusers, in both directions; needs diffusers."""

from .convention import Convention
from .field import DiffusersField
from .folder import UnnoiseUNet, convention_of, load, save
from .scheduler import UnnoiseScheduler

__all__ = [
    "Convention",
    "DiffusersField",
    "UnnoiseScheduler",
    "UnnoiseUNet",
    "convention_of",
    "load",
    "save",
]
