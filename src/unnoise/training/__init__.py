"""Training: a loop users can own, and whole runs."""

from .checkpoints import Checkpoints
from .ema import Ema
from .guard import Fault, Guard
from .log import read_log
from .loop import Training, Update
from .muon import Muon
from .optimizers import Optimizers, build_optimizers, rate_at
from .run import Interrupted, train

__all__ = [
    "Checkpoints",
    "Ema",
    "Fault",
    "Guard",
    "Interrupted",
    "Muon",
    "Optimizers",
    "Training",
    "Update",
    "build_optimizers",
    "rate_at",
    "read_log",
    "train",
]
