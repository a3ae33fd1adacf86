"""The facts about a trained model that sampling needs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ..data import DataSpec
from ..data.dataset import MAX_BYTES
from ..errors import InvalidArgument, need_count
from ..fields import Denoiser
from ..recipes import SampleConfig
from .inference_copy import InferenceCopy
from .tuned_solver import TunedSolver


@dataclass(frozen=True)
class ModelFacts:
    """A trained model as plain facts, so that sampling imports nothing of artifacts.

    denoiser: with its float32 weights; inference: its copy, which draws samples; spec: the data;
    sample: the recipe's section; classes: their number, 0 where the model is unconditional; null:
    whether the null condition was trained; tuned: tuned solvers by their number of steps.
    """

    denoiser: Denoiser
    inference: InferenceCopy
    spec: DataSpec
    sample: SampleConfig
    classes: int
    null: bool
    tuned: Mapping[int, TunedSolver]

    def check_affordable(self, n: int) -> None:
        """Raise InvalidArgument unless n samples can be held in memory."""
        size = 4 * math.prod(self.spec.shape)
        if need_count("n", n) * size > MAX_BYTES:
            raise InvalidArgument(
                f"n is {n}, {n * size / 2**30:.0f} GiB of samples at once; draw at most "
                f"{MAX_BYTES // size} and go on with first={MAX_BYTES // size}, or stream them "
                "(model.stream; `unnoise sample --out FOLDER` or x.npy)"
            )
