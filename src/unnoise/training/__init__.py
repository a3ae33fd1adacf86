"""Training: a loop users can own, and whole runs."""

from .checkpoints import Checkpoints
from .ema import Ema
from .guard import Fault, Guard
from .log import read_log
from .loop import Training, Update
from .muon import Muon
from .optimizers import Optimizers, build_optimizers, rate_at
from .player import Player
from .run import Interrupted, train
from .sizing import Fit, fit_to_time

__all__ = [
    "Checkpoints",
    "Ema",
    "Fault",
    "Fit",
    "Guard",
    "Interrupted",
    "Muon",
    "Optimizers",
    "Player",
    "Training",
    "Update",
    "build_optimizers",
    "fit_to_time",
    "rate_at",
    "read_log",
    "train",
]
